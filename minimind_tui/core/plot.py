"""Curves as rows of text cells, drawn by plotext 6. Torch-free, and plotext is imported at the first drawing."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minimind_tui.core.figures import number
from minimind_tui.core.series import Points

AXIS = -1
"""The role of axes and labels; curves have roles from 0."""

Row = list[tuple[str, int]]
"""Runs of text with their role."""

_SGR = re.compile(r"\x1b\[([\d;]*)m")
_LARGEST = 1e100
_EDGES = "│┤"


@dataclass(frozen=True)
class Layer:
    """A curve as it is drawn; a later one stands before an earlier one.

    Attributes:
        points: In order of steps; a non-finite value is a gap.
        role: What it is painted as, see the widget.
        sign: One cell of text that marks every point where there are few, else the newest only; empty: none.
    """

    points: Points
    role: int = 0
    sign: str = ""


@dataclass(frozen=True)
class Drawing:
    """Rows of cells, and where in them the curves lie.

    Attributes:
        left, columns: The first cell of the curves and how many there are; 0 columns where nothing is drawn.
        first, last: The steps of the first and the last of these cells.
    """

    rows: list[Row]
    left: int = 0
    columns: int = 0
    first: float = 0.0
    last: float = 0.0

    def step_at(self, column: int) -> float:
        """The step of a column, counted from `left`."""
        return self.first + (self.last - self.first) * column / max(1, self.columns - 1)

    def column_of(self, step: float) -> int:
        """The column of a step, within the drawing."""
        share = (step - self.first) / (self.last - self.first) if self.last > self.first else 0.0
        return math.floor(min(1.0, max(0.0, share)) * (self.columns - 1) + 0.5)


def draw(layers: Sequence[Layer], width: int, height: int, *, log_y: bool = False) -> Drawing:
    """Draws curves into exactly `height` rows of `width` cells.

    Non-finite values, and values of 0 or less on a log axis, are gaps. Without a single value that can be shown, the
    rows are empty.
    """
    curves = [[(x, _scaled(y, log_y)) for x, y in layer.points if math.isfinite(x)] for layer in layers]
    values = [y for curve in curves for _, y in curve if y is not None]
    steps = [x for curve in curves for x, y in curve if y is not None]
    if not values or width < 8 or height < 3:
        return Drawing([[(" " * width, AXIS)] for _ in range(height)])
    low, high = _limits(min(values), max(values))
    left, right = min(steps), max(steps)
    if left == right:
        left, right = left - 1, right + 1
    figure, pixel, marker = _plotext()
    figure.clear()
    figure.plot_size(width, height)
    figure.canvas("default")
    grey = pixel((AXIS + 255, 0, 0))
    figure.axes(True, pixel=grey)
    figure.axes(False, side=1)
    figure.ruler((0, 1), (0, 1)).pixel(grey)
    figure.ruler(0, 0).lim(left, right)
    figure.ruler(1, 0).lim(low, high)
    count = max(min(4, height - 2), height // 2)
    y_ticks = _log_ticks(low, high, count) if log_y else _ticks(low, high, count)
    figure.ruler(1, 0).ticks(y_ticks, [_label(10**tick if log_y else tick) for tick in y_ticks])
    x_ticks = _ticks(left, right, max(2, width // 10), least=1.0)
    figure.ruler(0, 0).ticks(x_ticks, [_label(tick) for tick in x_ticks])
    for layer, curve in zip(layers, curves, strict=True):
        colour = pixel((layer.role, 0, 0))
        _draw_curve(figure, curve, marker("braille", colour))
        if layer.sign:
            _draw_signs(figure, curve, marker(layer.sign, colour), few=width // 3)
    rows = _rows(figure.build().string(), width, height)
    edge = next((place for place, cell in enumerate("".join(text for text, _ in rows[0])) if cell in _EDGES), -1)
    return Drawing(rows, edge + 1, width - edge - 1, left, right)


def load() -> None:
    """Loads plotext, which takes a moment: call it from a thread before the first drawing."""
    _plotext()


def _plotext() -> tuple[Any, Any, Any]:
    import plotext  # type: ignore[import-untyped]

    plotext.terminal.limit(False, False)
    return plotext.figure, plotext.pixel, plotext.marker


def _scaled(value: float, log_y: bool) -> float | None:
    if not math.isfinite(value) or abs(value) > _LARGEST or (log_y and value <= 0):
        return None
    return math.log10(value) if log_y else value


def _draw_curve(figure: Any, curve: Sequence[tuple[float, float | None]], marker: Any) -> None:
    """One signal a curve, broken where a value is missing."""
    shown = [(x, y) for x, y in curve if y is not None]
    if not shown:
        return
    signal = figure.signal([x for x, _ in shown], [y for _, y in shown], marker=marker).lines()
    index, gap = 0, False
    for _, value in curve:
        if value is None:
            gap = True
            continue
        if gap and index:
            signal.line(index, False)
        index, gap = index + 1, False
    figure.draw(signal)


def _draw_signs(figure: Any, curve: Sequence[tuple[float, float | None]], marker: Any, few: int) -> None:
    """Marks the points of a curve that has few of them, such as the validations beside the training loss."""
    shown = [(x, y) for x, y in curve if y is not None]
    if len(shown) > few:
        shown = shown[-1:]
    if shown:
        figure.draw(figure.signal([x for x, _ in shown], [y for _, y in shown], marker=marker))


def _limits(low: float, high: float) -> tuple[float, float]:
    """Limits that are apart, also for a single value."""
    if high - low > 1e-9 * max(abs(low), abs(high)):
        return low, high
    margin = abs(low) * 0.05 or 1.0
    return low - margin, high + margin


def _ticks(low: float, high: float, count: int, *, least: float = 0.0) -> list[float]:
    """Round positions from low to high, about `count` of them and no closer than `least`."""
    rough = max((high - low) / count, least)
    power = 10.0 ** math.floor(math.log10(rough))
    stride = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / stride - 1e-9), math.floor(high / stride + 1e-9)
    return [index * stride for index in range(first, last + 1)]


def _log_ticks(low: float, high: float, count: int) -> list[float]:
    """Exponents of round values; powers of ten where they are enough."""
    decades = list(range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1))
    if len(decades) >= 3:
        return [float(exponent) for exponent in decades[:: -(-len(decades) // (count + 1))]]
    first, last = math.floor(low), math.ceil(high)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        round_values = [digit * 10.0**exponent for exponent in range(first, last + 1) for digit in digits]
        inside = [math.log10(value) for value in round_values if low <= math.log10(value) <= high]
        if 2 <= len(inside) <= count + 1:
            return inside
    return [math.log10(value) for value in _ticks(10**low, 10**high, count) if value > 0] or [low, high]


def _label(value: float) -> str:
    return number(float(f"{value:.6g}"))


def _rows(text: str, width: int, height: int) -> list[Row]:
    """The figure's cells: each colour that was given stands for a role."""
    rows: list[Row] = []
    for line in text.split("\n")[:height]:
        role, row, used = AXIS, [], 0
        for index, part in enumerate(_SGR.split(line)):
            if index % 2:
                role = _role(part, role)
            elif part:
                row.append((part, role))
                used += len(part)
        rows.append([*row, (" " * (width - used), AXIS)] if used < width else row)
    return rows + [[(" " * width, AXIS)]] * (height - len(rows))


def _role(code: str, role: int) -> int:
    """The role that a colour code stands for; plotext writes a foreground as `38;2;R;G;B`."""
    if code.startswith("38;2;"):
        red = int(code.split(";")[2])
        return AXIS if red == AXIS + 255 else red
    return AXIS if code in ("", "0") else role
