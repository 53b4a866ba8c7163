"""Data: the rows of a file, every token of a row, and what the whole file comes to."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget

from engine.clean import clean
from engine.runs.summary import RunSummary
from minimind_tui.core.browse import STARTER, found_at
from minimind_tui.core.encoded import Encoded, Problem
from minimind_tui.core.filters import Filter
from minimind_tui.core.look import PACKED, Judges
from minimind_tui.core.models import is_judge
from minimind_tui.core.rows import Rows
from minimind_tui.screens.data_tokens import DataTokens
from minimind_tui.widgets.data.audit_panel import AuditPanel
from minimind_tui.widgets.data.head import DataHead
from minimind_tui.widgets.data.list_dialog import Item, ListDialog
from minimind_tui.widgets.data.prompt_line import PromptLine
from minimind_tui.widgets.data.row_list import RowList
from minimind_tui.widgets.data.row_pane import RowPane
from minimind_tui.widgets.token_view import TokenView

_NONE = ""


class DataScreen(DataTokens):
    """A data file: its rows, their tokens, its audit."""

    MODE = "data"
    AUTO_FOCUS = "RowList"
    HELP_TEXT = (
        "To the left the rows of a file, to the right every token of one of them: who says it, and whether it is "
        "trained. The switches below say how rows become tokens; t, T, m and x change them. The audit counts the whole "
        "file. With a checkpoint chosen, hot tokens are those that it finds hard to predict. A run's rollouts show the "
        "other answers to the prompt too; comma and full stop lead through them. Hot tokens of theirs were improbable "
        "when they were sampled, or have moved since, where a checkpoint is chosen."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("o", "open", "Open", tooltip="Open a file, or one of the starter world", id="data.open"),
        Binding("r", "recent", "Recent", show=False, tooltip="Open a file that was open before", id="data.recent"),
        Binding("slash", "search", "Search", show=False, tooltip="Search the rows for a text", id="data.search"),
        Binding("n", "hit(1)", "Next hit", show=False, tooltip="Next hit of the search", id="data.next_hit"),
        Binding("N", "hit(-1)", "Hit before", show=False, tooltip="Hit before of the search", id="data.hit_before"),
        Binding("f", "filter", "Filter", tooltip="List only some rows: by role, problem, length", id="data.filter"),
        Binding("colon,ctrl+g", "go_to", "Go to row", show=False, tooltip="Go to a row by its number", id="data.go_to"),
        Binding("J", "row(1)", "Next row", show=False, tooltip="Next row, from anywhere", id="data.next_row"),
        Binding("K", "row(-1)", "Row before", show=False, tooltip="Row before, from anywhere", id="data.row_before"),
        Binding("v", "mode", "View", tooltip="Tokens, rendered text, raw row, packed batch", id="data.mode"),
        Binding("t", "stage", "Stage", show=False, tooltip="Encode as another stage would", id="data.stage"),
        Binding("T", "tokenizer", "Tokenizer", show=False, tooltip="Choose the tokenizer", id="data.tokenizer"),
        Binding("m", "template", "Template", show=False, tooltip="Choose the chat template", id="data.template"),
        Binding("x", "length", "Length", show=False, tooltip="Set the longest sample", id="data.length"),
        Binding("c", "checkpoint(0)", "Checkpoint", show=False, tooltip="Choose a checkpoint: its loss as heat",
                id="data.checkpoint"),
        Binding("C", "checkpoint(1)", "Reference", show=False, tooltip="Choose a checkpoint to compare with",
                id="data.reference"),
        Binding("a", "audit", "Audit", tooltip="The whole file in numbers, and its problems", id="data.audit"),
        Binding("s", "start", "Start", show=False, tooltip="Start a run of this stage on this file", id="data.start"),
        Binding("z", "list", "List", show=False, tooltip="Hide or show the list of rows", id="data.list"),
        Binding("y,Y", "copy", "Copy row", show=False, tooltip="Copy the row as the file has it (Y from anywhere)",
                id="data.copy"),
        Binding("escape", "back", "Back", show=False, tooltip="Back out one level", id="data.back"),
    ]  # fmt: skip

    def compose_body(self) -> Iterator[Widget]:
        yield DataHead(id="data-head")
        with Horizontal(id="data-body"):
            yield RowList(id="rows")
            yield RowPane(id="row-pane")
            yield AuditPanel(id="audit")
        yield PromptLine(id="ask")

    def __init__(self) -> None:
        super().__init__()
        self._encoding: float | None = None
        self._then: Filter | None = None

    def on_mount(self) -> None:
        """Goes on where the app was left; the toolkit calls the area's own after this."""
        state = self.mini.state
        self._body.set_class(not state.get("data.list", True), "-no-list")
        self.query_one(DataHead).show_nothing()
        self.recall_switches()
        self.say_list()
        self.follow_file()
        remembered = state.get("data.file", "")
        if not remembered:
            return
        if remembered.startswith(STARTER) or found_at(remembered):
            self.open(remembered, state.get("data.row", 0))
        else:
            self.notify(f"{clean(remembered, newlines=False)} is not there any more", markup=False)
            state.keep("data.file", "")

    @property
    def _body(self) -> Widget:
        return self.query_one("#data-body")

    @property
    def _auditing(self) -> bool:
        return self._body.has_class("-audit")

    def file_opened(self, rows: Rows) -> None:
        self._show_audit(False)
        super().file_opened(rows)

    def file_known(self) -> None:
        super().file_known()
        if self._rows is not None:
            tokens = self._encoded.audit["tokens"] if self._encoded else None
            share = f" {self._encoding:.0%}" if self._encoding else " …"  # small files say nothing on the way
            work = f"encoding{share}" if self._encoding is not None else ""
            self.query_one(DataHead).show(self._rows, self._share, self._reading.stage, tokens, work)
            if work:
                self.query_one(AuditPanel).wait(f"The whole file: {work}")

    def work_failed(self, kind: str) -> None:
        if kind == "encode":
            self._encoding, self._then = None, None
            self.query_one(AuditPanel).wait("It could not be made.")
        elif kind == "judges":
            self._judges, self._judge_names = Judges(), ("", "")
            self._say_switches()
            self._look()
        elif kind == "file" and self._rows is None:
            self.mini.state.keep("data.file", "")
        super().work_failed(kind)

    def action_start(self) -> None:
        """Starts a run on the file."""
        if self._rows is None:
            return
        if self._reading.info is None:
            self.notify(f"No stage reads {self._rows.shape}s yet.", severity="warning")
        else:
            self.mini.ask_for_run(stage=self._reading.stage, data=str(self._rows.path))

    def action_copy(self) -> None:
        """Copies the row as the file has it."""
        row = self.query_one(RowList).row
        if self._rows is not None and row is not None:
            self.start("copy", self.copy_row, self._rows, row)

    @on(TokenView.Copy)
    def _copy_token(self, event: TokenView.Copy) -> None:
        self.mini.copy(event.text, "the token")

    # The whole file

    def encode(self) -> None:
        if self._rows is None or self._reader is None or self._encoded is not None or self._encoding is not None:
            return
        self._encoding = 0.0
        self.file_known()
        self.start("encode", self.encode_file, self._rows, self._reader, self._note_encoding, self._take_encoded)

    def encode_then(self, then: Filter) -> None:
        self._then = then
        self.encode()

    def forget_encoded(self) -> None:
        self.end_work("encode")
        self._encoded, self._encoding, self._then = None, None, None
        self.query_one(RowList).flag(None)

    def reader_changed(self) -> None:
        if self._auditing:
            self.encode()

    def _note_encoding(self, share: float) -> None:
        self._encoding = share

    def _take_encoded(self, rows: Rows, encoded: Encoded) -> None:
        if rows is not self._rows or encoded.reader is not self._reader:
            return
        self._encoded, self._encoding = encoded, None
        where = f"{encoded.reader.name}, {self._reading.title}"
        self.query_one(AuditPanel).show(encoded.audit, encoded.problems, where)
        self.query_one(RowList).flag(encoded.is_odd)
        then, self._then = self._then, None
        if then is not None:
            self.list_only(then)
        elif self._auditing:
            self.query_one(AuditPanel).view.focus()
        self.file_known()
        if self._mode == PACKED:
            self._look()

    def action_audit(self) -> None:
        """Shows the audit, or the row again."""
        if self._rows is not None:
            self._show_audit(not self._auditing)
            self.encode()

    def _show_audit(self, shown: bool) -> None:
        self._body.set_class(shown, "-audit")
        if shown:
            self.query_one(AuditPanel).view.focus()
        elif self.query_one(AuditPanel).has_focus_within:
            self.query_one(RowList).focus()

    @on(AuditPanel.Jump)
    def _jump_to(self, event: AuditPanel.Jump) -> None:
        problem: Problem = event.problem
        self._body.remove_class("-audit", "-no-list")
        self.list_only(Filter(problem.name, problem.title, problem.count))

    # Checkpoints

    def action_checkpoint(self, place: int) -> None:
        """Asks for the checkpoint (0), or for the one that it is compared with (1)."""
        if place and not self._judge_names[0]:
            self.notify("Choose a checkpoint with c first: this one is compared with it.", severity="warning")
        else:
            self.start("runs", self.compute, self.mini.library.runs, partial(self._offer_checkpoints, place))

    def _offer_checkpoints(self, place: int, runs: list[RunSummary]) -> None:
        items = [Item(_NONE, "none"), *_checkpoints(runs)]

        def chosen(name: str | None) -> None:
            if name is not None:
                names = (name, self._judge_names[1] if name else "") if place == 0 else (self._judge_names[0], name)
                self._judge_names = names
                self._say_switches()
                self.start("judges", self.load_judges, *names, self._take_judges)

        title = "Compare with the checkpoint" if place else "Checkpoint: its loss as heat"
        own = f"{self._origin.run.name}@newest" if self._origin is not None and not place else ""
        self.mini.push_screen(ListDialog(title, items, self._judge_names[place] or own), chosen)

    def _take_judges(self, judges: Judges) -> None:
        self._judges = judges
        policy, reader = judges.policy, self._reader
        if policy is not None and reader and policy.tokenizer.fingerprint != reader.tokenizer.fingerprint:
            run = self._judge_names[0].partition("@")[0]
            said = f"The tokenizer is {run}'s now: the checkpoint knows no other."
            self.notify(clean(said, newlines=False), markup=False)
            self._read_as(replace(self._reading, tokenizer=run))
        self._look()

    # Around

    @on(RowList.Chosen)
    def _row_chosen(self) -> None:
        self._show_audit(False)
        self.query_one(RowPane).view.focus()

    @on(RowPane.Left)
    def _left_of_row(self) -> None:
        self.query_one(RowList).focus()

    def action_list(self) -> None:
        """Hides or shows the list."""
        hidden = not self._body.has_class("-no-list")
        self._body.set_class(hidden, "-no-list")
        self.mini.state.keep("data.list", not hidden)
        if hidden and self.query_one(RowList).has_focus:
            self.query_one(RowPane).view.focus()
        elif not hidden:
            self.query_one(RowList).focus()

    def action_back(self) -> None:
        """Backs out one level: of the line to type in, the audit, the tokens, the filter, the search."""
        asked, listed = self.query_one(PromptLine), self.query_one(RowList)
        if asked.display:
            asked.close()
            listed.focus()
        elif self._auditing:
            self._show_audit(False)
        elif self.query_one(RowPane).has_focus_within and listed.display:
            listed.focus()
        elif not self.clear_filter():
            self.clear_search()


def _checkpoints(runs: list[RunSummary]) -> Iterator[Item]:
    """The newest checkpoint of each run that can speak, and the best one where that is another."""
    for run in runs:
        if run.checkpoints and not is_judge(run.run.checkpoint(run.checkpoints[-1])):
            yield Item(f"{run.name}@newest", f"{run.name}@newest", f"{run.stage}, step {run.checkpoints[-1]:,}")
            if run.best_step not in (None, run.checkpoints[-1]):
                yield Item(f"{run.name}@best", f"{run.name}@best", f"{run.stage}, step {run.best_step:,}")
