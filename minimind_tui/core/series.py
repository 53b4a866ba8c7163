"""One metric's curve: points come one by one, a window of a fixed cost goes out."""

import math
from array import array
from bisect import bisect_right

Points = list[tuple[float, float]]

RECENT = 60
"""How many of the newest points the recent view shows."""
_BUCKETS = 2048


class Series:
    """Steps and values in order.

    Appending is O(1). Beside the points stands an overview of at most 2,048 buckets, each with its smallest and its
    largest value; when it is full, neighbours are merged. A window of the whole history costs what the overview costs.
    """

    def __init__(self) -> None:
        self.steps, self.values = array("d"), array("d")
        self.version = 0
        self._clear_overview()

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def last(self) -> float | None:
        """The newest value."""
        return self.values[-1] if self.values else None

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
        self._clear_overview()
        for at, value in zip(self.steps, self.values, strict=True):
            self._overlook(at, value)
        self.version += 1

    def best(self, direction: int) -> float | None:
        """The lowest (direction below 0) or highest finite value."""
        finite = [point for bucket in self._buckets for point in bucket if math.isfinite(point[1])]
        if not finite:
            return None
        return min(value for _, value in finite) if direction < 0 else max(value for _, value in finite)

    def window(self, columns: int, *, whole: bool) -> Points:
        """The curve in about two points a column; a non-finite value stands for a gap."""
        if not whole or len(self.steps) <= 2 * columns:
            start = 0 if whole else max(0, len(self.steps) - RECENT)
            points = list(zip(self.steps[start:], self.values[start:], strict=True))
        else:
            points = [point for bucket in self._buckets for point in bucket]
        stride = -(-len(points) // max(1, columns))
        if stride <= 2:
            return points
        return [point for at in range(0, len(points), stride) for point in _extremes(points[at : at + stride])]

    def _clear_overview(self) -> None:
        self._buckets: list[Points] = []
        self._per_bucket, self._in_last = 1, 0

    def _overlook(self, step: float, value: float) -> None:
        if self._buckets and self._in_last < self._per_bucket:
            self._buckets[-1] = _extremes([*self._buckets[-1], (step, value)])
            self._in_last += 1
            return
        if len(self._buckets) == _BUCKETS:
            pairs = zip(self._buckets[::2], self._buckets[1::2], strict=True)
            self._buckets = [_extremes([*left, *right]) for left, right in pairs]
            self._per_bucket *= 2
        self._buckets.append([(step, value)])
        self._in_last = 1


def _extremes(points: Points) -> Points:
    """The lowest and the highest of some points in the order in which they came; a gap where none is finite."""
    finite = [point for point in points if math.isfinite(point[1])]
    if len(finite) < 2:
        return finite or points[:1]
    low, high = min(finite, key=lambda point: point[1]), max(finite, key=lambda point: point[1])
    return [low] if low is high else sorted((low, high))
