"""A page of charts: which metrics are drawn follows from what the run reports."""

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Grid
from textual.content import Content

from engine.clean import clean
from minimind_tui.core.charts import Chart, Other, View, charts
from minimind_tui.core.history import RunHistory
from minimind_tui.widgets.curve import Curve
from minimind_tui.widgets.states import MUTED

_MOST = 9
_WIDE, _LOW, _HIGH = 150, 12, 30
"""From so many cells there are three columns; below so many rows one row of charts, from so many three."""
_COLOURS = ("$success", "$error", "$secondary", "$text-warning", "$foreground")


class CurveGrid(Grid):
    """As many charts at a time as there is room for, in pages; or one alone.

    Attributes:
        view: How all of them are looked at.
        others: The runs that are compared with.
        page, pages: Which page is shown, and of how many.
        alone: One chart takes all the room; a page is a chart then.
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.view, self.others = View(), list[Other]()
        self.page, self.pages = 0, 1
        self.alone, self._place = False, 0
        self._columns, self._room, self._room_before = 2, 4, 4

    def compose(self) -> ComposeResult:
        for index in range(_MOST):
            yield Curve(id=f"curve-{index}")

    def turn(self, by: int = 1) -> None:
        """Shows a later page, or an earlier one."""
        self.page += by

    def enlarge(self, curve: Curve | None = None) -> None:
        """Shows a chart alone, the first of the page where none is named; or all again, on the page where it is."""
        if self.alone:
            self.alone, self._place = False, self.page % self._room_before
            self.page //= self._room_before
        else:
            shown = [chart for chart in self.query(Curve) if chart.display]
            self.alone, self._place, self._room_before = True, 0, self._room
            self.page = self.page * self._room + (shown.index(curve) if curve in shown else 0)

    def focus_chart(self) -> None:
        """Puts the focus on the chart that was enlarged, after it is drawn."""
        list(self.query(Curve))[self._place].focus()

    def show(self, history: RunHistory) -> None:
        """Draws what is visible of the page."""
        columns, rows, self._room = self._measure()
        if columns != self._columns:
            self._columns = self.styles.grid_size_columns = columns
        groups = charts(history, self.others)
        self.pages = max(1, -(-len(groups) // self._room))
        self.page %= self.pages
        shown = groups[self.page * self._room : (self.page + 1) * self._room]
        for index, chart in enumerate(self.query(Curve)):
            chart.display = index < (len(shown) or min(self._room, columns * rows))
            chart.show_chart(shown[index] if index < len(shown) else Chart("", ()), self.view)

    def _measure(self) -> tuple[int, int, int]:
        """Columns, rows, and how many charts that makes."""
        if self.alone:
            return 1, 1, 1
        size = self.size
        columns = 3 if size.width >= _WIDE else 2
        rows = 1 if size.height < _LOW else 3 if size.height >= _HIGH else 2
        return columns, rows, columns * rows


def legend(others: Sequence[Other]) -> Content:
    """Which run each letter and colour stands for."""
    parts = [Content.assemble(("━ this run", "$primary bold"))]
    for other in others:
        name = clean(other.name, newlines=False)
        parts.append(Content.assemble((f"{other.letter} ", f"{_COLOURS[other.place]} bold"), name))
    return Content("   ").join(parts) + Content.styled("   o: change", MUTED)
