"""What a policy's answers are worth: the rewards of the run, and the rows' own checks."""

from collections.abc import Callable, Sequence
from pathlib import Path

from engine.generation.rollout import Rollout
from engine.rewards.checks import is_correct
from engine.rewards.completion import Completion
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
    """

    def __init__(self, context: StageContext, warn_once: Callable[[str, str, str], None]) -> None:
        own, device = context.settings.part(RewardSettings), context.device.torch_device
        scorer = load_scorer(context.run.companion("reward_model"), device) if own.reward_model else None
        self.rewards = RewardSet(own, model=scorer)
        self.records = _records(context)
        self._rows = context.store.columns["rows"]
        self._decode = context.encoder.tokenizer.decode
        self._penalises = context.settings.part(RolloutSettings).truncated == "penalise"
        self._warn_once = warn_once

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
        self._tell_failures()
        answers = []
        for sample, record, prompt, group, said in zip(samples, records, prompts, made, texts, strict=True):
            judged = []
            for each, text in zip(group, said, strict=True):
                scored, expected = next(scores), record.answer
                reward = self.rewards.low if self._penalises and each.truncated else scored.total
                right = None if expected is None else is_correct(text, expected, record.check, record.extra)
                judged.append(Answer(sample, record, prompt, each, text, scored, reward, right))
            answers.append(judged)
        return answers

    def _tell_failures(self) -> None:
        """Each reward that fails, and each check that cannot be done, is named once."""
        for name, count in self.rewards.failures.items():
            said = self.rewards.last_error.get(name, "")
            self._warn_once("reward_failed", f"{name} failed {count} times: {said}", name)
        for name, count in self.rewards.fallbacks.items():
            message = f"{count} rows ask for {name}: their answers are compared instead"
            self._warn_once("check_not_available", message, name)


def _records(context: StageContext) -> dict[int, Record]:
    """The prompts by row: what their answers are compared with."""
    data = context.settings.data
    opened = open_records(Path(data.data), mapping=data.mapping, max_rows=data.max_rows or None)
    wanted = set(context.store.columns["rows"].tolist())
    return {record.row: as_prompt(record) for record in opened.records() if record.row in wanted}
