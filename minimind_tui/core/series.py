"""One metric's curve: points come one by one, a view of a fixed cost goes out."""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

Point = tuple[float, float]
Points = list[Point]

RECENT = 60
"""How many of the newest points the recent view shows."""
_BUCKETS = 2048


class _Bucket:
    """Neighbouring points in short: the lowest, the highest, the last step, and the sum of the finite values."""

    __slots__ = ("count", "high", "last", "low", "points", "total")

    def __init__(self, step: float, value: float) -> None:
        finite = math.isfinite(value)
        self.low = self.high = (step, value)
        self.last, self.points = step, 1
        self.total, self.count = (value, 1) if finite else (0.0, 0)

    def absorb(self, later: "_Bucket") -> None:
        """Takes in the points that follow."""
        if not self.count:
            self.low, self.high = later.low, later.high
        elif later.count:
            if later.low[1] < self.low[1]:
                self.low = later.low
            if later.high[1] > self.high[1]:
                self.high = later.high
        self.total, self.count = self.total + later.total, self.count + later.count
        self.last, self.points = later.last, self.points + later.points

    def extremes(self) -> Points:
        """The lowest and the highest point in the order in which they came; a gap where none is finite."""
        if self.low[0] == self.high[0]:
            return [self.low]
        return [self.low, self.high] if self.low[0] < self.high[0] else [self.high, self.low]

    def mean(self) -> Point:
        """The mean of the finite values at the last step; a gap where there is none."""
        return self.last, self.total / self.count if self.count else math.nan


class Series:
    """Steps and values in order.

    Appending is O(1). Beside the points stands an overview of at most 2,048 buckets; when it is full, neighbours are
    merged. A view of the whole history costs what the overview costs.
    """

    def __init__(self) -> None:
        self.steps, self.values = array("d"), array("d")
        self.version = 0
        self._buckets: list[_Bucket] = []
        self._per_bucket = 1

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def last(self) -> float | None:
        """The newest value."""
        return self.values[-1] if self.values else None

    @property
    def first(self) -> float | None:
        """The first finite value."""
        return next((value for value in self.values if math.isfinite(value)), None)

    def append(self, step: float, value: float) -> None:
        """Adds a point; steps must not fall."""
        self.steps.append(step)
        self.values.append(value)
        self._overlook(step, value)
        self.version += 1

    def drop_after(self, step: float) -> None:
        """Forgets the points of later steps, which a resumed run computes again."""
        keep = bisect_right(self.steps, step)
        if keep == len(self.steps):
            return
        del self.steps[keep:], self.values[keep:]
        self._buckets, self._per_bucket = [], 1
        for at, value in zip(self.steps, self.values, strict=True):
            self._overlook(at, value)
        self.version += 1

    def best(self, direction: int) -> float | None:
        """The lowest (direction below 0) or highest finite value."""
        point = self.best_point(direction)
        return point[1] if point else None

    def best_point(self, direction: int) -> Point | None:
        """The point of the best value."""
        finite = [bucket for bucket in self._buckets if bucket.count]
        if not finite:
            return None
        if direction < 0:
            return min((bucket.low for bucket in finite), key=lambda point: point[1])
        return max((bucket.high for bucket in finite), key=lambda point: point[1])

    def near(self, step: float) -> Point | None:
        """The point whose step is nearest; None where there is none at all."""
        right = bisect_left(self.steps, step)
        places = [place for place in (right - 1, right) if 0 <= place < len(self.steps)]
        if not places:
            return None
        place = min(places, key=lambda place: abs(self.steps[place] - step))
        return self.steps[place], self.values[place]

    def recent(self) -> tuple[float, float]:
        """The steps from which to which the recent view goes."""
        if not self.steps:
            return 0.0, 0.0
        return self.steps[max(0, len(self.steps) - RECENT)], self.steps[-1]

    def window(self, columns: int, span: tuple[float, float] | None = None) -> Points:
        """The curve in at most two points a column; a non-finite value stands for a gap.

        Args:
            columns: How wide the view is.
            span: Only steps from the first to the second number; None: all.
        """
        buckets = self._seen(span)
        if len(buckets) > columns:
            buckets = _merged(buckets, columns)
        return [point for bucket in buckets for point in bucket.extremes()]

    def means(self, columns: int, span: tuple[float, float] | None = None) -> Points:
        """The curve in at most one point a column: means, for smoothing."""
        return [bucket.mean() for bucket in _merged(self._seen(span), columns)]

    def _seen(self, span: tuple[float, float] | None) -> list[_Bucket]:
        """The part of the overview within the span; of a short part the points themselves."""
        first, end = 0, len(self.steps)
        if span is not None:
            first, end = bisect_left(self.steps, span[0]), bisect_right(self.steps, span[1])
        if end - first <= _BUCKETS:
            points = zip(self.steps[first:end], self.values[first:end], strict=True)
            return [_Bucket(step, value) for step, value in points]
        if span is None:
            return self._buckets
        return [bucket for bucket in self._buckets if span[0] <= bucket.last <= span[1]]

    def _overlook(self, step: float, value: float) -> None:
        new = _Bucket(step, value)
        if self._buckets and self._buckets[-1].points < self._per_bucket:
            self._buckets[-1].absorb(new)
            return
        if len(self._buckets) == _BUCKETS:
            for left, right in zip(self._buckets[::2], self._buckets[1::2], strict=True):
                left.absorb(right)
            del self._buckets[1::2]
            self._per_bucket *= 2
        self._buckets.append(new)


def _merged(buckets: Sequence[_Bucket], columns: int) -> list[_Bucket]:
    """At most one bucket a column; those that are merged stay as they are."""
    stride = max(1, -(-len(buckets) // max(1, columns)))
    merged = []
    for start in range(0, len(buckets), stride):
        whole = _Bucket(0.0, math.nan)
        whole.points = 0
        for bucket in buckets[start : start + stride]:
            whole.absorb(bucket)
        merged.append(whole)
    return merged


def smoothed(points: Points, half_life: float) -> Points:
    """An exponential moving average with bias correction; gaps stay gaps and do not count.

    The average begins at 0 and is divided by the weight that it has gathered (Adam, Kingma & Ba 2015, section 3).

    Args:
        points: What is averaged.
        half_life: After so many points a value counts half.
    """
    decay = 0.5 ** (1 / half_life)
    average, weight, result = 0.0, 0.0, []
    for step, value in points:
        if math.isfinite(value):
            average = decay * average + (1 - decay) * value
            weight = decay * weight + (1 - decay)
            result.append((step, average / weight))
        else:
            result.append((step, value))
    return result
