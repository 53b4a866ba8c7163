import math

from minimind_tui.core.series import RECENT, Series


def _series(count: int) -> Series:
    series = Series()
    for step in range(count):
        series.append(step, math.sin(step / 50))
    return series


def test_a_window_of_a_long_history_is_about_two_points_a_column() -> None:
    series = _series(100_000)
    window = series.window(60, whole=True)
    assert 60 <= len(window) <= 2 * 60
    assert window == sorted(window, key=lambda point: point[0])


def test_a_spike_survives_downsampling() -> None:
    series = _series(50_000)
    series.append(50_000, 99.0)
    for step in range(50_001, 80_000):
        series.append(step, 0.0)
    assert max(value for _, value in series.window(40, whole=True)) == 99.0
    assert series.best(+1) == 99.0
    assert series.best(-1) == min(series.values)


def test_the_recent_window_holds_the_newest_points_only() -> None:
    window = _series(1_000).window(500, whole=False)
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
    assert series.best(-1) == 0.5
    assert math.isnan(series.window(80, whole=True)[0][1])
