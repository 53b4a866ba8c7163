"""What came of a run that is over: what it learnt, what it left, what can be done next. Torch-free, without Textual."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engine.settings.registry import STAGES, Metric, StageInfo
from minimind_tui.core.figures import number
from minimind_tui.core.history import RunHistory

_KNOWN = ("run", "path", "status", "steps", "tokens", "checkpoint", "train_loss", "tokens_per_second", "peak_bytes",
          "resident_bytes")  # fmt: skip
"""What the screen shows elsewhere, or as curves."""


@dataclass(frozen=True)
class Gain:
    """A metric's way: first, last and best finite value; the step of the best."""

    metric: Metric
    first: float
    last: float
    best: float
    best_step: int


def gains(history: RunHistory) -> list[Gain]:
    """The way of each leading metric that has a finite value."""
    found = []
    for metric in history.leading():
        curve = history.curves[metric.name]
        best = curve.best_point(metric.direction)
        if best is not None and curve.first is not None:
            last = next(value for value in reversed(curve.values) if math.isfinite(value))
            found.append(Gain(metric, curve.first, last, best[1], round(best[0])))
    return found


def summary_rows(history: RunHistory) -> list[tuple[str, str]]:
    """What the end said besides, as names and values; nested groups have their names before it."""
    summary = history.finished.summary if history.finished else {}
    rest = {key: value for key, value in summary.items() if key not in _KNOWN and key not in history.curves}
    return list(_flat(rest, ""))


def _flat(values: Mapping[str, Any], before: str) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{before}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name} · ")
        elif isinstance(value, bool) or value is None:
            yield name, "–" if value is None else "yes" if value else "no"
        elif isinstance(value, int | float):
            yield name, number(value)
        elif isinstance(value, str):
            yield name, value


def next_stages(stage: str) -> list[StageInfo]:
    """The stages that usually start from a run of this one; a tokenizer is what the first of them need."""
    if stage not in STAGES:
        return []
    if "from" in STAGES[stage].settings:
        return [other for other in STAGES.values() if stage in other.starts_from]
    return [other for other in STAGES.values() if "tokenizer" in other.settings and not other.starts_from]
