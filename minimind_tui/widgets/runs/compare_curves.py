"""The curves of several runs over each other, a chart a metric."""

from textual.app import ComposeResult
from textual.containers import Grid

from minimind_tui.core import charts
from minimind_tui.core.charts import Chart, View
from minimind_tui.core.compare import LETTERS, Comparison
from minimind_tui.core.reported import VALIDATION
from minimind_tui.widgets.curve import Curve

_PER_PAGE = 4
_LOW = 16
"""Below this many rows there is room for one row of charts."""


class CompareCurves(Grid):
    """A page of charts; in each, a run's letter stands at its newest point, or at every point where there are few.

    Attributes:
        view: How all of them are looked at.
        page, pages: Which page is shown, and of how many.
        alone: One chart takes all the room.
    """

    HELP = (
        "A chart a metric with the curves of all runs that report it; each curve bears its run's letter. Tab leads "
        "into a chart, left and right then move a crosshair that reads the values, enter shows the chart alone."
    )

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.view = View()
        self.page, self.pages, self.alone = 0, 1, False

    def compose(self) -> ComposeResult:
        for index in range(_PER_PAGE):
            yield Curve(id=f"compared-{index}")

    @property
    def room(self) -> int:
        """Charts on a page."""
        return 1 if self.alone else _PER_PAGE // 2 if self.size.height < _LOW else _PER_PAGE

    def enlarge(self, curve: Curve) -> None:
        """Shows a chart alone, or the page with it again."""
        place = self.page * self.room + list(self.query(Curve)).index(curve)
        self.alone = not self.alone
        self.page = place // self.room
        self.query(Curve).first().focus()

    def show(self, comparison: Comparison) -> None:
        """Draws what is visible of the page."""
        found = compared(comparison)
        room = self.room
        self.pages = max(1, -(-len(found) // room))
        self.page %= self.pages
        self.styles.grid_size_columns = 1 if room == 1 else 2
        shown = found[self.page * room : (self.page + 1) * room]
        for index, chart in enumerate(self.query(Curve)):
            chart.display = index < max(1, len(shown))
            chart.show_chart(shown[index] if index < len(shown) else Chart("", ()), self.view)


def compared(comparison: Comparison) -> list[Chart]:
    """A chart for each metric of any of the runs."""
    roles = (charts.MAIN, *(charts.OTHER + place for place in range(len(LETTERS) - 1)))
    found = []
    for metric in comparison.metrics():
        dense = not metric.name.startswith(VALIDATION)
        curves = tuple(
            charts.Trace(letter, series, metric.unit, role, sign=letter, dense=dense)
            for letter, role, series in zip(LETTERS, roles, comparison.curves(metric), strict=False)
            if series is not None
        )
        unit = f" ({metric.unit})" if metric.unit and metric.unit not in metric.title else ""
        found.append(Chart(f"{metric.title}{unit}", curves))
    return found
