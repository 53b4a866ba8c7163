"""What the stages of reinforcement learning have in common: answers, rewards, the policy's loss, what is watched."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.errors import UserError
from engine.generation.rollout import roll_out
from engine.generation.settings import SamplingSettings
from engine.objectives.divergence import kl_estimate, kl_loss
from engine.objectives.log_probs import linear_log_probs
from engine.objectives.policy import PolicyLoss, aggregate, aggregated_count, surrogate
from engine.randomness import derive_seed
from engine.rewards.checks import is_well_formed
from engine.settings.rollout import KlSettings, RolloutSettings
from engine.stages.answers import Answer, PolicyBatch, RolloutLog, answered
from engine.stages.base import ModelStage
from engine.stages.context import StageContext
from engine.stages.guard import Guard
from engine.stages.judge import Judge
from engine.text.batching import Sampler
from engine.training.batch import DeviceBatch
from engine.training.stage import Evaluation, Measures, Term

_APART = {torch.float32: 1e-5, torch.bfloat16: 5e-3, torch.float16: 5e-3}
"""How far sampled and scored log-probabilities may lie apart on average, by the precision of computation."""
_SILENT_ROUNDS = 3
"""Rounds in a row without anything to learn from, until it is said."""


class PolicyStage(ModelStage, ABC):
    """Collects answers of the policy and learns from them; the unit of a round is a set of prompts.

    Args:
        context: The run's.
        policy_loss: Which loss.
        clips: How far ratios may fall and rise.
        needs_reference: Whether a reference is kept even where it costs nothing to leave it.
    """

    measures_start = True
    best_metric = "val_reward"
    answers_a_prompt = 1
    """How many answers to a prompt stand together."""
    needs_old = True
    """Whether the policy is asked for its log-probabilities before the round's first step."""

    def __init__(
        self,
        context: StageContext,
        policy_loss: PolicyLoss,
        clips: tuple[float, float],
        *,
        needs_reference: bool = False,
    ) -> None:
        super().__init__(context)
        settings = context.settings
        self.sampling, self.kl = settings.part(RolloutSettings), settings.part(KlSettings)
        self.policy_loss, self.clips = policy_loss, clips
        room = self.model.config.max_position_embeddings
        if settings.data.max_seq_len + self.sampling.max_new_tokens > room:
            raise UserError(
                f"prompts of {settings.data.max_seq_len} tokens (max_seq_len) and answers of "
                f"{self.sampling.max_new_tokens} (max_new_tokens) do not fit into the {room} that the model reads",
                where="max_new_tokens",
            )
        self.policy_reference = self.reference() if self.kl.kl_coefficient or needs_reference else None
        self.sampler = self.make_sampler(self.train_rows)
        self.log = RolloutLog(context.run.rollouts)
        self._guard = self.make_guard()
        self._speed = 0.0
        self._silent_rounds = 0
        self._settle: Callable[[], None] = super().settle
        self._told: set[str] = set()
        self.judge = self.make_judge()

    def make_judge(self) -> Judge:
        """What answers are worth."""
        return Judge(self.context, self.warn_once)

    def make_guard(self) -> Guard | None:
        """The watch over other rows, where it is wanted."""
        return Guard(self.context) if self.sampling.guard_data else None

    def companions(self) -> Iterable[nn.Module]:
        """The reference, and the reward model."""
        reference = self.policy_reference
        return [*([] if reference is None else [reference.model]), *self.judge.companions]

    def make_sampler(self, samples: Any) -> Sampler:
        """The order of these prompts."""
        training = self.settings.training
        return Sampler(
            self.store,
            samples,
            batch_size=training.batch_size,
            accumulation_steps=training.accumulation_steps,
            max_seq_len=self.settings.data.max_seq_len,
            packing=False,
            seed=training.seed,
        )

    def prompts_of(self, round: int) -> list[list[int]]:
        """The prompts of each micro-batch of a round."""
        return [np.concatenate(rows).tolist() for rows in self.sampler.micro_batches(round)]

    @property
    def rounds(self) -> int:
        """Rounds of the whole run: `max_steps` counts optimizer steps."""
        steps = self.settings.training.max_steps  # whole rounds are made
        return -(-steps // self.steps_per_round) if steps else super().rounds

    def largest(self) -> list[PolicyBatch]:
        """The longest prompts, each with answers as long as they may get; their log-probabilities and worth are 0."""
        answer = np.arange(self.sampling.max_new_tokens) % self.encoder.tokenizer.vocab_size
        found = []
        for prompts in self.largest_prompts():
            samples = np.repeat(prompts, self.answers_a_prompt).tolist()
            documents = [(self.store.ids(sample).tolist(), answer.tolist()) for sample in samples]
            batch = answered(documents, rows=self.store.columns["rows"][samples].tolist(), samples=samples)
            nothing = np.zeros(len(samples) * len(answer), dtype=np.float32)
            found.append(PolicyBatch(batch, dict.fromkeys(self.known(), nothing)))
        return found

    def largest_prompts(self) -> list[list[int]]:
        """The prompts of the micro-batches that may take the most memory."""
        return [np.concatenate(rows).tolist() for rows in self.sampler.largest(self.rounds)]

    def known(self) -> list[str]:
        """What a micro-batch knows of each answer token, by name; see `PolicyBatch.tokens`."""
        scores = {"old": self.needs_old, "reference": self.policy_reference is not None}
        return ["sampled", "advantage", *(name for name, there in scores.items() if there)]

    def collect(self, round: int) -> Iterable[Sequence[PolicyBatch]]:
        """The round's optimizer steps."""
        steps, self._settle = self.make_round(round)
        return steps

    def settle(self) -> None:
        """The log, the figures and a stage's own state take in the round."""
        self._settle()

    @abstractmethod
    def make_round(self, round: int) -> tuple[Iterable[Sequence[PolicyBatch]], Callable[[], None]]:
        """The steps of a round, and what settles what it changes: the log, figures, a stage's own state."""

    # Answers

    def answer(self, samples: Sequence[int], copies: int, *purpose: object, greedy: bool = False) -> list[list[Answer]]:
        """Answers of the policy as it is, judged; a function of the weights, the seed and the purpose."""
        settings = SamplingSettings(
            temperature=0.0 if greedy else self.sampling.temperature,
            top_k=self.sampling.rollout_top_k,
            top_p=1.0,
            max_new_tokens=self.sampling.max_new_tokens,
            seed=derive_seed(self.settings.training.seed, *purpose),
        )
        prompts = [self.store.ids(sample).tolist() for sample in samples]
        self.model.eval()
        began = time.perf_counter()
        with self.precision.autocast():
            made = roll_out(
                self.model, prompts, copies, settings, self.encoder.tokenizer.stop_ids,
                batch_size=self.sampling.rollout_batch_size, go_on=self.context.inbox.hurry,
            )  # fmt: skip
        self._speed = sum(len(each.ids) for group in made for each in group) / (time.perf_counter() - began)
        return self.judge(samples, prompts, made)

    def warn_once(self, name: str, message: str, which: str = "") -> None:
        """A warning that is given once a session."""
        if (key := f"{name} {which}") not in self._told:
            self._told.add(key)
            self.context.warn(name, message)

    def look_for_signal(self, batches: Sequence[PolicyBatch], answers: Sequence[Answer]) -> None:
        """Names a run that has nothing to learn from, with the reason, once it happened a few rounds in a row."""
        self._silent_rounds = 0 if batches else self._silent_rounds + 1
        if self._silent_rounds == _SILENT_ROUNDS:
            left_out = fmean(not self.counts(answer) for answer in answers)
            why = (
                f"{left_out:.0%} of the answers were cut off and are left out: raise max_new_tokens, or see truncated"
                if left_out > 0.5
                else f"all are worth the same (the last ones {answers[0].reward:.3g}): easier prompts, or other rewards"
            )
            self.context.warn("nothing_to_learn_from", f"{_SILENT_ROUNDS} rounds without a signal: {why}")

    def counts(self, answer: Answer) -> bool:
        """Whether an answer is learnt from: one that was cut off may be left out."""
        return not (self.sampling.truncated == "mask" and answer.rollout.truncated)

    # The loss

    def measure(self, batch: PolicyBatch) -> Measures:
        """The loss counts what its aggregation averages over; figures count tokens."""
        tokens, longest = float(batch.count), self.sampling.max_new_tokens
        names = ("entropy", "ratio", "clip_share", "kl_old", "sampler_distance", "kl_ref")
        counts = dict.fromkeys(names, tokens)
        counts["loss"] = aggregated_count(batch.count, len(batch), longest, self.policy_loss.aggregation)
        return self.measured(batch.batch, counts)

    def loss(self, batch: PolicyBatch) -> dict[str, Term]:
        """The policy loss, with the divergence from the reference in it, and what is watched."""
        moved = self.to_device(batch.batch)
        hidden, terms = self.hidden(moved)
        return self.policy_terms(batch, moved, hidden) | terms

    def policy_terms(self, batch: PolicyBatch, moved: DeviceBatch, hidden: Tensor) -> dict[str, Term]:
        """`loss` from the hidden states."""
        log_probs, entropies = self.log_probs(hidden, moved)
        known = {name: torch.from_numpy(values).to(hidden.device) for name, values in batch.tokens.items()}
        old = known.get("old", log_probs.detach())
        kind, (low, high) = self.policy_loss.surrogate, self.clips
        found = surrogate(kind, log_probs, old, known["advantage"], clip_low=low, clip_high=high)
        losses, figures = found.losses, {}
        if "reference" in known:
            ratios = log_probs - known["reference"]
            figures["kl_ref"] = kl_estimate(ratios.detach(), "k3")
            losses = losses + self.reference_losses(ratios)
        figures |= {
            "entropy": entropies,
            "ratio": found.ratios,
            "clip_share": found.clipped,
            "kl_old": kl_estimate(old - log_probs.detach(), "k3"),
            "sampler_distance": (old - known["sampled"]).abs(),
        }
        total = aggregate(losses, moved.documents, len(batch), self.policy_loss.aggregation)
        return {"loss": Term(total)} | {name: Term(values.sum(), 0.0) for name, values in figures.items()}

    def reference_losses(self, ratios: Tensor) -> Tensor:
        """What each token's log(policy / reference) costs."""
        return self.kl.kl_coefficient * kl_loss(ratios, self.kl.kl_estimator)

    def log_probs(self, hidden: Tensor, moved: DeviceBatch, head: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the answers' tokens at the temperature they were sampled at, and entropies."""
        return linear_log_probs(
            hidden[moved.sources],
            self.model.head_weight if head is None else head,
            moved.targets,
            chunk=self.settings.training.loss_chunk_size,
            dtype=self.precision.dtype,
            temperature=self.sampling.temperature,
        )

    @torch.no_grad()
    def with_scores(self, batch: PolicyBatch, *, old: bool) -> PolicyBatch:
        """A batch with the reference's log-probabilities, where there is one, and the policy's own before the round.

        With one update a rollout nobody has to ask the policy twice: it then is its own `old`.
        """
        more: dict[str, Any] = {}
        moved = self.to_device(batch.batch)
        with self.precision.autocast():
            if old:
                self.model.eval()
                hidden = self.model(moved.tokens, moved.positions, moved.attention)
                more["old"] = self.log_probs(hidden, moved)[0].cpu().numpy()
            if self.policy_reference is not None:
                hidden, head = self.policy_reference.hidden(moved), self.policy_reference.model.head_weight
                more["reference"] = self.log_probs(hidden, moved, head)[0].cpu().numpy()
        return batch.with_tokens(**more)

    def accept(self, terms: dict[str, float]) -> bool:
        """Every step is taken; sampling and scoring must be the same distribution."""
        apart, limit = terms.get("sampler_distance", 0.0), _APART[self.precision.dtype]
        if apart > limit and not self.sampling.rollout_top_k:
            self.warn_once(
                "sampler_is_not_scorer",
                f"sampled and scored log-probabilities lie {apart:.2g} nats apart a token, more than {limit:.0e}",
            )
        return True

    # What is watched

    def keep_answers(self, round: int, answers: Sequence[Answer], advantages: Sequence[float]) -> None:
        """Logs a round's answers and notes their figures."""
        self.log.write(round, answers, advantages)
        rewards = [answer.reward for answer in answers]
        self.note(
            rollout_tokens_per_second=self._speed,
            reward=fmean(rewards),
            reward_std=float(np.std(rewards)),
            truncated_share=fmean(answer.rollout.truncated for answer in answers),
            answer_tokens=fmean(len(answer.rollout.ids) for answer in answers),
            **{f"reward_{name}": fmean(a.scored.parts[name] for a in answers) for name in answers[0].scored.parts},
        )
        judged = [answer.correct for answer in answers if answer.correct is not None]
        if judged:
            self.note(correct_share=fmean(judged))

    def evaluate(self) -> Evaluation:
        """Greedy answers to held-out prompts: reward, right answers, format; the guard; samples."""
        metrics: dict[str, float] = {}
        if len(self.held_out):
            answers = [group[0] for group in self.answer(self.held_out.tolist(), 1, "evaluate", greedy=True)]
            metrics = {
                "val_reward": fmean(answer.scored.total for answer in answers),
                "val_format_rate": fmean(is_well_formed(answer.text) for answer in answers),
                "val_truncated_share": fmean(answer.rollout.truncated for answer in answers),
            }
            judged = [answer.correct for answer in answers if answer.correct is not None]
            if judged:
                metrics["val_pass_at_1"] = fmean(judged)
        if self._guard is not None:
            metrics |= self._guard.measure(self.model)
        return Evaluation(metrics, self.say())

    def state(self) -> dict[str, Any]:
        """How much of the rollouts' file belongs to the rounds behind."""
        return super().state() | {"rollouts_bytes": self.log.position}

    def load_state(self, state: dict[str, Any]) -> None:
        """Cuts off what will be made again."""
        super().load_state(state)
        self.log.position = state["rollouts_bytes"]
