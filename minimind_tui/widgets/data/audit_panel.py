"""What a file turns out to be: its figures, the lengths of its samples, and its problems."""

from dataclasses import dataclass
from typing import Any, ClassVar

from rich.segment import Segment
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import DataTable, Static

from engine.clean import clean
from minimind_tui.core.bars import draw_bars
from minimind_tui.core.encoded import Problem
from minimind_tui.core.figures import number, share
from minimind_tui.core.plot import AXIS
from minimind_tui.widgets.data.text_view import TextView
from minimind_tui.widgets.states import MUTED
from minimind_tui.widgets.vim import VimScroll, VimTable

_NO_PROBLEMS = "No problems were found."


class Histogram(Widget):
    """How long the samples are; drawn again only when the size, the theme or the data change."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"histogram--axis", "histogram--bar"}

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._bins: list[dict[str, int]] = []
        self._strips: list[Strip] = []
        self._drawn_for: tuple[object, ...] = ()

    def show(self, bins: list[dict[str, int]]) -> None:
        """Shows an audit's `length_histogram`."""
        self._bins, self._drawn_for = bins, ()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        key = self.content_size, self.app.theme
        if key != self._drawn_for:
            self._strips, self._drawn_for = self._draw(), key
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.content_size.width, self.rich_style)

    def _draw(self) -> list[Strip]:
        width, height = self.content_size
        counts = [entry["samples"] for entry in self._bins]
        ends = (self._bins[0]["from"], self._bins[-1]["to"] + 1) if self._bins else (0, 1)
        base = self.rich_style
        axis = base + self.get_component_rich_style("histogram--axis", partial=True)
        bar = base + self.get_component_rich_style("histogram--bar", partial=True)
        rows = draw_bars(counts, *ends, width, height)
        return [Strip([Segment(text, axis if role == AXIS else bar) for text, role in row], width) for row in rows]


class ProblemTable(VimTable):
    """A line a problem; enter lists its rows."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "List rows", show=False, id="problems.list"),
    ]
    HELP = "Every kind of problem with the number of its rows; enter lists them, the first under the cursor."


class AuditPanel(Container):
    """The audit of a file, as `engine data audit` gives it."""

    @dataclass
    class Jump(Message):
        """The rows of a problem are to be listed."""

        problem: Problem

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._problems: list[Problem] = []

    def compose(self) -> ComposeResult:
        with Horizontal(id="audit-top"):
            with VimScroll(id="figures"):
                yield Static("", id="figures-text")
            yield Histogram(id="histogram")
        with Vertical(id="audit-bottom"):
            yield ProblemTable(id="problems")
            yield TextView(id="no-problems")

    def on_mount(self) -> None:
        self.query_one("#figures").border_title = "Audit"
        self.query_one("#histogram").border_title = "Lengths of samples, in tokens"
        self.query_one("#problems").border_title = "Problems"
        self.query_one("#problems").border_subtitle = "enter lists the rows"
        self.query_one(ProblemTable).cursor_type = "row"
        self.query_one("#no-problems").border_title = "Problems"
        self.query_one("#no-problems").display = False

    @property
    def view(self) -> Widget:
        """What takes the focus."""
        table = self.query_one(ProblemTable)
        return table if table.display else self.query_one(TextView)

    def wait(self, said: str) -> None:
        """Says how far the audit is."""
        self.query_one("#figures-text", Static).update(Content(said))

    def show(self, found: dict[str, Any], problems: list[Problem], where: str) -> None:
        """Shows an audit and its problems; `where` says by which tokenizer and stage, uncleaned."""
        self._problems = problems
        self.query_one("#figures-text", Static).update(_figures(found))
        self.query_one("#figures").border_subtitle = Content(clean(where, newlines=False))
        self.query_one(Histogram).show(found["length_histogram"])
        table, nothing = self.query_one(ProblemTable), self.query_one(TextView)
        table.display, nothing.display = bool(problems), not problems
        nothing.show(_NO_PROBLEMS)
        table.fill(("rows", "problem"), [_row(problem) for problem in problems])

    @on(DataTable.RowSelected)
    def _selected(self, event: DataTable.RowSelected) -> None:
        event.stop()
        self.post_message(self.Jump(self._problems[event.cursor_row]))


def _row(problem: Problem) -> list[Text]:
    return [Text(f"{problem.count:,}"), Text(clean(problem.title, newlines=False))]


def _figures(found: dict[str, Any]) -> Content:
    """The figures in a column: what it is, how much of it is learnt from, what is wasted."""
    tokens = found["tokens"]
    lines = [
        ("rows", f"{found['rows']:,}, {found['usable']:,} usable"),
        ("samples", f"{found['samples']:,} ({found['train_samples']:,} train, {found['val_samples']:,} val)"),
        ("tokens", number(tokens)),
        ("trained", f"{number(found['trained_tokens'])} · {share(found['trained_share'])}"),
        ("length", f"mean {found['mean_length']:,.0f}, longest {found['longest']:,} of {found['max_seq_len']:,}"),
        ("cut", f"{number(found['truncated_tokens'])} tokens of {found['truncated_rows']:,} rows"),
        ("padding", f"{share(found['padding_share'])} padded, {share(found['packed_padding_share'])} packed"),
        ("", f"{share(found['bucketed_padding_share'])} by length"),
        ("duplicates", f"{found['duplicates']:,}, {found['duplicates_across_split']:,} across the split"),
    ]
    return Content("\n").join(Content.assemble((f"{name:<11}", MUTED), value) for name, value in lines)
