"""Curves as rows of text cells, drawn by plotext 6. Torch-free, and plotext is imported at the first drawing."""

import math
import re
from collections.abc import Sequence
from typing import Any

from minimind_tui.core.figures import number
from minimind_tui.core.series import Points

AXIS = -1
"""The role of axes and labels; curves have the roles 0, 1, 2 …"""

Row = list[tuple[str, int]]
"""Runs of text with their role."""

_SGR = re.compile(r"\x1b\[([\d;]*)m")
_LARGEST = 1e100


def draw(curves: Sequence[Points], width: int, height: int, *, log_y: bool = False) -> list[Row]:
    """Draws curves into exactly `height` rows of `width` cells.

    Non-finite values, and values of 0 or less on a log axis, are gaps. Without a single value that can be shown, the
    rows are empty.
    """
    usable = [[(x, _scaled(y, log_y)) for x, y in curve if math.isfinite(x)] for curve in curves]
    values = [y for curve in usable for _, y in curve if y is not None]
    steps = [x for curve in usable for x, y in curve if y is not None]
    if not values or width < 8 or height < 3:
        return [[(" " * width, AXIS)] for _ in range(height)]
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
    rows = max(3, height // 2)
    y_ticks = _log_ticks(low, high, rows) if log_y else _ticks(low, high, rows)
    figure.ruler(1, 0).ticks(y_ticks, [_label(10**tick if log_y else tick) for tick in y_ticks])
    x_ticks = _ticks(left, right, max(2, width // 10), least=1.0)
    figure.ruler(0, 0).ticks(x_ticks, [_label(tick) for tick in x_ticks])
    for role, curve in enumerate(usable):
        colour = pixel((role, 0, 0))
        _draw_curve(figure, curve, marker("braille", colour))
        if role and len(curve) <= width // 3:
            _draw_points(figure, curve, marker("●", colour))
    return _rows(figure.build().string(), width, height)


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


def _draw_points(figure: Any, curve: Sequence[tuple[float, float | None]], marker: Any) -> None:
    """Marks the points of a curve that has few of them, such as the validations beside the training loss."""
    shown = [(x, y) for x, y in curve if y is not None]
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
    values = _ticks(10**low, 10**high, count)
    return [math.log10(value) for value in values if value > 0] or [low, high]


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
