"""Where a run stands, and how fast it goes."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from engine.errors import CheckpointError
from engine.training.stage import Measures


@dataclass
class Window:
    """What was done since the last reported step. It is saved, so that a resumed run reports what the whole one would.

    `seconds` is the time that training itself took; see `Measures` for the other names.
    """

    tokens: int = 0
    trained: int = 0
    slots: int = 0
    flops: float = 0.0
    seconds: float = 0.0

    def count(self, measures: Iterable[Measures]) -> None:
        """Notes what a step read and computed."""
        for each in measures:
            self.tokens += each.tokens
            self.trained += each.trained
            self.slots += each.slots
            self.flops += each.flops

    def metrics(self, peak_flops: float) -> dict[str, float]:
        """Speed, the share of tokens with a weight, and of slots that padding would waste."""
        seconds = max(self.seconds, 1e-9)
        return {
            "tokens_per_second": self.tokens / seconds,
            "trained_share": self.trained / max(self.tokens, 1),
            "padding_share": 1 - self.tokens / max(self.slots, 1),
            **({"mfu": self.flops / seconds / peak_flops} if peak_flops else {}),
        }


@dataclass
class LoopState:
    """Where a run stands between two rounds; all of it goes into the checkpoint.

    Attributes:
        step: Optimizer steps behind, skipped ones included.
        round: Rounds behind.
        tokens: Tokens read.
        seconds: Time that training itself took, up to the last reported step.
        evaluated_at: The step of the newest evaluation; -1: none.
        best: The best value of the stage's metric so far.
        best_step: Its step; -1: none.
        non_finite: Non-finite steps in a row up to here.
        skipped: Steps left out in all, the scaler's included.
        window: Since the last reported step.
        last: The newest training and validation numbers, for the summary.
    """

    step: int = 0
    round: int = 0
    tokens: int = 0
    seconds: float = 0.0
    evaluated_at: int = -1
    best: float | None = None
    best_step: int = -1
    non_finite: int = 0
    skipped: int = 0
    window: Window = field(default_factory=Window)
    last: dict[str, float] = field(default_factory=dict)

    @property
    def tokens_per_second(self) -> float | None:
        """Over the whole run; None before its first step."""
        seconds = self.seconds + self.window.seconds
        return self.tokens / seconds if self.tokens and seconds else None

    def to_json(self) -> dict[str, Any]:
        """For state.json."""
        return asdict(self)

    @staticmethod
    def from_json(raw: dict[str, Any]) -> "LoopState":
        """Reads what `to_json` gave.

        Raises:
            CheckpointError: It was written by another version.
        """
        try:
            last = {name: float(value) for name, value in raw["last"].items()}
            return LoopState(**{**raw, "window": Window(**raw["window"]), "last": last})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"the checkpoint's state is of another version: {error}") from error


class Stopwatch:
    """The time that training itself takes; evaluations, saves and pauses do not count."""

    def __init__(self) -> None:
        self._began, self._away = time.perf_counter(), 0.0

    def lap(self) -> float:
        """Seconds since the last lap, less the time away; the next one begins."""
        now = time.perf_counter()
        seconds = max(now - self._began - self._away, 0.0)
        self._began, self._away = now, 0.0
        return seconds

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Time spent in here is no training."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._away += time.perf_counter() - began
