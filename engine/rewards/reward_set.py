"""The rewards of a run together: each part on its own, and their weighted sum."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from pathlib import Path

from engine.clean import clean
from engine.errors import EngineError, UserError
from engine.rewards import functions
from engine.rewards.checks import can_check
from engine.rewards.completion import Completion
from engine.rewards.model_reward import ModelReward, ScoreAnswers
from engine.rewards.python_reward import PythonReward, error_text
from engine.rewards.registry import REWARDS
from engine.settings.rewards import RewardSettings


@dataclass(frozen=True)
class Scored:
    """What one answer is worth.

    Attributes:
        total: The reward: Σ weight · part.
        parts: Every part by name, not weighted.
    """

    total: float
    parts: dict[str, float]


@dataclass(frozen=True)
class _Part:
    """A reward over a list of completions: for each a value, or the error that was raised for it."""

    scores: Callable[[Sequence[Completion]], Sequence[object]]
    low: float
    high: float


class RewardSet:
    """Gives the rewards that the settings name.

    A part that raises an error for an answer, or gives something else than a finite number, scores `reward_failure` for
    that answer; it is counted, and the run goes on.

    Args:
        settings: Which rewards, with which weights.
        model: What scores answers for the part `model`.

    Attributes:
        low: The least total that an answer can get.
        high: The most.
        failures: How often each part failed, so far.
        fallbacks: How many answers were compared with the expected one because their row's check (the key) could not be
            done: `reasoning_gym` without the package or with an entry that is unknown or unsafe to score, or a check
            that nobody knows.
        clipped: How many values of each part lay outside its range (`model`, `python`) and were cut to it.
        last_error: Each part's last failure in one line, safe to show.

    Raises:
        UserError: The user's Python file cannot be used, or there is no reward model.
    """

    def __init__(
        self,
        settings: RewardSettings,
        *,
        model: ScoreAnswers | None = None,
    ) -> None:
        self._weights, self._failure = dict(settings.rewards), settings.reward_failure
        self._parts = {name: _make(name, settings, model) for name in self._weights}
        ends = [
            (weight * min(part.low, self._failure), weight * max(part.high, self._failure))
            for weight, part in zip(self._weights.values(), self._parts.values(), strict=True)
        ]
        self.low, self.high = sum(map(min, ends)), sum(map(max, ends))
        self.failures: Counter[str] = Counter()
        self.fallbacks: Counter[str] = Counter()
        self.clipped: Counter[str] = Counter()
        self.last_error: dict[str, str] = {}

    def score(self, completions: Sequence[Completion]) -> list[Scored]:
        """The reward of each completion, in order."""
        if "answer" in self._parts:
            for each in completions:
                if not can_check(each.check, each.extra):
                    self.fallbacks[clean(str(each.check)[:40], newlines=False)] += 1
        by_part = {
            name: [self._settle(name, part, found) for found in part.scores(completions)]
            for name, part in self._parts.items()
        }
        scored = []
        for place in range(len(completions)):
            parts = {name: values[place] for name, values in by_part.items()}
            scored.append(Scored(sum(self._weights[name] * value for name, value in parts.items()), parts))
        return scored

    def _settle(self, name: str, part: _Part, found: object) -> float:
        """A part's value in its range, or the failure value; what is not as it should be is counted."""
        try:
            value = _finite(found)
        except Exception as error:
            self.failures[name] += 1
            ours = isinstance(error, EngineError)
            self.last_error[name] = clean(str(error)[:300], newlines=False) if ours else error_text(error)
            return self._failure
        if not part.low <= value <= part.high:
            self.clipped[name] += 1
        return min(max(value, part.low), part.high)


def _finite(found: object) -> float:
    if isinstance(found, Exception):
        raise found
    if not isinstance(found, Real):
        raise UserError(f"the value must be a number, not {type(found).__name__}")
    value = float(found)
    if not math.isfinite(value):
        raise UserError(f"the value is {value}, not a finite number")
    return value


def _make(name: str, settings: RewardSettings, model: ScoreAnswers | None) -> _Part:
    match name:
        case "model":
            if model is None:
                raise UserError("there is no reward model", where="reward_model")
            judged = ModelReward(model, settings.reward_model_clip)
            return _Part(judged, judged.low, judged.high)
        case "python":
            written = PythonReward(Path(settings.reward_python))
            return _Part(_one_by_one(written), written.low, written.high)
        case "length":
            least, most = settings.reward_length_min, settings.reward_length_max
            scores = _one_by_one(partial(functions.length_reward, shortest=least, longest=most))
        case _:
            scores = _one_by_one(_PLAIN[name])
    return _Part(scores, REWARDS[name].low, REWARDS[name].high)


_PLAIN: dict[str, Callable[[Completion], float]] = {
    "answer": functions.answer_reward,
    "exact": functions.exact_reward,
    "number": functions.number_reward,
    "format": functions.format_reward,
    "tags": functions.tags_reward,
    "repetition": functions.repetition_reward,
    "language": functions.language_reward,
}


def _one_by_one(function: Callable[[Completion], object]) -> Callable[[Sequence[Completion]], list[object]]:
    """A function of one completion as one of many: an error costs only the completion that it came up for."""

    def scores(completions: Sequence[Completion]) -> list[object]:
        return [_tried(function, completion) for completion in completions]

    return scores


def _tried(function: Callable[[Completion], object], completion: Completion) -> object:
    try:
        return function(completion)
    except Exception as error:
        return error
