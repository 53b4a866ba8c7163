"""A page of charts: which metrics are drawn follows from what the run reports."""

from textual.app import ComposeResult
from textual.containers import Grid

from engine.settings.registry import Metric
from minimind_tui.core.figures import metric as metric_text
from minimind_tui.core.history import RunHistory
from minimind_tui.core.series import Series
from minimind_tui.widgets.curve import Curve

_VALIDATION = "val_"
_PER_PAGE = 4


class CurveGrid(Grid):
    """Four charts at a time, two where the screen is low."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.page, self.pages = 0, 1
        self.log_y, self.whole = False, True

    def compose(self) -> ComposeResult:
        for index in range(_PER_PAGE):
            yield Curve(id=f"curve-{index}")

    def turn(self) -> None:
        """Shows the next page."""
        self.page += 1

    def show(self, history: RunHistory, *, low: bool) -> None:
        """Draws what is visible of the page; `low` leaves room for one row of charts only."""
        room = _PER_PAGE // 2 if low else _PER_PAGE
        groups = charts(history)
        self.pages = max(1, -(-len(groups) // room))
        self.page %= self.pages
        shown = groups[self.page * room : (self.page + 1) * room]
        for index, chart in enumerate(self.query(Curve)):
            chart.display = index < (room if not shown else len(shown))
            if index < len(shown):
                title, subtitle, series = shown[index]
                title += f"{' · log' if self.log_y else ''}{'' if self.whole else ' · newest'}"
                chart.show(title, subtitle, series, log_y=self.log_y, whole=self.whole)
            else:
                chart.show("", "", [])


def charts(history: RunHistory) -> list[tuple[str, str, list[Series]]]:
    """Title, newest values and curves of each chart; a validation metric joins the metric that it validates."""
    metrics = {metric.name: metric for metric in history.metrics()}
    return [
        _chart(metric, metrics.get(_VALIDATION + name), history)
        for name, metric in metrics.items()
        if not (name.startswith(_VALIDATION) and name.removeprefix(_VALIDATION) in metrics)
    ]


def _chart(metric: Metric, validation: Metric | None, history: RunHistory) -> tuple[str, str, list[Series]]:
    series = [history.curves[metric.name]]
    said = metric_text(series[0].last, metric.unit)
    if validation:
        series.append(history.curves[validation.name])
        said += f" · validation {metric_text(series[1].last, validation.unit)}"
    unit = f" ({metric.unit})" if metric.unit and metric.unit not in metric.title else ""
    return f"{metric.title}{unit}", said, series
