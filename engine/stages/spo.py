"""Single-stream policy optimization: one answer a prompt, compared with what the prompt's answers were worth before."""

import math
from collections.abc import Callable, Sequence
from dataclasses import astuple
from statistics import fmean
from typing import Any

import numpy as np
import torch

from engine.objectives.advantage import Tracker, discount
from engine.objectives.divergence import kl_estimate
from engine.objectives.policy import GRPO_LOSSES
from engine.objectives.sequences import means
from engine.randomness import derive_seed
from engine.settings.spo import VISITS, SpoSettings, prompts_used
from engine.stages.answers import Answer, PolicyBatch, answered, policy_batch
from engine.stages.context import StageContext
from engine.stages.policy import PolicyStage
from engine.text.batching import Indices, draw_pool
from engine.training.distributed import sum_over_ranks

_BEFORE = -1
"""The round of the answers that begin the trackers, in the rollouts' file."""
_EVERYONE = -1
"""The key of the one tracker for all prompts."""
_LEAST_WEIGHT = 0.05
"""What a decided prompt still weighs where prompts are prioritised."""


class Spo(PolicyStage):
    """A round: one answer to each prompt, `updates_per_rollout` optimizer steps (arXiv 2509.13232).

    Each prompt's tracker expects a reward; the advantage is how much better it went, normalised over the batch. What a
    tracker saw counts less the further the policy has moved since the prompt's last visit: the divergence is estimated
    on the very answer of that visit, k3 a token.
    """

    def __init__(self, context: StageContext) -> None:
        self._own = context.settings.part(SpoSettings)
        self.steps_per_round = self._own.updates_per_rollout
        super().__init__(context, GRPO_LOSSES[self._own.loss_type], (self._own.clip_low, self._own.clip_high))
        self.sampler = self.make_sampler(self._pool())
        visits = self.rounds / self.sampler.steps_per_epoch
        if visits < VISITS:
            context.warn(
                "prompts_seldom_visited",
                f"each prompt is visited {visits:.1f} times: trackers learn little; lower pool_size or raise epochs",
            )
        self._first_answers: list[Answer] = []
        self._trackers: dict[int, Tracker] = {}
        self._last: dict[int, tuple[list[int], list[float]]] = {}
        """The answer of each prompt's last visit, and its log-probabilities then; by the prompt's index."""

    def _pool(self) -> Indices:
        """The prompts that are used: those asked for, or as many as get enough visits."""
        training = self.settings.training
        rounds = -(-training.max_steps // self.steps_per_round)
        size = prompts_used(self._own, training.batch_size * training.accumulation_steps, rounds)
        return draw_pool(self.train_rows, size, training.seed)

    def prompts_of(self, round: int) -> list[list[int]]:
        """The sampler's prompts, or undecided ones more often."""
        micro = super().prompts_of(round)
        if not self._own.prioritised or self._own.tracker == "global":
            return micro
        pool = sorted(self._trackers)
        weights = np.array([self._trackers[sample].deviation + _LEAST_WEIGHT for sample in pool])
        dice = np.random.Generator(np.random.Philox(key=derive_seed(self.settings.training.seed, "prompts", round)))
        count = min(sum(map(len, micro)), len(pool))
        chosen = [pool[place] for place in dice.choice(len(pool), count, replace=False, p=weights / weights.sum())]
        size = self.settings.training.batch_size
        return [chosen[start : start + size] for start in range(0, count, size)]

    def largest_prompts(self) -> list[list[int]]:
        """The sampler's; where prompts are chosen by how undecided they are, any may stand together."""
        if not self._own.prioritised or self._own.tracker == "global":
            return super().largest_prompts()
        pool = np.concatenate(self.sampler.units)
        longest = pool[np.argsort(-self.store.lengths[pool], kind="stable")]
        return [longest[: self.settings.training.batch_size].tolist()]

    def make_round(self, round: int) -> tuple[list[list[PolicyBatch]], Callable[[], None]]:
        """Answers, what was expected of them, advantages; settled, the trackers take in what happened."""
        if not self._trackers:
            self._begin()
        micro = self.prompts_of(round)
        samples = [sample for prompts in micro for sample in prompts]
        answers = [group[0] for group in self.answer(samples, 1, "rollout", round)]
        rewards = [self._mapped(answer) for answer in answers]
        expected = [self._tracker(sample).value for sample in samples]
        advantages = self._normalised([reward - value for reward, value in zip(rewards, expected, strict=True)])
        divergences = self._moved(samples)
        batches, start = [], 0
        for prompts in micro:
            some = range(start, start + len(prompts))
            start += len(prompts)
            batch = policy_batch([(answers[place], advantages[place]) for place in some if self.counts(answers[place])])
            if batch:
                batches.append(self.with_scores(batch, old=True))

        learnt = batches if any(advantages) else []

        def settle() -> None:
            self.look_for_signal(learnt, answers)
            self._settle_first_answers()
            self.keep_answers(round, answers, advantages)
            self.note(baseline=fmean(expected), tracker_kl=fmean(divergences))
            seen = [place for place, answer in enumerate(answers) if self.counts(answer)]
            if seen:
                self._see(
                    [samples[place] for place in seen],
                    [rewards[place] for place in seen],
                    [divergences[place] for place in seen],
                )
            for batch in batches:
                self._remember(batch)

        return [learnt] * self.steps_per_round, settle

    def _begin(self) -> None:
        """Trackers from the first answers to every prompt of the pool."""
        pool = sorted({int(unit[0]) for unit in self.sampler.units})
        count = self._own.initial_rollouts
        groups = self.answer(pool, count, "trackers")
        self._first_answers = [answer for group in groups for answer in group]
        rewards = [[self._mapped(answer) for answer in group] for group in groups]
        if self._own.tracker == "global":
            self._trackers[_EVERYONE] = Tracker.begun([one for row in rewards for one in row], self._own.rho_min)
        else:
            for sample, row in zip(pool, rewards, strict=True):
                self._trackers[sample] = Tracker.begun(row, self._own.rho_min)
        for start in range(0, len(pool), self.settings.training.batch_size):
            some = [group[0] for group in groups[start : start + self.settings.training.batch_size]]
            if batch := policy_batch([(answer, 0.0) for answer in some]):
                self._remember(self.with_scores(batch, old=True))

    def _settle_first_answers(self) -> None:
        """Logs and counts the answers that began the trackers, once."""
        if self._first_answers:
            self.log.write(_BEFORE, self._first_answers, [0.0] * len(self._first_answers))
            self.note(initial_rollouts=float(len(self._first_answers)))
            self._first_answers = []

    def _mapped(self, answer: Answer) -> float:
        """An answer's reward from 0 to 1."""
        low, high = self.judge.rewards.low, self.judge.rewards.high
        return min(max((answer.reward - low) / (high - low), 0.0), 1.0)

    def _normalised(self, values: Sequence[float]) -> list[float]:
        """Mean 0, deviation 1; a round of equal values says nothing."""
        mean = self._mean(values)
        deviation = math.sqrt(self._mean([(value - mean) ** 2 for value in values]))
        return [(value - mean) / deviation if deviation > 1e-6 else 0.0 for value in values]

    def _mean(self, values: Sequence[float]) -> float:
        """Over the round of all processes."""
        own = {"count": float(len(values)), "total": math.fsum(values)}
        whole = sum_over_ranks(own, self.device.torch_device)
        return whole["total"] / whole["count"]

    def _tracker(self, sample: int) -> Tracker:
        return self._trackers[_EVERYONE if self._own.tracker == "global" else sample]

    def _see(self, samples: Sequence[int], rewards: Sequence[float], divergences: Sequence[float]) -> None:
        half, least, most = self._own.d_half, self._own.rho_min, self._own.rho_max
        if self._own.tracker == "global":
            rho = discount(self._mean(divergences), half, least, most)
            self._trackers[_EVERYONE].see(self._mean(rewards), rho)
            self.note(rho=rho)
            return
        for sample, reward, divergence in zip(samples, rewards, divergences, strict=True):
            rho = discount(divergence, half, least, most)
            self._trackers[sample].see(reward, rho)
            self.note(rho=rho)

    @torch.no_grad()
    def _moved(self, samples: Sequence[int]) -> list[float]:
        """How far the policy has moved since each prompt's last visit, in nats a token; 0 for a first visit."""
        found: list[float] = []
        self.model.eval()
        size = self.settings.training.batch_size
        for start in range(0, len(samples), size):
            some = samples[start : start + size]
            known = [sample for sample in some if sample in self._last]
            divergence = dict.fromkeys(some, 0.0)
            if known:
                batch = self._visited(known)
                moved = self.to_device(batch.batch)
                with self.precision.autocast():
                    now, _ = self.log_probs(self.model(moved.tokens, moved.positions, moved.attention), moved)
                then = torch.from_numpy(batch.tokens["old"]).to(now.device)
                each = means(kl_estimate(then - now, "k3"), moved.documents, len(known))
                divergence |= dict(zip(known, each.tolist(), strict=True))
            found += [divergence[sample] for sample in some]
        return found

    def _visited(self, samples: Sequence[int]) -> PolicyBatch:
        """The last answers to these prompts, with their log-probabilities then."""
        documents = [(self.store.ids(sample).tolist(), self._last[sample][0]) for sample in samples]
        batch = answered(documents, rows=samples, samples=samples)
        then = [value for sample in samples for value in self._last[sample][1]]
        return PolicyBatch(batch, {"old": np.array(then, dtype=np.float32)})

    def _remember(self, batch: PolicyBatch) -> None:
        """Keeps each answer with its log-probabilities, until the prompt is visited again."""
        for document in batch.documents():
            trained = document.batch.loss_weights > 0
            ids = document.batch.input_ids[trained].tolist()
            self._last[int(document.batch.samples[0])] = (ids, document.tokens["old"].tolist())

    def state(self) -> dict[str, Any]:
        """Trackers, and the answers by which their age is measured; none while those that began them are not logged."""
        begun = not self._first_answers
        trackers = {str(sample): astuple(tracker) for sample, tracker in self._trackers.items() if begun}
        last = {str(sample): list(kept) for sample, kept in self._last.items() if begun}
        return super().state() | {"trackers": trackers, "last": last}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores them."""
        super().load_state(state)
        self._trackers = {int(sample): Tracker(*kept) for sample, kept in state["trackers"].items()}
        self._last = {int(sample): (ids, log_probs) for sample, (ids, log_probs) in state["last"].items()}
