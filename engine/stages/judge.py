"""What a policy's answers are worth: the rewards of the run, and the rows' own checks."""

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from engine.generation.rollout import Rollout
from engine.rewards.checks import is_correct
from engine.rewards.completion import Completion
from engine.rewards.python_reward import error_text
from engine.rewards.reward_set import RewardSet
from engine.rewards.scorer import load_scorer
from engine.settings.rewards import RewardSettings
from engine.settings.rollout import RolloutSettings
from engine.stages.answers import Answer
from engine.stages.context import StageContext
from engine.text.records import Record, open_records
from engine.text.shapes import as_prompt


class Judge:
    """Judges answers to the prompts of a run's data.

    Args:
        context: The run's.
        warn_once: Takes a warning's name, what it says, and what it is about; for rewards that fail.

    Attributes:
        rewards: The rewards of the run.
        records: The prompts by row: what their answers are compared with.
        companions: The reward model, if there is one.
    """

    def __init__(self, context: StageContext, warn_once: Callable[[str, str, str], None]) -> None:
        own, device = context.settings.part(RewardSettings), context.device.torch_device
        scorer = load_scorer(context.run.companion("reward_model"), device) if "model" in own.rewards else None
        self.companions = [part for part in vars(scorer).values() if isinstance(part, nn.Module)] if scorer else []
        self.rewards = RewardSet(own, model=scorer)
        self.records = _records(context)
        self._rows = context.store.columns["rows"]
        self._decode = context.encoder.tokenizer.decode
        self._penalises = context.settings.part(RolloutSettings).truncated == "penalise"
        self._warn_once = warn_once
        self._failed_checks, self._last_error = 0, ""
        self._told: dict[str, int] = {}

    def __call__(
        self, samples: Sequence[int], prompts: Sequence[list[int]], made: Sequence[list[Rollout]]
    ) -> list[list[Answer]]:
        """The answers to each prompt, judged.

        Args:
            samples: The prompts' indices in the store.
            prompts: Their token ids.
            made: What was answered to each.
        """
        records = [self.records[int(self._rows[sample])] for sample in samples]
        texts = [[self._decode(each.words) for each in group] for group in made]
        completions = [
            Completion(record.messages, text, each.words, each.truncated, record.answer, record.check, record.extra)
            for record, group, said in zip(records, made, texts, strict=True)
            for each, text in zip(group, said, strict=True)
        ]
        scores = iter(self.rewards.score(completions))
        right = iter([self._right(each) for each in completions])
        self._tell_failures()
        answers = []
        for sample, record, prompt, group, said in zip(samples, records, prompts, made, texts, strict=True):
            judged = []
            for each, text in zip(group, said, strict=True):
                scored = next(scores)
                reward = self.rewards.low if self._penalises and each.truncated else scored.total
                judged.append(Answer(sample, record, prompt, each, text, scored, reward, next(right)))
            answers.append(judged)
        return answers

    def _right(self, said: Completion) -> float | None:
        """How right an answer is by its row's check; wrong where the check fails."""
        if said.answer is None:
            return None
        try:
            return is_correct(said.text, said.answer, said.check, said.extra)
        except Exception as error:  # the scorers of reasoning_gym raise whatever they like
            self._failed_checks, self._last_error = self._failed_checks + 1, error_text(error)
            return 0.0

    def _tell_failures(self) -> None:
        """Names each reward that fails and each check that fails or cannot be done, again at ten times the count."""
        for name, count in self.rewards.failures.items():
            said = self.rewards.last_error.get(name, "")
            self._tell("reward_failed", name, count, f"{name} failed {count} times: {said}")
        if self._failed_checks:
            message = f"the row's check failed {self._failed_checks} times: {self._last_error}"
            self._tell("reward_failed", "the row's check", self._failed_checks, message)
        for name, count in self.rewards.fallbacks.items():
            message = f"{count} rows ask for {name}: their answers are compared instead"
            self._tell("check_not_available", name, count, message)

    def _tell(self, warning: str, name: str, count: int, message: str) -> None:
        if count >= 10 * self._told.get(f"{warning} {name}", 0):
            self._told[f"{warning} {name}"] = count
            self._warn_once(warning, message, f"{name}, {count} times")


def _records(context: StageContext) -> dict[int, Record]:
    """The prompts by row: what their answers are compared with."""
    data = context.settings.data
    opened = open_records(Path(data.data), mapping=data.mapping, max_rows=data.max_rows or None)
    wanted = set(context.store.columns["rows"].tolist())
    return {record.row: as_prompt(record) for record in opened.records() if record.row in wanted}
