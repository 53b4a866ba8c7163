"""Runs: all that were ever made here, what became of them, and what can be done with them."""

from collections.abc import Iterator
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import DataTable

from engine.errors import EngineError
from engine.runs.folder import RunFolder
from engine.runs.summary import RunSummary
from minimind_tui.core.compare import LEAST, MOST
from minimind_tui.core.figures import size
from minimind_tui.core.going import Going, delete_all, going
from minimind_tui.core.opening import open_folder
from minimind_tui.core.run_details import RunDetails, details
from minimind_tui.core.run_list import COLUMNS, Order
from minimind_tui.screens.area import Area
from minimind_tui.widgets.runs.details import DetailsPane
from minimind_tui.widgets.runs.dialogs import DeleteDialog
from minimind_tui.widgets.runs.run_pane import RunPane

_REFRESH_SECONDS = 3.0
_REST_SECONDS = 0.12
"""How long the cursor rests on a run before it is looked into."""


class RunsScreen(Area):
    """All runs in a table, and the one under the cursor in detail."""

    MODE = "runs"
    HELP_TEXT = (
        "All runs of this machine, also those of the command line and those that other processes carry. Enter shows "
        "one with its curves; space marks runs and m compares them, or the marked one with the one under the cursor. "
        "An interrupted run ended without a word (the process was killed): nothing saved is lost, r resumes it. "
        "Of one that ran out of memory, F says what took it, and goes on with a change that fits."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "watch", "Show", show=False, tooltip="Show the run on the Train screen", id="runs.watch"),
        Binding("r", "resume", "Resume", tooltip="Go on where the run ended", id="runs.resume"),
        Binding(
            "F",
            "fit",
            "Make it fit",
            show=False,
            tooltip="What happened to its memory, and what would fit",
            id="runs.fit",
        ),
        Binding("space", "mark", "Mark", tooltip="Mark the run, for comparing or deleting", id="runs.mark"),
        Binding("m", "compare", "Compare", tooltip="Compare the marked runs", id="runs.compare"),
        Binding("x", "delete", "Delete", tooltip="Delete the marked runs, or this one", id="runs.delete"),
        Binding("slash", "search", "Filter", tooltip="Show only runs with some words", id="runs.search"),
        Binding("f", "narrow", "Show a state or stage only", show=False, id="runs.narrow"),
        Binding("s", "sort", "Sort by the next column", show=False, id="runs.sort"),
        Binding("S", "turn", "Sort the other way around", show=False, id="runs.turn"),
        Binding("c", "chat", "Chat with its newest checkpoint", show=False, id="runs.chat"),
        Binding("O", "open_folder", "Open its folder, or copy its path", show=False, id="runs.open_folder"),
        Binding("escape", "back", "Show all again", show=False, id="runs.back"),
    ]

    def compose_body(self) -> Iterator[Widget]:
        yield RunPane(id="list")
        yield DetailsPane(id="details")

    def on_mount(self) -> None:
        self._all: list[RunSummary] = []
        self._sizes: dict[RunFolder, int] = {}
        self._rest: Timer | None = None
        self._able: tuple[bool, ...] = ()
        self._read_once = False
        by = self.mini.state.get("runs.sort", "when")
        self._list.order = Order(by if by in COLUMNS else "when", self.mini.state.get("runs.turned", False))
        self._list.table.focus()
        self.read_runs()
        self.set_interval(_REFRESH_SECONDS, self.read_runs)

    def on_screen_resume(self) -> None:
        self.read_runs()

    @property
    def _list(self) -> RunPane:
        return self.query_one(RunPane)

    @work(thread=True, exclusive=True, group="library", exit_on_error=False)
    def read_runs(self) -> None:
        """Reads the runs' folders in a thread and shows them; what they take on disk follows."""
        if not self.is_current and self._read_once:
            return
        runs = self.mini.library.runs()
        self.app.call_from_thread(self._take, runs)
        sizes = self.mini.library.sizes(runs)
        if sizes != self._sizes:
            self.app.call_from_thread(self._take, runs, sizes)

    def _take(self, runs: list[RunSummary], sizes: dict[RunFolder, int] | None = None) -> None:
        changed = runs != self._all
        self._all, self._sizes = runs, self._sizes if sizes is None else sizes
        self._list.show(runs, self._sizes, self.mini.library.starved)
        if not self._read_once:
            self._read_once = True
            self._list.table.go_to(self.mini.state.get("runs.run", ""))
        if changed:
            self._look()

    @on(RunPane.Changed)
    def _listed(self) -> None:
        order = self._list.order
        self.mini.state.keep("runs.sort", order.by)
        self.mini.state.keep("runs.turned", order.flipped)
        self.query_one(DetailsPane).display = self.chosen is not None
        self._keys_follow()

    # What is under the cursor

    @property
    def chosen(self) -> RunSummary | None:
        """The run under the cursor."""
        return self._list.chosen

    @on(DataTable.RowHighlighted)
    def _moved(self) -> None:
        self._keys_follow()
        if self._rest is not None:
            self._rest.stop()
        self._rest = self.set_timer(_REST_SECONDS, self._look)

    def _look(self) -> None:
        if (chosen := self.chosen) is not None:
            self.mini.state.keep("runs.run", chosen.name)
            self._read_details(chosen, self._all)
        else:
            self.query_one(DetailsPane).show(None)

    @work(thread=True, exclusive=True, group="details", exit_on_error=False)
    def _read_details(self, summary: RunSummary, runs: list[RunSummary]) -> None:
        self.app.call_from_thread(self._show_details, details(summary, runs))

    def _show_details(self, found: RunDetails) -> None:
        if self.chosen is not None and self.chosen.run == found.summary.run:
            self.query_one(DetailsPane).show(found)

    def _keys_follow(self) -> None:
        """The footer is made anew only where other keys work now: that costs more than moving the cursor."""
        chosen = self.chosen
        able = (chosen is not None, chosen is not None and chosen.can_resume, chosen is not None and chosen.checkpoints)
        state = (*map(bool, able), self._starved(chosen), bool(self._all), self._list.can_go_back)
        if state != self._able:
            self._able = state
            self.refresh_bindings()

    def _starved(self, chosen: RunSummary | None) -> bool:
        return chosen is not None and chosen.run in self.mini.library.starved

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what can be done with the run under the cursor, or the marked ones."""
        if not self.is_mounted:
            return False
        chosen = self.chosen
        if action == "resume":
            return chosen is not None and chosen.can_resume
        if action == "fit":
            return self._starved(chosen)
        if action == "chat":
            return chosen is not None and bool(chosen.checkpoints)
        if action in ("watch", "mark", "delete", "open_folder"):
            return chosen is not None
        if action in ("compare", "search", "narrow", "sort", "turn"):
            return bool(self._all)
        if action == "back":
            return self._list.can_go_back
        return True

    # What is done with runs

    @on(DataTable.RowSelected)
    def action_watch(self) -> None:
        """Shows the run on the Train screen, whoever carries it."""
        if (chosen := self.chosen) is not None:
            self.mini.show_run(chosen.run)

    def action_resume(self) -> None:
        """Goes on with the run in a thread of this process."""
        if (chosen := self.chosen) is not None:
            self.mini.resume_run(chosen.run)

    def action_fit(self) -> None:
        """What happened to the run's memory, and what would fit."""
        if (chosen := self.chosen) is not None:
            self.mini.explain_memory(chosen.run)

    def action_chat(self) -> None:
        """Talks with the run's newest checkpoint."""
        if (chosen := self.chosen) is not None:
            self.mini.chat_with(chosen.name)

    def action_mark(self) -> None:
        """Marks the run or takes the mark away, and goes to the next."""
        self._list.mark()

    def _to_compare(self) -> list[RunFolder]:
        """The marked runs; with a single one also the one under the cursor."""
        runs, chosen = [run.run for run in self._list.marked], self.chosen
        return [*runs, chosen.run] if len(runs) == 1 and chosen is not None and chosen.run not in runs else runs

    def action_compare(self) -> None:
        """Shows the marked runs beside each other."""
        runs = self._to_compare()
        if len(runs) < LEAST:
            self.notify("Mark runs with space first: two or more are compared.")
        elif len(runs) > MOST:
            self.notify(f"{len(runs)} runs are marked: {MOST} are the most that can be compared.", severity="warning")
        else:
            self.mini.compare_runs(runs)

    def action_open_folder(self) -> None:
        """Shows the run's folder in the desktop's file manager; without a desktop its path is copied."""
        if (chosen := self.chosen) is None:
            return
        if open_folder(chosen.run.path):
            self.notify("The file manager was asked to show it.", timeout=2)
        else:
            self.mini.copy(str(chosen.run.path), "the folder's path")

    def action_delete(self) -> None:
        """Asks, then deletes the marked runs, or the one under the cursor."""
        chosen = self._list.marked or [run for run in (self.chosen,) if run]
        if running := [run.name for run in chosen if run.state == "running"]:
            self.notify(f"{', '.join(running)}: still running. Stop it first.", severity="warning", markup=False)
        else:
            self._weigh(chosen, self._all)

    @work(thread=True, exclusive=True, group="delete", exit_on_error=False)
    def _weigh(self, chosen: list[RunSummary], runs: list[RunSummary]) -> None:
        self.app.call_from_thread(self._ask, going(chosen, runs))

    def _ask(self, chosen: list[Going]) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self._delete(chosen)

        if self.is_current:
            self.app.push_screen(DeleteDialog(chosen), answered)

    @work(thread=True, exclusive=True, group="delete", exit_on_error=False)
    def _delete(self, chosen: list[Going]) -> None:
        self.app.call_from_thread(self._deleted, chosen, *delete_all(chosen))

    def _deleted(self, chosen: list[Going], gone: list[RunFolder], error: EngineError | None) -> None:
        if self.mini.shown is not None and self.mini.shown.run in gone:
            self.mini.shown = None
        if gone:
            freed = size(sum(one.bytes for one in chosen if one.summary.run in gone))
            names = gone[0].name if len(gone) == 1 else f"{len(gone)} runs"
            self.notify(f"{names} deleted, {freed} freed", markup=False)
        if error is not None:
            self.mini.show_error(error)
        self.read_runs()

    # What is shown

    def action_sort(self) -> None:
        """Sorts by the next column."""
        self._list.sort(self._list.order.following())

    def action_turn(self) -> None:
        """Sorts the other way around."""
        self._list.sort(self._list.order.clicked(self._list.order.by))

    def action_narrow(self) -> None:
        """Asks for a state or a stage, and shows only its runs."""
        self._list.narrow()

    def action_search(self) -> None:
        """Opens the line that filters while one types."""
        self._list.search()

    def action_back(self) -> None:
        """One step back: the filter's words, then its state or stage, then the marks."""
        self._list.back()
