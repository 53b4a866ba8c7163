import math

import pytest

from minimind_tui.core.figures import duration, metric, number, share, size


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (0, "0"), (3, "3"), (2.5518, "2.552"), (0.0015, "1.5e-3"), (1e-4, "1e-4"), (0.25, "0.25"),
        (1234.5, "1,234"), (57053, "57.1k"), (2_066_368, "2.07M"), (1e30, "1.0e+30"), (math.nan, "NaN"),
        (math.inf, "∞"), (-math.inf, "-∞"), (-0.5, "-0.5"),
    ],
)  # fmt: skip
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert number(value) == text
    assert len(number(value)) <= 7


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "–"), (0, "0s"), (59.4, "59s"), (185, "3m 05s"), (7620, "2h 07m"), (273_600, "3d 04h")]
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_units_decide_how_a_metric_is_written() -> None:
    assert metric(503_316_480.0, "bytes") == "480 MiB"
    assert metric(0.976, "share of tokens") == "98%"
    assert metric(2.5, "nats a token") == "2.5"
    assert size(3 * 2**30) == "3.0 GiB"
    assert share(math.nan) == "–"
