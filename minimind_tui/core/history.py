"""What a run has said so far, as screens need it. Torch-free and without Textual."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatchmethod

from engine.clean import clean
from engine.runs.events import (
    Adjusted,
    Audited,
    CheckpointSaved,
    ControlAcknowledged,
    Evaluated,
    Event,
    Finished,
    MemoryPlanned,
    NonFiniteStep,
    Progress,
    RanOutOfMemory,
    Resumed,
    RunStarted,
    Sampled,
    Step,
    Warned,
)
from engine.settings.registry import STAGES, Metric, StageInfo
from engine.settings.values import value_text
from minimind_tui.core.figures import metric as metric_text
from minimind_tui.core.figures import number, share
from minimind_tui.core.memory import Memory, read_plan
from minimind_tui.core.reported import leading, reported
from minimind_tui.core.series import Series

MEMORY = "memory_bytes"
"""The metric that says how much memory a run takes."""

INFO, WARNING, ERROR = "info", "warning", "error"


LEVELS = (INFO, WARNING, ERROR)
"""From the least to the most serious."""

NON_FINITE = "non_finite_step"
"""The name under which steps that were left out count among the warnings."""


@dataclass(frozen=True)
class Line:
    """A line of the log."""

    time: float
    level: str
    text: str


@dataclass(frozen=True)
class Alert:
    """A named warning: what it said last, at which step, and how often it has come."""

    name: str
    message: str
    step: int
    count: int = 1


class RunHistory:
    """Gathers a run's events into curves, progress, log and samples.

    Attributes:
        version: Grows with every change.
        status: `starting`, `preparing`, `running`, `paused`, `stopping`, or the end: `done`, `stopped`, `failed`.
        curves: Every metric's curve by name.
        log, samples, saved: In the order in which they came; `saved` are the checkpoints.
        alerts: Named warnings and steps that were left out, by name.
        unseen: Those of them that the user has not dismissed.
        plan: What it was expected to take.
        planned: The most of that over the steps, beside the curve of the memory that it took.
        ran_out: How its memory ran out, while nothing has happened since but its end.
    """

    def __init__(self) -> None:
        self.version = 0
        self.status, self.preparing, self.prepared = "starting", "", 0.0
        self.started: RunStarted | None = None
        self.finished: Finished | None = None
        self.curves: dict[str, Series] = {}
        self.step, self.epoch, self.tokens = 0, 0.0, 0
        self.log: list[Line] = []
        self.samples: list[Sampled] = []
        self.saved: list[CheckpointSaved] = []
        self.alerts: dict[str, Alert] = {}
        self.unseen: dict[str, Alert] = {}
        self.plan: Memory | None = None
        self.planned = Series()
        self.ran_out: RanOutOfMemory | None = None
        self._banked, self._since = 0.0, 0.0
        self._last_time = 0.0
        self._pace: deque[tuple[float, int]] = deque(maxlen=40)

    @property
    def over(self) -> bool:
        """Whether the run has said that it ended."""
        return self.finished is not None

    @property
    def total(self) -> int:
        """Steps that the run will take; 0 while unknown."""
        return self.started.total_steps if self.started else 0

    @property
    def fraction(self) -> float:
        """How much is done, 0 to 1: of the steps, or of the work before the first one."""
        if self.status == "done":
            return 1.0
        if self.preparing and not self.step:
            return self.prepared
        return min(1.0, self.step / self.total) if self.total else 0.0

    def elapsed(self, now: float | None = None, *, alive: bool = True) -> float:
        """Seconds that the run has worked, the time between its sessions left out.

        Args:
            now: The time, by default the clock's.
            alive: Whether it goes on; one that was killed worked until it last said something.
        """
        end = self._last_time if self.over or not alive else (now or time.time())
        return self._banked + (max(0.0, end - self._since) if self._since else 0.0)

    def seconds_left(self) -> float | None:
        """An estimate from the pace of the newest steps."""
        if self.over or len(self._pace) < 2:
            return None
        (began, first), (ended, last) = self._pace[0], self._pace[-1]
        return (self.total - last) * (ended - began) / (last - first) if last > first else None

    def metrics(self) -> list[Metric]:
        """What the stage reports, see `minimind_tui.core.reported`."""
        return reported(self._stage, self.curves)

    def leading(self) -> list[Metric]:
        """The metrics that say what was learnt."""
        return leading(self._stage, self.curves)

    @property
    def _stage(self) -> StageInfo | None:
        return STAGES.get(self.started.stage) if self.started else None

    @property
    def saved_step(self) -> int | None:
        """The step of the newest checkpoint."""
        return self.saved[-1].step if self.saved else None

    def mark_seen(self) -> None:
        """The user has seen all warnings so far."""
        self.unseen = {}
        self.version += 1

    def value(self, name: str) -> float | None:
        """The newest value of a metric."""
        return self.curves[name].last if name in self.curves else None

    def feed(self, events: Sequence[Event]) -> None:
        """Takes new events."""
        for event in events:
            if not self._since and not isinstance(event, Finished):
                self._since = event.time
            self._take(event)
            self._last_time = event.time
        self.version += bool(events)

    def _say(self, event: Event, text: str, level: str = INFO) -> None:
        self.log.append(Line(event.time, level, clean(text)))

    @singledispatchmethod
    def _take(self, event: Event) -> None:
        """One event; types without a method of their own need nothing."""

    @_take.register
    def _(self, event: Progress) -> None:
        if self.over:
            self._reopen(event.time)
        if event.what != self.preparing:
            self._say(event, event.what)
        self.status, self.preparing, self.prepared = "preparing", clean(event.what), event.done

    @_take.register
    def _(self, event: Audited) -> None:
        audit = event.audit
        parts = [f"{number(audit['usable'])} rows", f"{number(audit['tokens'])} tokens"]
        parts.append(f"{share(audit['trained_share'])} trained")
        if audit["quarantined"]:
            parts.append(f"{len(audit['quarantined'])} lines quarantined")
        self._say(event, ", ".join(parts))

    @_take.register
    def _(self, event: MemoryPlanned) -> None:
        self.plan = read_plan(event.plan)
        if self.plan is not None:
            self._say(event, f"memory: {self.plan.range} expected")

    @_take.register
    def _(self, event: RanOutOfMemory) -> None:
        self.ran_out = event
        self._say(event, f"step {event.step:,}: out of memory in {event.phase}: {event.what}", ERROR)

    @_take.register
    def _(self, event: Adjusted) -> None:
        self.ran_out = None
        changes = " ".join(f"{name}={value_text(value)}" for name, value in event.changes.items())
        self._say(event, f"{event.reason}: {changes}")

    @_take.register
    def _(self, event: RunStarted) -> None:
        self.started, self.status = event, "running"
        if not event.parameters:
            return
        self.preparing = ""
        threads = f"{event.threads} thread{'s' if event.threads != 1 else ''}"
        self._say(event, f"{number(event.parameters)} parameters, {event.dtype}, {event.device}, {threads}")

    @_take.register
    def _(self, event: Step) -> None:
        self.step, self.epoch, self.tokens = event.step, event.epoch, event.tokens
        self._pace.append((event.time, event.step))
        self._gather(event.step, event.metrics)

    @_take.register
    def _(self, event: Evaluated) -> None:
        self._gather(event.step, event.metrics)
        self._pace.clear()
        shown = [
            f"{metric.title} {metric_text(event.metrics[metric.name], metric.unit)}"
            for metric in self.metrics()
            if metric.direction and metric.name in event.metrics
        ]
        self._say(event, f"step {event.step:,}: {' · '.join(shown)}")

    def _gather(self, step: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self.curves.setdefault(clean(name), Series()).append(step, value)
        if self.plan is not None and MEMORY in metrics:
            self.planned.append(step, self.plan.high)

    @_take.register
    def _(self, event: Sampled) -> None:
        self.samples.append(event)

    @_take.register
    def _(self, event: CheckpointSaved) -> None:
        self.saved.append(event)
        self._say(event, f"step {event.step:,}: checkpoint saved{', the best so far' if event.best else ''}")

    @_take.register
    def _(self, event: NonFiniteStep) -> None:
        rows = ", ".join(map(str, event.rows[:8]))
        self._say(event, f"step {event.step:,}: {event.what} is not finite, skipped (rows {rows})", ERROR)
        self._alert(NON_FINITE, f"{event.what} was not finite, the step was skipped (rows {rows})", event.step)

    @_take.register
    def _(self, event: Warned) -> None:
        self._say(event, f"{event.name.replace('_', ' ')}: {event.message}", WARNING)
        self._alert(event.name, event.message, event.step)

    def _alert(self, name: str, message: str, step: int) -> None:
        name = clean(name, newlines=False)
        before = self.alerts.pop(name, None)  # the newest stands last
        self.unseen.pop(name, None)
        count = before.count + 1 if before else 1
        self.alerts[name] = self.unseen[name] = Alert(name, clean(message, newlines=False), step, count)

    @_take.register
    def _(self, event: ControlAcknowledged) -> None:
        self._say(event, f"step {event.step:,}: {event.command.replace('_', ' ')}")
        self.step = max(self.step, event.step)
        if event.command == "pause":
            self.status = "paused"
        elif event.command == "continue":
            self.status = "running"
            self._pace.clear()
        elif event.command.startswith("stop"):
            self.status = "stopping"

    @_take.register
    def _(self, event: Resumed) -> None:
        if self.over:
            self._reopen(event.time)
        self.step = event.from_step
        for curve in (*self.curves.values(), self.planned):
            curve.drop_after(event.from_step)
        self.ran_out = None
        self.samples = [sample for sample in self.samples if sample.step <= event.from_step]
        self.saved = [saved for saved in self.saved if saved.step <= event.from_step]
        self._pace.clear()
        self._say(event, f"resumed from step {event.from_step:,}")

    @_take.register
    def _(self, event: Finished) -> None:
        self.finished, self.status, self.preparing = event, event.status, ""
        self.step = max(self.step, event.step)
        level = ERROR if event.status == "failed" else INFO
        told = event.status != "failed" or self.ran_out is not None  # which said why, and is not of a command line
        reason = f": {event.error}" if event.error and not told else ""
        self._say(event, f"{event.status} at step {event.step:,}{reason}", level)

    def _reopen(self, now: float) -> None:
        """A run that had ended goes on: the time between does not count."""
        self._banked, self._since = self.elapsed(), now
        self.finished = None
