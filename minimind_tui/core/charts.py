"""Which charts a run has and which curves stand in each: follows from what it reports. Torch-free, without Textual."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.settings.registry import Metric
from minimind_tui.core.figures import metric as metric_text
from minimind_tui.core.history import MEMORY, RunHistory
from minimind_tui.core.plot import Layer
from minimind_tui.core.reported import VALIDATION as HELD_OUT
from minimind_tui.core.series import Series, smoothed

MAIN, VALIDATION, FAINT, OTHER = 0, 1, 2, 3
"""Roles of curves; the runs that are compared with have the roles from OTHER on."""

LETTERS = "abcde"
"""A compared run's sign in charts and legend; there are no more than these at a time."""

SMOOTHING = {"off": 0.0, "light": 0.03, "strong": 0.1}
"""Names of the strengths; the half-life of the average as a share of the points that are seen."""

_DOT = "●"


def strength(weight: float) -> str:
    """The strength nearest to a preference: how much counts what came before, 0 to 1."""
    return "off" if weight <= 0 else "light" if weight < 0.7 else "strong"


@dataclass(frozen=True)
class View:
    """How charts are looked at: the whole run or its newest steps, the y axis, a name of `SMOOTHING`."""

    whole: bool = True
    log_y: bool = False
    smoothing: str = "off"


@dataclass(frozen=True)
class Other:
    """A run that is compared with; its place among five gives its letter and its colour."""

    place: int
    name: str
    history: RunHistory

    @property
    def letter(self) -> str:
        return LETTERS[self.place]


@dataclass(frozen=True)
class Trace:
    """One metric of one run in a chart.

    Attributes:
        label: What its values are called, empty for the run's own.
        dense: It has a point for nearly every column, so that it can be smoothed.
    """

    label: str
    series: Series
    unit: str
    role: int
    sign: str = ""
    dense: bool = True


@dataclass(frozen=True)
class Chart:
    """Curves that share their axes, the run's own first."""

    title: str
    curves: tuple[Trace, ...]

    def layers(self, view: View, columns: int) -> list[Layer]:
        """What is drawn, from back to front; it costs what the columns cost."""
        span = None if view.whole or not self.curves else self.curves[0].series.recent()
        strength = SMOOTHING[view.smoothing]
        behind, front = [], []
        for curve in sorted(self.curves, key=lambda curve: (curve.role < OTHER, curve.role == VALIDATION)):
            points = curve.series.window(columns, span)
            if curve.dense and strength:
                means = curve.series.means(columns, span)
                if curve.role == MAIN:
                    behind.append(Layer(points, FAINT))
                points = smoothed(means, max(1.0, strength * len(means)))
            front.append(Layer(points, curve.role, curve.sign))
        return behind + front

    def values(self, step: float | None = None) -> str:
        """Each curve's newest value, or its value near a step; a dash where it has none there."""
        if step is None:
            parts = [(curve, curve.series.last) for curve in self.curves]
        else:
            parts = [(curve, _value_near(curve.series, step)) for curve in self.curves]
        return " · ".join(f"{curve.label} {metric_text(value, curve.unit)}".lstrip() for curve, value in parts)


def _value_near(series: Series, step: float) -> float | None:
    point = series.near(step)
    inside = point is not None and series.steps[0] <= step <= series.steps[-1]
    close = point is not None and abs(point[0] - step) <= (series.steps[-1] - series.steps[0]) / 20
    return point[1] if point is not None and (inside or close) else None


def charts(history: RunHistory, others: Sequence[Other] = ()) -> list[Chart]:
    """The charts of a run in the registry's order; a validation metric joins the metric that it validates."""
    metrics = {metric.name: metric for metric in history.metrics()}
    return [
        _chart(metric, metrics.get(HELD_OUT + name), history, others)
        for name, metric in metrics.items()
        if not (name.startswith(HELD_OUT) and name.removeprefix(HELD_OUT) in metrics)
    ]


def _chart(metric: Metric, validation: Metric | None, history: RunHistory, others: Sequence[Other]) -> Chart:
    sparse = metric.name.startswith(HELD_OUT)
    curves = [Trace("", history.curves[metric.name], metric.unit, MAIN, _DOT if sparse else "", not sparse)]
    if validation:
        curves.append(Trace("validation", history.curves[validation.name], metric.unit, VALIDATION, _DOT, False))
    if metric.name == MEMORY and len(history.planned):
        curves.append(Trace("planned at most", history.planned, metric.unit, VALIDATION, "", False))
    for other in others:
        found = other.history.curves
        if metric.name in found:
            sign = other.letter if sparse or HELD_OUT + metric.name not in found else ""
            curves.append(Trace(other.letter, found[metric.name], metric.unit, OTHER + other.place, sign, not sparse))
        if validation and validation.name in found:
            label = f"{other.letter} validation"
            curves.append(Trace(label, found[validation.name], metric.unit, OTHER + other.place, other.letter, False))
    unit = f" ({metric.unit})" if metric.unit and metric.unit not in metric.title else ""
    return Chart(f"{metric.title}{unit}", tuple(curves))
