"""A run at a glance: what lists of runs show, read once and then only what came since."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

from engine.errors import CheckpointError
from engine.runs.events import Evaluated, Event, Finished, Resumed, RunStarted, Step
from engine.runs.folder import RunFolder
from engine.runs.history import EventTail, clean_history, metrics_of
from engine.settings.registry import STAGES, Metric, StageInfo


@dataclass(frozen=True)
class RunSummary:
    """One run of a list.

    Attributes:
        stage: The name of its stage.
        state: `running`, `done`, `stopped`, `failed`, or `interrupted`: it ended without saying so.
        total: Steps that it will take, 0 while unknown.
        tokens: Tokens read so far.
        metrics: The newest value of every metric.
        metric, best: The stage's leading metric and its best value at a validation, None while there is none. Of a
            metric that no validation reports it is the newest value.
        checkpoints: Steps that have a whole checkpoint.
        best_step: The step of the best checkpoint.
        began, said: When it began and when it last said something, in seconds since 1970.
        error: Why it failed.
        resolved: What its resolved.json holds.
    """

    run: RunFolder
    stage: str
    profile: str
    state: str
    step: int
    total: int
    tokens: int
    metrics: dict[str, float]
    metric: Metric | None
    best: float | None
    checkpoints: tuple[int, ...]
    best_step: int | None
    began: float
    said: float
    error: str
    resolved: dict[str, Any] = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def can_resume(self) -> bool:
        """Whether it ended before its last step and nobody runs it."""
        return self.state in ("stopped", "failed", "interrupted")

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Its settings: name → value, origin and section."""
        settings = self.resolved.get("settings")
        return settings if isinstance(settings, dict) else {}

    def place(self, name: str) -> str:
        """The file or folder that a setting names: `data`, `tokenizer` or `from`; empty where it names none."""
        value = self.settings.get(name, {}).get("value")
        return value if isinstance(value, str) else ""


class Digest:
    """Reads a run's folder; what is known already is not read again.

    Args:
        run: The run. Replaced by another of the same name, it is read anew.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._identity: tuple[int, int] | None = None
        self._seen: tuple[int, int] | None = None
        self._summary: RunSummary | None = None

    def read(self) -> RunSummary:
        """The run as it is now.

        Raises:
            EngineError: It cannot be read.
            OSError: It cannot be read, or was removed meanwhile.
        """
        made = self.run.resolved.stat()
        seen = _size_and_time(self.run)
        shrunk = self._seen is not None and seen[0] < self._seen[0]
        if self._identity != (made.st_ino, made.st_mtime_ns) or shrunk:
            self._resolved = self.run.read_json(self.run.resolved)
            self._tail, self._events = EventTail(self.run), list[Event]()
            self._identity, self._seen = (made.st_ino, made.st_mtime_ns), None
        if self._summary is None or self._seen != seen:
            self._events = _newest(clean_history([*self._events, *self._tail.newest()]))
            self._summary = _summary(self.run, self._resolved, self._events, made.st_mtime)
            self._seen = seen
        if not (self._events and isinstance(self._events[-1], Finished)):
            state = "running" if self.run.is_running() else "interrupted"
            if state != self._summary.state:
                self._summary = replace(self._summary, state=state)
        return self._summary


def summarise(run: RunFolder) -> RunSummary:
    """Reads a run's folder once.

    Raises:
        EngineError: It cannot be read.
        OSError: It cannot be read, or was removed meanwhile.
    """
    return Digest(run).read()


def _size_and_time(run: RunFolder) -> tuple[int, int]:
    try:
        found = run.events.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _newest(events: Sequence[Event]) -> list[Event]:
    """Without steps that another step follows."""
    return [
        event
        for event, following in zip_longest(events, events[1:])
        if not (isinstance(event, Step) and isinstance(following, Step))
    ]


def _summary(run: RunFolder, resolved: dict[str, Any], events: Sequence[Event], made: float) -> RunSummary:
    stage = STAGES.get(str(resolved.get("stage", "")))
    end = events[-1] if events and isinstance(events[-1], Finished) else None
    metrics = _newest_metrics(stage, list(events), end)
    metric, best = _leading(stage, events, metrics) if stage else (None, None)
    totals = [event.total_steps for event in events if isinstance(event, RunStarted)]
    tokens = [event.tokens for event in events if isinstance(event, Step)]
    return RunSummary(
        run=run,
        stage=str(resolved.get("stage", "")),
        profile=str(resolved.get("profile", "")),
        state=end.status if end else "interrupted",
        step=end.step if end else _step(events),
        total=totals[-1] if totals else 0,
        tokens=tokens[-1] if tokens else 0,
        metrics=metrics,
        metric=metric,
        best=best,
        checkpoints=tuple(run.checkpoint_steps()),
        best_step=_best_step(run),
        began=events[0].time if events else made,
        said=events[-1].time if events else made,
        error=end.error if end else "",
        resolved=resolved,
    )


def _best_step(run: RunFolder) -> int | None:
    """A damaged checkpoint is no reason to leave the run out."""
    try:
        return run.best_step()
    except CheckpointError:
        return None


def _step(events: Sequence[Event]) -> int:
    for event in reversed(events):
        if isinstance(event, Step):
            return event.step
        if isinstance(event, Resumed):
            return event.from_step
    return 0


def _newest_metrics(stage: StageInfo | None, events: list[Event], end: Finished | None) -> dict[str, float]:
    """The last value of every metric; a stage without steps tells its metrics in its summary."""
    curves = metrics_of(events)
    if curves or end is None or stage is None:
        return {name: points[-1][1] for name, points in curves.items()}
    told = {metric.name: end.summary.get(metric.name) for metric in stage.metrics}
    return {name: value for name, value in told.items() if value is not None}


def _leading(stage: StageInfo, events: Sequence[Event], newest: dict[str, float]) -> tuple[Metric | None, float | None]:
    """The first metric that has a direction and was reported, validation before training, and its best value."""
    directed = [metric for metric in stage.metrics if metric.direction]
    for metric in sorted(directed, key=lambda metric: not metric.name.startswith("val_")):
        if metric.name not in newest:
            continue
        said = [event.metrics[metric.name] for event in events
                if isinstance(event, Evaluated) and metric.name in event.metrics]  # fmt: skip
        finite = [value for value in said or [newest[metric.name]] if math.isfinite(value)]
        return metric, max(finite, key=lambda value: value * metric.direction, default=None)
    return None, None
