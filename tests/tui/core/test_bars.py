"""Histograms."""

from rich.cells import cell_len

from minimind_tui.core.bars import BAR, draw_bars
from minimind_tui.core.plot import AXIS, Row


def texts(rows: list[Row]) -> list[str]:
    return ["".join(text for text, _ in row) for row in rows]


def test_bars_fill_exactly_the_room_there_is() -> None:
    rows = draw_bars([1, 5, 9, 0, 2], 10, 60, 40, 10)
    assert len(rows) == 10 and {cell_len(text) for text in texts(rows)} == {40}
    assert {role for row in rows for _, role in row} == {AXIS, BAR}
    bars = [sum(text.count("█") for text, role in row if role == BAR) for row in rows]
    assert bars[0] < bars[-4], "the highest bar is one of several"
    assert "20" in texts(rows)[-1] and "0┤" in texts(rows)[-3]


def test_odd_data_still_draws() -> None:
    for counts, first, last in (([3], 5, 5), ([1] * 24, 1, 2), ([10**9, 1], 0, 10**6)):
        assert {cell_len(text) for text in texts(draw_bars(counts, first, last, 30, 6))} == {30}
    for counts in ([], [0, 0]):
        assert texts(draw_bars(counts, 0, 1, 30, 2)) == [" " * 30] * 2
    assert texts(draw_bars([1], 0, 1, 5, 2)) == [" " * 5] * 2
