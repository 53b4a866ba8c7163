"""A histogram as rows of text cells, drawn by plotext 6. Torch-free, and plotext is imported at the first drawing."""

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from minimind_tui.core.figures import number
from minimind_tui.core.plot import AXIS, Row

BAR = 0
"""The role of bars; axes and labels have the role `AXIS`."""

_BLOCKS = frozenset("█▀▄▌▐▛▜▙▟▖▗▘▝▞▚")
_SGR = re.compile(r"\x1b\[[\d;]*m")
_FEWEST_COLUMNS, _FEWEST_ROWS = 16, 4


def draw_bars(
    counts: Sequence[int], first: float, last: float, width: int, height: int, *, limit: float | None = None
) -> list[Row]:
    """Draws counts as touching bars from `first` to `last` into exactly `height` rows of `width` cells.

    Args:
        counts: One a bar, all of the same width.
        first: Where the first bar begins.
        last: Where the last one ends.
        width: Columns.
        height: Rows.
        limit: The end of the axis, where it shall be farther than the last bar.
    """
    if not counts or not any(counts) or width < _FEWEST_COLUMNS or height < _FEWEST_ROWS:
        return [[(" " * width, AXIS)] for _ in range(height)]
    last = max(last, first + 1)
    step = (last - first) / len(counts)
    figure = _figure(width, height)
    figure.ruler(0, 0).lim(first, max(last, limit or last))
    figure.ruler(1, 0).lim(0, max(counts))
    ends = _round_ticks(first, max(last, limit or last), max(3, width // 10))
    figure.ruler(0, 0).ticks(ends, [number(tick) for tick in ends])
    levels = _round_ticks(0, max(counts), max(2, height // 3))
    figure.ruler(1, 0).ticks(levels, [number(tick) for tick in levels])
    middles = [first + (place + 0.5) * step for place in range(len(counts))]
    figure.draw(figure.bar(middles, list(counts), marker="hd", width=1, _reset_ticks=False))
    lines = _SGR.sub("", figure.build().string()).split("\n")
    return [_row(line, width) for line in (*lines, *[""] * height)[:height]]


def _figure(width: int, height: int) -> Any:
    import plotext  # type: ignore[import-untyped]

    plotext.terminal.limit(False, False)
    figure = plotext.figure
    figure.clear()
    figure.plot_size(width, height)
    figure.axes(True)
    figure.axes(False, side=1)
    return figure


def _round_ticks(low: float, high: float, count: int) -> list[float]:
    """Round whole positions from low to high, at most about `count` of them."""
    stride = 1
    while (high - low) / stride > count:
        stride = stride * 5 // 2 if str(stride)[0] == "2" else stride * 2
    return [float(tick) for tick in range(-int(-low // stride) * stride, int(high) + 1, stride)]


def _row(line: str, width: int) -> Row:
    cells = line[:width].ljust(width)
    return [("".join(run), BAR if is_bar else AXIS) for is_bar, run in groupby(cells, lambda cell: cell in _BLOCKS)]
