"""Evaluate: a checkpoint measured on a file."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import DataTable, Input, Label, Static

from engine.clean import clean
from engine.errors import EngineError, UserError
from engine.runs.folder import find_run
from engine.runs.summary import RunSummary, summarise
from engine.text.starter import STARTER_FILES
from minimind_tui.core.figures import number, share
from minimind_tui.core.measuring import Measurement, Measuring
from minimind_tui.core.offers import checkpoints
from minimind_tui.widgets.cycle_input import CycleInput
from minimind_tui.widgets.file_dialog import FileDialog
from minimind_tui.widgets.panes import one_line
from minimind_tui.widgets.states import MUTED
from minimind_tui.widgets.vim import VimScroll, VimTable

if TYPE_CHECKING:
    from minimind_tui.app import MinimindApp

_POLL_SECONDS = 0.2
_ROWS = "200"
"""Rows that are measured unless more are asked for: a first look takes seconds, not minutes."""
_RIGHT = re.compile(r"exact_match|pass_at_\d+|\w*accuracy\w*")
"""Names of figures that are shares of what is right; they come first."""
_NO_FIGURES = ("by", "wrong", "answers", "model", "data", "shape")
_BAR = 30


class EvaluateDialog(ModalScreen[None]):
    """Chooses a checkpoint and a file, measures, and shows figures and every question with its answer.

    Args:
        checkpoint: A run, `RUN@best`, `RUN@STEP` or a model's folder.
        data: The file; by default what the checkpoint's run was trained on.
    """

    AUTO_FOCUS = "#data"
    HELP = (
        "Measures a checkpoint on a file: loss and bits per byte of its trained tokens; where its rows are questions, "
        "how many greedy answers are the expected text (exact match) or pass the row's own check (pass at 1), and the "
        "form of the answers; of pairs, how often the preferred side is found more probable. Down and up offer "
        "checkpoints and files. In the list of questions, enter opens the row in the Data screen."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+r", "start", "Measure", id="evaluate.start"),
        Binding("ctrl+o", "open", "Choose a file", id="evaluate.open"),
        Binding("escape", "back", "Cancel, close", id="evaluate.back"),
    ]

    def __init__(self, checkpoint: str = "", data: str = "") -> None:
        super().__init__()
        self._checkpoint, self._data = checkpoint, data
        self._measuring: Measuring | None = None
        self._answers: list[dict[str, Any]] = []
        self._measured: Path | None = None

    @property
    def mini(self) -> "MinimindApp":
        """The app, with its type."""
        return cast("MinimindApp", self.app)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "Evaluate"
            dialog.border_subtitle = "ctrl+o file · ctrl+r measures · escape cancels, closes"
            for id, label, value, hint in (
                ("checkpoint", "checkpoint", self._checkpoint, "a run, RUN@best, RUN@STEP or a folder  (↓ offers)"),
                ("data", "data", self._data, "a file  (↓ offers)"),
            ):
                with Horizontal():
                    yield Label(label)
                    yield CycleInput(value, placeholder=hint, id=id, compact=True)
            with Horizontal():
                yield Label("rows")
                yield Input(_ROWS, type="integer", placeholder="0: all", id="rows", max_length=8, compact=True)
                yield Label("answer up to")
                yield Input("64", type="integer", id="tokens", max_length=5, compact=True)
                yield Label("tokens")
            yield Static("", id="progress")
            with Vertical(id="found"):
                with VimScroll(id="figures"):
                    yield Static("")
                with Vertical(id="asked"):
                    yield VimTable(id="questions", cursor_type="row")
                    yield Static("", id="answer")

    def on_mount(self) -> None:
        self.query_one("#found").display = False
        self.set_interval(_POLL_SECONDS, self._poll)
        self._read()

    @work(thread=True, exit_on_error=False)
    def _read(self) -> None:
        """Looks for what can be measured, in a thread."""
        runs = [run for run in self.mini.library.runs() if run.checkpoints]
        own: RunSummary | None = None
        try:
            own = summarise(find_run(self._checkpoint.partition("@")[0])) if self._checkpoint else None
        except (EngineError, OSError):
            own = None  # a folder that is no run
        self.app.call_from_thread(self._offer, runs, own or (runs[0] if runs and not self._checkpoint else None))

    def _offer(self, runs: list[RunSummary], own: RunSummary | None) -> None:
        checkpoint, data = self.query_one("#checkpoint", CycleInput), self.query_one("#data", CycleInput)
        others = [name for run in runs for name in checkpoints(run)]
        checkpoint.offer([*(checkpoints(own) if own is not None else []), *others])
        starter = [f"starter:{file.name}" for file in STARTER_FILES if file.stage == "eval"]
        trained_on = own.place("data") if own is not None else ""
        data.offer([*[trained_on] * bool(trained_on), *starter])
        if not checkpoint.value and own is not None:
            checkpoint.value = own.name
        if not data.value:
            data.value = trained_on

    # Measuring

    @on(Input.Submitted)
    def action_start(self) -> None:
        """Measures in a thread of its own."""
        if self._measuring is not None and self._measuring.alive:
            return
        checkpoint, data = (self.query_one(f"#{id}", Input).value.strip() for id in ("checkpoint", "data"))
        if not checkpoint or not data:
            self._say(f"{'data' if checkpoint else 'checkpoint'}: nothing is named", "$text-error")
            return
        try:
            asked = Measurement(checkpoint, data, self._whole("rows", least=0), self._whole("tokens", least=1))
        except UserError as error:
            self._say(str(error), "$text-error")
            return
        self._measuring = Measuring(asked)
        self._poll()

    def _whole(self, id: str, *, least: int) -> int:
        """The whole number in an entry, the least one where it is empty.

        Raises:
            UserError: It is none, or less than the least: Textual's integer entries let `-` and `1_` through.
        """
        text = self.query_one(f"#{id}", Input).value.strip()
        try:
            value = int(text or least)
        except ValueError:
            raise UserError(f"{text!r} is not a whole number", where=id) from None
        if value < least:
            raise UserError(f"{value} is less than {least}", where=id)
        return value

    def _poll(self) -> None:
        measuring = self._measuring
        if measuring is None:
            return
        if measuring.alive:
            full = round(_BAR * measuring.progress)
            doing = "cancelling" if measuring.cancelled else measuring.doing
            bar = Content.assemble(("━" * full, "$primary"), ("─" * (_BAR - full), "$surface-lighten-2"))
            said = f" {measuring.progress:>4.0%}  {doing}"
            self.query_one("#progress", Static).update(Content.assemble(bar, said))
            return
        self._measuring = None
        if measuring.error is not None:
            error = measuring.error
            parts = [f"{error.where}: " if error.where else "", error.what, f"\n→ {error.hint}" if error.hint else ""]
            self._say("".join(parts), "$text-error")
        elif measuring.result is None:
            self._say("cancelled", MUTED)
        else:
            self._measured = measuring.file
            self._show(measuring.result)

    def _say(self, text: str, style: str) -> None:
        self.query_one("#progress", Static).update(Content.styled(clean(text), style))

    def action_back(self) -> None:
        """Gives up what is measured; without that, closes."""
        if self._measuring is not None and self._measuring.alive and not self._measuring.cancelled:
            self._measuring.cancel()
            self._poll()
        else:
            self.dismiss()

    def on_unmount(self) -> None:
        if self._measuring is not None:
            self._measuring.cancel()

    def action_open(self) -> None:
        """Chooses a path for the checkpoint, if the focus is there, or for the data."""
        data = self.focused is None or self.focused.id != "checkpoint"
        entry = self.query_one("#data" if data else "#checkpoint", CycleInput)

        def chosen(path: str | None) -> None:
            if path:
                entry.value = path
                entry.focus()

        dialog = FileDialog(entry.value, title="Measure on" if data else "Measure", starter=data, folders=not data)
        self.app.push_screen(dialog, chosen)

    # What was found

    def _show(self, found: Mapping[str, Any]) -> None:
        self._say(f"{found['model']} on {found['data']} ({found['shape']})", MUTED)
        self.query_one("#figures", VimScroll).query_one(Static).update(Content("\n").join(_figures(found)))
        self._answers = list(found.get("answers", []))
        table = self.query_one("#questions", VimTable)
        self.query_one("#found").display, self.query_one("#asked").display = True, bool(self._answers)
        table.border_title = "Questions"
        table.border_subtitle = "wrong ones first · enter opens the row"
        self._answers.sort(key=lambda answer: bool(answer["passed"]))
        rows = [[_mark(answer), *[Text(one_line(answer[key])) for key in ("prompt", "expected", "said")]]
                for answer in self._answers]  # fmt: skip
        table.fill(("", "question", "expected", "said"), rows)
        (table if self._answers else self.query_one("#figures")).focus()

    @on(DataTable.RowHighlighted, "#questions")
    def _look_at(self, event: DataTable.RowHighlighted) -> None:
        if 0 <= event.cursor_row < len(self._answers):
            answer = self._answers[event.cursor_row]
            parts = [Content.assemble((f"{name:<9}", MUTED), one_line(answer[key]))
                     for name, key in (("question", "prompt"), ("expected", "expected"), ("said", "said"))]  # fmt: skip
            self.query_one("#answer", Static).update(Content("\n").join(parts))

    @on(DataTable.RowSelected, "#questions")
    def _open_row(self, event: DataTable.RowSelected) -> None:
        """Opens the question's row in the Data screen: in the file that was measured, whatever is named by now."""
        if self._measured is not None:
            self.dismiss()
            self.mini.open_data(self._measured, self._answers[event.cursor_row]["row"])


def _mark(answer: Mapping[str, Any]) -> Text:
    """Whether an answer passes the row's check; a dash where it has none, or the question could not be asked."""
    if answer["passed"]:
        return Text("✓", "green")
    return Text("✗", "red") if answer["stop_reason"] and answer["passed"] is not None else Text("–", "dim")


def _figures(found: Mapping[str, Any]) -> Iterator[Content]:
    """The metrics, what is right first, then the same by label."""
    plain = [(key, value) for key, value in found.items() if key not in _NO_FIGURES]
    plain.sort(key=lambda entry: _RIGHT.fullmatch(entry[0]) is None)
    yield from _columns([(key.replace("_", " "), _value(key, value)) for key, value in plain])
    for label, groups in found.get("by", {}).items():
        yield Content.styled(clean(f"pass at 1 by {label}", newlines=False), MUTED)
        yield from _columns(
            [(clean(f"  {value}", newlines=False), f"{share(figures['pass_at_1'])} of {figures['questions']:,}")
             for value, figures in groups.items()]
        )  # fmt: skip


def _value(name: str, value: float | None) -> str:
    return share(value) if _RIGHT.fullmatch(name) or name.endswith("_rate") else number(value)


def _columns(rows: Sequence[tuple[str, str]]) -> Iterator[Content]:
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        yield Content.assemble((f"{name:<{width}}  ", MUTED), value)
