import math

import pytest

from minimind_tui.core.series import RECENT, Series, smoothed


def _series(count: int) -> Series:
    series = Series()
    for step in range(count):
        series.append(step, math.sin(step / 50))
    return series


def test_a_window_of_a_long_history_is_about_two_points_a_column() -> None:
    series = _series(100_000)
    window = series.window(60)
    assert 60 <= len(window) <= 2 * 60
    assert window == sorted(window, key=lambda point: point[0])


def test_a_spike_survives_downsampling() -> None:
    series = _series(50_000)
    series.append(50_000, 99.0)
    for step in range(50_001, 80_000):
        series.append(step, 0.0)
    assert max(value for _, value in series.window(40)) == 99.0
    assert series.best(+1) == 99.0
    assert series.best(-1) == min(series.values)


def test_the_recent_window_holds_the_newest_points_only() -> None:
    series = _series(1_000)
    window = series.window(500, series.recent())
    assert [step for step, _ in window] == list(range(1_000 - RECENT, 1_000))


def test_dropping_what_a_resume_takes_back() -> None:
    series = _series(5_000)
    series.append(5_000, 77.0)
    version = series.version
    series.drop_after(2_000)
    assert (len(series), series.steps[-1], series.best(+1)) == (2_001, 2_000, max(series.values))
    assert series.version > version
    series.append(2_001, 5.0)
    assert series.last == 5.0


def test_values_that_are_not_finite() -> None:
    series = Series()
    assert series.best(-1) is None
    for step, value in enumerate([math.nan, 1.0, math.inf, 0.5]):
        series.append(step, value)
    assert (series.first, series.best(-1), series.best_point(-1)) == (1.0, 0.5, (3, 0.5))
    assert math.isnan(series.window(80)[0][1])


def test_a_span_of_another_run_is_cut_out_of_a_long_history() -> None:
    series = _series(100_000)
    assert series.window(50, (70_000, 70_010)) == [(step, math.sin(step / 50)) for step in range(70_000, 70_011)]
    long = series.window(50, (50_000, 90_000))
    assert 50 <= len(long) <= 100 and long[0][0] >= 49_900 and long[-1][0] <= 90_000
    assert series.window(50, (200_000, 300_000)) == []


def test_means_are_those_of_all_points_of_a_column() -> None:
    series = Series()
    for step, value in enumerate([1.0, 3.0, math.nan, 5.0, math.nan, math.inf]):
        series.append(step, value)
    assert series.means(3)[:2] == [(1, 2.0), (3, 5.0)]
    assert math.isnan(series.means(3)[2][1])
    long = Series()
    for step in range(10_000):
        long.append(step, float(step % 2))
    assert {round(value, 2) for _, value in long.means(50)} == {0.5}
    assert 25 <= len(long.means(50)) <= 50


def test_smoothing_corrects_its_bias_and_leaves_gaps() -> None:
    points = [(0.0, 4.0), (1.0, 8.0), (2.0, math.nan), (3.0, 2.0)]
    found = smoothed(points, half_life=1.0)
    # weights 1/2, 1/4 …: (8/2 + 4/4) / (3/4), then (2/2 + 8/4 + 4/8) / (7/8)
    assert [value for _, value in found[:2]] == [4.0, pytest.approx(20 / 3)]
    assert math.isnan(found[2][1])
    assert found[3] == (3.0, pytest.approx(4.0))


def test_the_point_near_a_step() -> None:
    series = _series(0)
    assert series.near(3) is None
    for step in (10, 20, 40):
        series.append(step, step / 10)
    assert [series.near(step) for step in (0, 14, 16, 29, 31, 99)] == [
        (10, 1.0), (10, 1.0), (20, 2.0), (20, 2.0), (40, 4.0), (40, 4.0)]  # fmt: skip
