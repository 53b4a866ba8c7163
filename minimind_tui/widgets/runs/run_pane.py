"""The list of runs: sorted, filtered, marked."""

from collections.abc import Collection, Sequence

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import DataTable, Input, Static

from engine.clean import clean
from engine.runs.folder import RunFolder
from engine.runs.summary import RunSummary
from minimind_tui.core.run_list import COLUMNS, Filter, Order, Sizes, choices
from minimind_tui.widgets.run_table import RunTable
from minimind_tui.widgets.runs.dialogs import NarrowDialog

_NO_RUNS = "No runs yet.\nOn Home ([b]1[/b]), [b]s[/b] trains the starter world and [b]n[/b] starts a run of your own."
_NONE_FITS = "No run fits the filter.\n[b]escape[/b] shows all again."


class RunPane(Vertical):
    """The table of runs with the line that filters it above.

    Attributes:
        order: How the runs are sorted.
        filter: Which of them are shown.
    """

    class Changed(Message):
        """Other runs are shown or marked, or in another order."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.order, self.filter = Order(), Filter()
        self._all: list[RunSummary] = []
        self._sizes: Sizes = {}
        self._starved: Collection[RunFolder] = ()
        self._marked: dict[RunFolder, None] = {}

    def compose(self) -> ComposeResult:
        yield Input(placeholder="words in name, stage, state, profile or data", id="filter", compact=True)
        yield RunTable(id="runs")
        yield Static("", id="no-runs")

    def on_mount(self) -> None:
        self.query_one("#filter").display = self.query_one("#no-runs").display = False
        self.query_one("#no-runs").border_title = self.table.border_title = "Runs"
        self.table.border_subtitle = "reading …"

    @property
    def table(self) -> RunTable:
        """The table itself."""
        return self.query_one(RunTable)

    @property
    def chosen(self) -> RunSummary | None:
        """The run under the cursor."""
        return self.table.selected if self.table.display else None

    @property
    def marked(self) -> list[RunSummary]:
        """The marked runs in the order in which they were marked."""
        summaries = {summary.run: summary for summary in self._all}
        return [summaries[run] for run in self._marked]

    @property
    def can_go_back(self) -> bool:
        """Whether there is a filter or a mark to take away."""
        return bool(self.filter or self._marked or self.query_one("#filter").display)

    def show(self, runs: Sequence[RunSummary], sizes: Sizes, starved: Collection[RunFolder]) -> None:
        """Shows these runs, as far as they fit the filter; marks of runs that are gone are forgotten."""
        self._all, self._sizes, self._starved = list(runs), sizes, starved
        here = {summary.run for summary in runs}
        self._marked = {run: None for run in self._marked if run in here}
        self._show()

    def _show(self) -> None:
        table, empty = self.table, self.query_one("#no-runs", Static)
        shown = self.order.sort([run for run in self._all if self.filter.fits(run)], self._sizes)
        table.show(shown, sizes=self._sizes, marked=self._marked, starved=self._starved, order=self.order)
        count = f"{len(shown)} of {len(self._all)}" if self.filter else f"{len(shown)}"
        marked = f"{len(self._marked)} marked" if self._marked else ""
        parts = [count, clean(str(self.filter), newlines=False), marked, f"by {self.order.by}"]
        table.border_subtitle = Content(" · ".join(part for part in parts if part))
        had_focus = self.screen.focused in (table, None)
        table.display, empty.display = bool(shown), not shown
        empty.update(Content.from_markup(_NONE_FITS if self._all else _NO_RUNS))
        if had_focus and shown:
            table.focus()
        self.post_message(self.Changed())

    def mark(self) -> None:
        """Marks the run under the cursor or takes its mark away, and goes to the next."""
        if (chosen := self.chosen) is None:
            return
        if chosen.run in self._marked:
            del self._marked[chosen.run]
        else:
            self._marked[chosen.run] = None
        self._show()
        self.table.action_cursor_down()

    # Sorting

    def sort(self, order: Order) -> None:
        """Sorts in another way."""
        self.order = order
        self._show()

    @on(DataTable.HeaderSelected)
    def _head_clicked(self, event: DataTable.HeaderSelected) -> None:
        if (label := self.table.label_at(event.column_index)) in COLUMNS:
            self.sort(self.order.clicked(label))

    # Filtering

    def narrow(self) -> None:
        """Asks for a state or a stage, and shows only its runs."""

        def chosen(filter: Filter | None) -> None:
            if filter is not None:
                self.filter = filter
                self._show()

        self.app.push_screen(NarrowDialog(choices(self._all), self.filter), chosen)

    def search(self) -> None:
        """Opens the line that filters while one types."""
        line = self.query_one("#filter", Input)
        line.display = True
        line.focus()

    @on(Input.Changed, "#filter")
    def _typed(self, event: Input.Changed) -> None:
        self.filter = Filter(event.value, self.filter.state, self.filter.stage)
        self._show()

    @on(Input.Submitted, "#filter")
    def _leave_line(self) -> None:
        line = self.query_one("#filter", Input)
        line.display = bool(line.value.strip())
        self.screen.set_focus(self.table if self.table.display else None)

    def back(self) -> None:
        """One step back: the filter's words, then its state or stage, then the marks."""
        line = self.query_one("#filter", Input)
        if line.display:
            line.value = ""
            self.filter = Filter("", self.filter.state, self.filter.stage)
            self._show()
            self._leave_line()
        elif self.filter:
            self.filter = Filter()
        else:
            self._marked = {}
        self._show()
