import math

import pytest
from rich.cells import cell_len

from minimind_tui.core.plot import AXIS, Layer, Row, draw

_FALL = [(float(step), 5 * math.exp(-step / 60) + 1) for step in range(240)]


def _lines(rows: list[Row]) -> list[str]:
    return ["".join(text for text, _ in row) for row in rows]


def _roles(rows: list[Row]) -> set[int]:
    return {role for row in rows for text, role in row if text.strip()}


@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize(
    "values",
    [
        [], [math.nan] * 5, [math.inf, 1.0, 2.0], [-math.inf], [3.0], [3.0] * 4, [1e300, -1e300], [1e-320, 1.0],
        [0.0, -1.0, 2.0], [0.0, 0.0], [1e-9, 1e9], [5_123_456.0, 5_200_000.0], [1.0, math.nan, 2.0, math.inf, 3.0],
        [-5.0, -4.0],
    ],
)  # fmt: skip
def test_every_curve_fills_its_cells_exactly(values: list[float], log_y: bool) -> None:
    points = [(float(step), value) for step, value in enumerate(values)]
    for width, height in ((60, 12), (20, 5), (8, 3), (3, 2), (1, 1), (220, 50)):
        lines = _lines(draw([Layer(points)], width, height, log_y=log_y).rows)
        assert [cell_len(line) for line in lines] == [width] * height


def test_two_curves_have_their_own_roles() -> None:
    rows = draw([Layer(_FALL), Layer(_FALL[::40], 1)], 60, 12).rows
    assert _roles(rows) == {AXIS, 0, 1}


def test_a_falling_curve_falls() -> None:
    lines = _lines(draw([Layer(_FALL)], 60, 12).rows)
    left = next(y for y, line in enumerate(lines) if any("⠀" < c <= "⣿" for c in line[:12]))
    right = next(y for y, line in enumerate(lines) if any("⠀" < c <= "⣿" for c in line[-12:]))
    assert left < right


def test_a_gap_is_not_drawn_over() -> None:
    gap = [(float(x), 1.0 if x < 10 or x > 50 else math.nan) for x in range(60)]
    whole = [(float(x), 1.0) for x in range(60)]

    def drawn(points: list[tuple[float, float]]) -> int:
        return sum(len(text) for row in draw([Layer(points)], 60, 8).rows for text, role in row if role == 0)

    assert drawn(gap) < drawn(whole) / 2


def test_a_log_axis_is_labelled_in_the_values_of_the_metric() -> None:
    text = "\n".join(_lines(draw([Layer([(float(x), 10.0**x) for x in range(-3, 4)])], 60, 14, log_y=True).rows))
    assert "1e-3┤" in text
    assert "1,000┤" in text


def test_steps_are_whole_numbers_on_the_axis() -> None:
    assert "." not in _lines(draw([Layer([(5.0, 1.0)])], 60, 8).rows)[-1]


def test_a_sign_marks_few_points_or_the_newest_of_many() -> None:
    few, many = (_lines(draw([Layer(_FALL[::stride], sign="a")], 60, 12).rows) for stride in (40, 1))
    assert "".join(few).count("a") == 6
    assert "".join(many).count("a") == 1


def test_columns_and_steps_belong_together() -> None:
    drawing = draw([Layer([(0.0, 0.0), (30.0, 1.0), (100.0, 0.5)], sign="x")], 60, 10)
    lines = _lines(drawing.rows)
    assert drawing.left == lines[0].index("┤") + 1
    assert [drawing.step_at(column) for column in (0, drawing.columns - 1)] == [0.0, 100.0]
    top = next(line for line in lines if "x" in line)
    assert drawing.left + drawing.column_of(30.0) == top.index("x")
    assert (drawing.column_of(-5.0), drawing.column_of(1e9)) == (0, drawing.columns - 1)
    assert draw([], 60, 10).columns == 0
