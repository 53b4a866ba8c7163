"""One row: its tokens, both sides of a pair, or its text; below it what there is to say about a token."""

from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from engine.clean import clean
from minimind_tui.core.look import Look
from minimind_tui.core.sheets import LabelledSheet
from minimind_tui.widgets.data.group_view import GroupView
from minimind_tui.widgets.data.switches import Switches
from minimind_tui.widgets.data.text_view import TextView
from minimind_tui.widgets.pair_view import PairView
from minimind_tui.widgets.states import MUTED
from minimind_tui.widgets.token_view import TokenView

_NOTHING = "no row to look at"
_NO_FILE = """\
o opens a file
r opens one that was open before, or a file of the starter world"""
_CUT = "were cut to fit"
"""The end of a problem that the counts tell already."""


class RowPane(Vertical):
    """The row under the cursor of the list.

    Attributes:
        look: What is shown; None while there is none.
        sample: Which of the row's samples is shown.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("full_stop", "walk(1)", "Next sample", key_display=".", show=False,
                tooltip="Next sample of the row, answer of its group, or packed row", id="data.next_sample"),
        Binding("comma", "walk(-1)", "Sample before", key_display=",", show=False,
                tooltip="Sample before of the row, answer of its group, or packed row", id="data.sample_before"),
    ]  # fmt: skip

    DEFAULT_CSS = """
    RowPane > #no-file {
        height: 1fr; padding: 0 2; content-align: center middle; text-align: center; color: $foreground 60%;
    }
    """

    @dataclass
    class Turned(Message):
        """Another packed row is wanted."""

        step: int

    @dataclass
    class Beside(Message):
        """Another answer of the row's group is wanted."""

        row: int

    class Left(Message):
        """The cursor goes back to the list."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.look: Look | None = None
        self.sample = 0

    def compose(self) -> ComposeResult:
        yield Static("", id="row-head")
        yield Static("", id="row-problems")
        yield GroupView(id="group")
        yield TokenView(empty=_NOTHING, id="tokens")
        yield PairView(id="pair")
        yield TextView(id="plain")
        yield Static(_NO_FILE, id="no-file", markup=False)
        yield Static("", id="token-detail")
        yield Static("", id="token-legend")
        yield Switches("", id="switches")

    def on_mount(self) -> None:
        self.query_one("#row-problems").display = self.query_one("#group").display = False
        self._show_only(self.query_one("#no-file"))

    @property
    def view(self) -> Widget:
        """What takes the focus."""
        pair = self.query_one(PairView)
        if pair.display:
            return pair.current
        plain = self.query_one("#plain")
        return plain if plain.display else self.query_one("#tokens")

    @property
    def labelled(self) -> LabelledSheet | None:
        """The sample that is shown, where it is one of several or the only one."""
        sheets = self.look.sheets if self.look else ()
        return sheets[min(self.sample, len(sheets) - 1)] if sheets else None

    def show(self, look: Look | None) -> None:
        """Shows a row; the token under the cursor stays where the row is the same and as long."""
        before = self.look
        same = before is not None and look is not None and (before.row, before.mode) == (look.row, look.mode)
        if not same:
            self.sample = 0
        self.look = look
        self._draw(keep=same)

    def wait(self, said: str) -> None:
        """Says what has to be done before the row can be shown."""
        self.query_one("#row-head", Static).update(Content.styled(said, "$accent"), layout=False)

    def _draw(self, *, keep: bool = False) -> None:
        look, labelled = self.look, self.labelled
        tokens, pair, plain = self.query_one("#tokens", TokenView), self.query_one(PairView), self.query_one(TextView)
        focused = self.has_focus_within
        if look is not None and look.pair is not None:
            self._show_only(pair)
            pair.show(look.pair, notes=_two(look.notes), margin=look.margin)
        elif labelled is not None or look is None:
            self._show_only(tokens)
            sheet = labelled.sheet if labelled else None
            begin = labelled.begin if labelled else 0
            at = tokens.cursor if keep and tokens.sheet and sheet and len(tokens.sheet) == len(sheet) else begin
            tokens.show(sheet, cursor=at)
            title = f"{labelled.label} · {labelled.summary}" if labelled else ""
            tokens.border_title = Content(clean(title, newlines=False))
        else:
            self._show_only(plain)
            plain.show(look.text)
            plain.border_title = look.title
        if focused and not self.view.has_focus:
            self.view.focus()
        self.query_one("#row-head", Static).update(self._head(), layout=False)
        self.query_one(GroupView).show(look.group if look is not None else (), look.row if look is not None else -1)
        problems, said = self.query_one("#row-problems", Static), self._problems()
        if said != problems.content:
            problems.display = bool(said)
            problems.update(said)
        self._say_token()

    def _show_only(self, view: Widget) -> None:
        for name in ("#tokens", "#pair", "#plain", "#no-file"):
            self.query_one(name).display = self.query_one(name) is view
        self.set_class(view.id == "plain", "-plain")

    def _head(self) -> Content:
        """Which row it is, and what a checkpoint thinks of it."""
        look = self.look
        if look is None:
            return Content("")
        parts = [f"line {look.line:,}" if look.row < 0 else f"row {look.row:,} · line {look.line:,}"]
        if look.pair is None and len(look.notes) > self.sample:
            parts.append(look.notes[self.sample])
        return Content(" · ".join(parts))

    def _problems(self) -> Content:
        """A line a problem."""
        look = self.look
        if look is None:
            return Content("")
        shown = dict.fromkeys(look.problems)
        for each in look.labelled:
            shown |= dict.fromkeys(said for said in each.problems if not said.endswith(_CUT))
        lines = [Content(f"! {clean(problem, newlines=False)}") for problem in shown]
        return Content("\n").join(lines)

    @on(TokenView.Moved)
    def _say_token(self) -> None:
        """What there is to say about the token under the cursor."""
        pair, tokens = self.query_one(PairView), self.query_one("#tokens", TokenView)
        shown = pair if pair.display else tokens
        self.query_one("#token-detail", Static).update(_paragraph(shown.detail()), layout=False)
        self.query_one("#token-legend", Static).update(shown.legend(), layout=False)

    @on(TokenView.Edge)
    def _at_edge(self, event: TokenView.Edge) -> None:
        if event.step < 0 and event.view.id in ("tokens", "chosen"):
            self.post_message(self.Left())

    def action_walk(self, step: int) -> None:
        """Another sample of the row, answer of its group, or packed row."""
        if self.look is None:
            return
        if self.look.mode == "packed":
            self.post_message(self.Turned(step))
        elif self.look.group:
            rows = [each.row for each in self.look.group]
            self.post_message(self.Beside(rows[(rows.index(self.look.row) + step) % len(rows)]))
        elif 0 <= self.sample + step < len(self.look.sheets):
            self.sample += step
            self._draw()


def _two(notes: tuple[str, ...]) -> tuple[str, str]:
    return (notes[0], notes[1]) if len(notes) == 2 else ("", "")


def _paragraph(lines: list[str]) -> Content:
    """The reason first, then the facts in one flow: where there is little room, the reason stays in sight."""
    if not lines:
        return Content("")
    return Content.assemble((lines[-1], "bold"), "\n", (" · ".join(lines[:-1]), MUTED))
