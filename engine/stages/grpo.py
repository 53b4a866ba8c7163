"""Group relative policy optimization: answers to one prompt are compared with each other."""

from collections.abc import Callable
from statistics import fmean

import torch

from engine.objectives.advantage import group_advantages, without_signal
from engine.objectives.policy import GRPO_LOSSES
from engine.rewards.pairwise import pairwise_preferences
from engine.settings.rollout import GrpoSettings
from engine.stages.answers import PolicyBatch, policy_batch
from engine.stages.context import StageContext
from engine.stages.policy import PolicyStage


class Grpo(PolicyStage):
    """A round: `num_generations` answers to each prompt, `updates_per_rollout` optimizer steps on them.

    Groups whose answers are all worth the same teach nothing; they are counted and left out.
    """

    def __init__(self, context: StageContext) -> None:
        self._own = context.settings.part(GrpoSettings)
        self.steps_per_round = self._own.updates_per_rollout
        super().__init__(context, GRPO_LOSSES[self._own.loss_type], (self._own.clip_low, self._own.clip_high))
        self.answers_a_prompt, self.needs_old = self._own.num_generations, self.steps_per_round > 1

    def make_round(self, round: int) -> tuple[list[list[PolicyBatch]], Callable[[], None]]:
        """Answers, rewards, advantages; every update sees the same micro-batches. A group is never split."""
        micro = self.prompts_of(round)
        asked = [sample for prompts in micro for sample in prompts]
        groups = self.answer(asked, self.answers_a_prompt, "rollout", round)
        rewards = torch.tensor([[answer.reward for answer in group] for group in groups], dtype=torch.float64)
        silent = without_signal(rewards).tolist()
        compared = rewards
        if self._own.compare == "pairwise":
            compared = torch.tensor([pairwise_preferences(row) for row in rewards.tolist()], dtype=torch.float64)
        advantages = group_advantages(compared, self._own.advantage_std, self._own.std_floor).tolist()
        batches, start = [], 0
        for prompts in micro:
            places = [place for place in range(start, start + len(prompts)) if not silent[place]]
            start += len(prompts)
            pairs = [pair for place in places for pair in zip(groups[place], advantages[place], strict=True)]
            if batch := policy_batch([(answer, value) for answer, value in pairs if self.counts(answer)]):
                batches.append(self.with_scores(batch, old=self.needs_old))

        def settle() -> None:
            flat = [answer for group in groups for answer in group]
            self.look_for_signal(batches, flat)
            self.keep_answers(round, flat, [value for row in advantages for value in row])
            self.note(no_signal_share=fmean(silent))
            if all(answer.correct is not None for answer in flat):
                self.note(pass_at_k=fmean(any(answer.correct == 1 for answer in group) for group in groups))

        return [batches] * self.steps_per_round, settle
