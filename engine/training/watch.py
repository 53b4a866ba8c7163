"""Warnings by name when a run goes wrong: a pure function of what it reported so far."""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from engine.runs.events import Evaluated, Event, Step, Warned

_SEGMENTS = 20
"""Parts of a run; at the end of each the loss is judged."""
_RECENT_SEGMENTS, _OPENING_SEGMENTS, _FIRST_JUDGED = 4, 2, 6
_SEGMENT_LOSSES = 400
"""Losses that are kept of a segment; of longer ones every second step, every third …"""
_LEAST, _FIRST = 8, 8
_FALL, _FALL_ERRORS = 0.02, 3.0
_DROP, _DROP_ERRORS = 0.05, 3.0
_RISE, _RISE_NATS, _RISE_ERRORS = 0.05, 0.02, 4.0

_NORM_TIMES, _NORM_STEPS, _NORM_LEAST, _NORM_KEPT = 10.0, 3, 10, 50
_SPEED_SHARE, _SPEED_STEPS, _SPEED_SECONDS, _SPEED_LEAST, _SPEED_KEPT = 0.5, 5, 30.0, 10, 1000
_VAL_ROSE, _VAL_MARGIN, _VAL_NATS, _VAL_GAIN = 3, 0.02, 0.01, 0.005
_EMPTY_CLEARS = 100
_MEMORY_FIRST, _MEMORY_KEPT, _MEMORY_PARTS, _MEMORY_RISE, _MEMORY_BYTES = 20, 40, 5, 0.1, 100 << 20
_GUARD_SHARE, _GUARD_NATS = 0.05, 0.05


@dataclass
class _Alarm:
    """A condition that is announced when it begins, and again only after it was absent for a while.

    `clears_after` is how often in a row it must have been absent.
    """

    clears_after: int = 1
    raised: bool = False
    absent: int = 0

    def __call__(self, holds: bool) -> bool:
        """Whether it is to be announced now."""
        self.absent = 0 if holds else self.absent + 1
        begins = holds and not self.raised
        self.raised = holds or (self.raised and self.absent < self.clears_after)
        return begins


class Watch:
    """Notices what is off from what a run says of itself.

    `loss_not_falling`: judged from 30 % of the run on, at every twentieth of it. Medians of many steps' losses are
    compared, and their standard errors decide, so a noisy loss is given the benefit of the doubt. Either the last fifth
    of the run is no lower than its first tenth: by less than 2 % for certain (three errors), and it did not drop within
    the first steps either. Or it lies above the lowest fifth before it, by 5 %, 0.02 nats and four errors at least. A
    loss that has fallen and stays where it is does not count: that is how runs end. While validation still
    improves (by 0.5 % at least) nothing is said, nor where there are too few steps to tell (fewer than 80).

    `grad_norm_exploding`: three reports in a row above ten times the median of the 50 before.

    `tokens_per_second_dropped`: under half of the median of the last 1,000 reports, for five in a row that trained for
    30 seconds. Evaluations, saves and pauses are no part of the speed that a run reports.

    `loss_rising_on_validation`: it rose three evaluations in a row, each above the best, the last by 2 %.

    `nothing_trained`: a step without a trained token.

    `memory_rising`: the memory in use rose over every fifth of the last forty reports, by 10 % and 100 MiB in all; the
    first twenty may find their level.

    `reward_rises_quality_falls`: the validation reward is above its first value while the guard's loss, on rows that
    are not trained on, is 5 % and 0.05 nats above its lowest.

    Args:
        total_steps: Optimizer steps of the whole run.
        falling: Whether the stage's `loss` is meant to fall; that of reinforcement learning is not.
    """

    def __init__(self, total_steps: int, *, falling: bool = True) -> None:
        self._loss, self._falling = _LossTrend(total_steps), falling
        self._norms: deque[float] = deque(maxlen=_NORM_KEPT)
        self._high_norms = 0
        self._speeds: deque[float] = deque(maxlen=_SPEED_KEPT)
        self._slow_steps, self._slow_seconds, self._tokens = 0, 0.0, 0
        self._validation: list[float] = []
        self._loss_alarm, self._norm_alarm = _Alarm(clears_after=2), _Alarm(clears_after=10)
        self._speed_alarm, self._validation_alarm = _Alarm(clears_after=10), _Alarm()
        self._empty_alarm = _Alarm(clears_after=_EMPTY_CLEARS)
        self._guards: list[float] = []
        self._first_reward = math.nan
        self._guard_alarm = _Alarm()
        self._memory: deque[float] = deque(maxlen=_MEMORY_KEPT)
        self._reports, self._memory_alarm = 0, _Alarm(clears_after=_MEMORY_KEPT)

    def step(self, step: int, loss: float, trained: int) -> Iterator[Warned]:
        """Takes an optimizer step, reported or not: its loss and how many tokens it trained on."""
        if self._empty_alarm(not trained):
            message = "not one of the step's tokens is trained: it has nothing to learn from; look at the data's audit"
            yield Warned(name="nothing_trained", message=message, step=step)
        verdict = self._loss.add(step, loss) if self._falling and math.isfinite(loss) else None
        if verdict is None:
            return
        if self._loss_alarm(bool(verdict) and not self._improves()):
            yield Warned(name="loss_not_falling", message=verdict, step=step)

    def report(self, event: Step) -> Iterator[Warned]:
        """Takes a reported step."""
        yield from self._see_norm(event)
        yield from self._see_speed(event)
        yield from self._see_memory(event)

    def evaluation(self, event: Evaluated) -> Iterator[Warned]:
        """Takes an evaluation."""
        yield from self._see_guard(event)
        value = event.metrics.get("val_loss", math.nan)
        if not math.isfinite(value):
            return
        self._validation.append(value)
        best, newest = min(self._validation), self._validation[-_VAL_ROSE - 1 :]
        rose = len(newest) > _VAL_ROSE and all(old < new for old, new in pairwise(newest))
        margin = max(_VAL_MARGIN * abs(best), _VAL_NATS)
        if self._validation_alarm(rose and value > best + margin):
            message = (
                f"the validation loss rose {_VAL_ROSE} times in a row, from {newest[0]:.4g} to {value:.4g} "
                f"(best {best:.4g}): the model learns its rows by heart; the best checkpoint is kept"
            )
            yield Warned(name="loss_rising_on_validation", message=message, step=event.step)

    def replay(self, events: Iterable[Event]) -> list[Warned]:
        """Takes in what a run said before, and returns what is to be said about it.

        Of its steps only the reported ones are known: it may take the loss of a resumed run a little longer to tell.
        """
        said: list[Warned] = []
        for event in events:
            if isinstance(event, Step):
                said += self.step(event.step, event.metrics.get("loss", math.nan), 1)
                said += self.report(event)
            elif isinstance(event, Evaluated):
                said += self.evaluation(event)
        return said

    def _improves(self) -> bool:
        """Whether the newest evaluation is the best by far enough to count."""
        *before, newest = self._validation or [math.inf]
        best = min(before, default=-math.inf)
        return newest < best - _VAL_GAIN * abs(best)

    def _see_guard(self, event: Evaluated) -> Iterator[Warned]:
        guard, reward = (event.metrics.get(name, math.nan) for name in ("guard_loss", "val_reward"))
        if not (math.isfinite(guard) and math.isfinite(reward)):
            return
        self._guards.append(guard)
        if math.isnan(self._first_reward):
            self._first_reward = reward
        best = min(self._guards)
        worse = guard > best + max(_GUARD_SHARE * best, _GUARD_NATS)
        if self._guard_alarm(worse and reward > self._first_reward):
            message = (
                f"the reward rose from {self._first_reward:.4g} to {reward:.4g}, the loss of the guard's rows from "
                f"{best:.4g} to {guard:.4g}: other abilities are lost; lower learning_rate or raise kl_coefficient"
            )
            yield Warned(name="reward_rises_quality_falls", message=message, step=event.step)

    def _see_memory(self, event: Step) -> Iterator[Warned]:
        self._reports += 1
        if self._reports <= _MEMORY_FIRST or "memory_bytes" not in event.metrics:
            return
        self._memory.append(event.metrics["memory_bytes"])
        if len(self._memory) < _MEMORY_KEPT:
            return
        size, held = _MEMORY_KEPT // _MEMORY_PARTS, list(self._memory)
        levels = [min(held[start : start + size]) for start in range(0, _MEMORY_KEPT, size)]
        rises = all(low < high for low, high in pairwise(levels))
        gained = levels[-1] - levels[0]
        if self._memory_alarm(rises and gained > max(_MEMORY_RISE * levels[0], _MEMORY_BYTES)):
            message = (
                f"the memory in use keeps rising: {levels[0] / 2**20:,.0f} to {levels[-1] / 2**20:,.0f} MiB over "
                f"{_MEMORY_KEPT} reports; something is kept that should not be"
            )
            yield Warned(name="memory_rising", message=message, step=event.step)

    def _see_norm(self, event: Step) -> Iterator[Warned]:
        norm = event.metrics.get("grad_norm", math.nan)
        if not math.isfinite(norm):  # such a step has an event of its own
            return
        usual = median(self._norms) if len(self._norms) >= _NORM_LEAST else math.inf
        self._norms.append(norm)
        self._high_norms = self._high_norms + 1 if norm > _NORM_TIMES * usual else 0
        if self._norm_alarm(self._high_norms >= _NORM_STEPS):
            message = (
                f"the gradient norm is {norm:.3g}, {norm / usual:.0f} times its median of {usual:.3g}: "
                "lower learning_rate or grad_clip"
            )
            yield Warned(name="grad_norm_exploding", message=message, step=event.step)

    def _see_speed(self, event: Step) -> Iterator[Warned]:
        speed, tokens = event.metrics.get("tokens_per_second", math.nan), event.tokens - self._tokens
        self._tokens = event.tokens
        if not (math.isfinite(speed) and speed > 0):
            return
        self._speeds.append(speed)
        usual = median(self._speeds) if len(self._speeds) >= _SPEED_LEAST else 0.0
        slow = speed < _SPEED_SHARE * usual
        self._slow_steps = self._slow_steps + 1 if slow else 0
        self._slow_seconds = self._slow_seconds + tokens / speed if slow else 0.0
        long = self._slow_steps >= _SPEED_STEPS and self._slow_seconds >= _SPEED_SECONDS
        if self._speed_alarm(long or (slow and self._speed_alarm.raised)):
            message = (
                f"{speed:,.0f} tokens/s for {self._slow_seconds:.0f} s, the run's median is {usual:,.0f}: "
                "something else needs the machine, or it is too hot"
            )
            yield Warned(name="tokens_per_second_dropped", message=message, step=event.step)


@dataclass(frozen=True, order=True)
class _Level:
    """A median, its standard error, and of how many values."""

    value: float
    error: float
    count: int


def _level(values: list[float]) -> _Level:
    """The median with its error 1.25·σ/√n, where σ is 1.48 times the median absolute deviation."""
    middle = median(values)
    spread = 1.4826 * median(abs(value - middle) for value in values)
    return _Level(middle, 1.25 * spread / math.sqrt(len(values)), len(values))


class _LossTrend:
    """The medians behind `loss_not_falling`."""

    def __init__(self, total_steps: int) -> None:
        self._total = max(total_steps, 1)
        self._stride = max(1, self._total // (_SEGMENTS * _SEGMENT_LOSSES))
        self._segment = 0
        self._opening_losses: list[float] = []
        self._opening: _Level | None = None
        self._first = math.nan
        self._recent: deque[tuple[int, float]] = deque()
        self._before: list[tuple[int, _Level]] = []
        """Every fifth of the run so far, with the segment that it ends with."""

    def add(self, step: int, loss: float) -> str | None:
        """Takes a loss; at the end of a segment says what is wrong: empty if nothing is."""
        if len(self._opening_losses) < _FIRST or step % self._stride == 0:
            self._recent.append((step, loss))
            if self._opening is None:
                self._opening_losses.append(loss)
        segment = _SEGMENTS * step // self._total
        if segment == self._segment:
            return None
        self._segment = segment
        while self._recent and self._recent[0][0] <= step - self._total * _RECENT_SEGMENTS / _SEGMENTS:
            self._recent.popleft()
        if self._opening is None and segment >= _OPENING_SEGMENTS and len(self._opening_losses) >= _LEAST:
            self._opening = _level(self._opening_losses)
            self._first = median(self._opening_losses[:_FIRST])
        if self._opening is None or segment < _RECENT_SEGMENTS or len(self._recent) < _LEAST:
            return None
        level = _level([value for _, value in self._recent])
        lowest = min((old for end, old in self._before if end <= segment - _RECENT_SEGMENTS), default=None)
        self._before.append((segment, level))
        if segment < _FIRST_JUDGED:
            return None
        return self._stuck(level, self._opening) or (self._risen(level, lowest) if lowest else "")

    def _stuck(self, level: _Level, opening: _Level) -> str:
        unsure = _FALL_ERRORS * math.hypot(level.error, opening.error)
        first_error = level.error * math.sqrt(level.count / _FIRST)
        dropped = self._first - level.value > max(_DROP * abs(self._first), _DROP_ERRORS * first_error)
        if dropped or opening.value - level.value + unsure > _FALL * abs(opening.value):
            return ""
        then_and_now = f"{opening.value:.4g} then, {level.value:.4g} now (medians)"
        if level.value > opening.value + unsure:
            return f"the loss has risen since the run began: {then_and_now}; lower learning_rate"
        advice = "try another learning_rate, and look at what is trained"
        return f"the loss has hardly fallen since the run began: {then_and_now}; {advice}"

    def _risen(self, level: _Level, lowest: _Level) -> str:
        unsure = _RISE_ERRORS * math.hypot(level.error, lowest.error)
        if level.value - lowest.value <= max(_RISE * abs(lowest.value), _RISE_NATS, unsure):
            return ""
        return f"the loss was at {lowest.value:.4g} and has risen to {level.value:.4g} (medians); lower learning_rate"
