"""Direct preference optimization: chosen answers become more likely than rejected ones, against a frozen reference."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.objectives.divergence import Teacher, linear_divergence
from engine.objectives.log_probs import linear_log_probs
from engine.objectives.preference import Preferences, dpo, takes_mean
from engine.objectives.sequences import means, sums
from engine.settings.preference import DpoSettings
from engine.stages.context import StageContext
from engine.stages.pairs import PairStage
from engine.stages.precomputed import Precomputed
from engine.stages.reference import Reference
from engine.text.batching import Batch
from engine.training.batch import DeviceBatch
from engine.training.stage import Evaluation, Measures, Term

_FIRST_LOSS = {torch.float32: 1e-5, torch.bfloat16: 5e-3, torch.float16: 5e-3}
"""How far the loss of the first step may lie from ln 2, by the precision of computation."""


class Dpo(PairStage):
    """Documents of a batch are the chosen and the rejected side of one pair after the other."""

    def __init__(self, context: StageContext) -> None:
        super().__init__(context)
        self._own = context.settings.part(DpoSettings)
        self._reference: Reference | None = self.reference()
        self._known: Precomputed | None = None
        if self._own.reference_log_probs == "precomputed":
            self._known, self._reference = self._precomputed(self._reference), None
        self._first = True

    def companions(self) -> Iterable[nn.Module]:
        """The reference, unless it was asked before."""
        return () if self._reference is None else (self._reference.model,)

    def measure(self, batch: Batch) -> Measures:
        """Terms count pairs; log-ratios count tokens of their side, the fine-tuning term those of the chosen sides."""
        pairs = len(batch.rows) / 2
        trained = np.add.reduceat(batch.loss_weights > 0, batch.cu_seqlens[:-1])
        names = ("loss", "accuracy", "margin", "chosen_reward", "rejected_reward")
        chosen, rejected = float(trained[::2].sum()), float(trained[1::2].sum())
        counts = dict.fromkeys(names, pairs) | {"chosen_log_ratio": chosen, "rejected_log_ratio": rejected}
        if self._own.sft_weight:
            counts["sft"] = chosen
        return self.measured(batch, counts)

    def loss(self, batch: Batch) -> dict[str, Term]:
        """The loss of the pairs, and what they look like to the policy."""
        moved = self.to_device(batch)
        hidden, terms = self.hidden(moved)
        log_probs = self._log_probs(hidden[moved.sources], moved, self.model.head_weight)
        found, ratios = self._compare(batch, moved, log_probs)
        margin = found.chosen_rewards - found.rejected_rewards
        chosen = moved.documents % 2 == 0
        terms = {
            "loss": Term(found.losses.sum()),
            "accuracy": Term((margin > 0).float().sum() + 0.5 * (margin == 0).float().sum(), 0.0),
            "margin": Term(margin.sum(), 0.0),
            "chosen_reward": Term(found.chosen_rewards.sum(), 0.0),
            "rejected_reward": Term(found.rejected_rewards.sum(), 0.0),
            "chosen_log_ratio": Term((ratios * chosen).sum(), 0.0),
            "rejected_log_ratio": Term((ratios * ~chosen).sum(), 0.0),
        } | terms
        if self._own.sft_weight:
            terms["sft"] = Term(-(log_probs * chosen).sum(), self._own.sft_weight)
        return terms

    def accept(self, terms: dict[str, float]) -> bool:
        """Every step is taken; before the first one policy and reference are one, and the loss must be ln 2."""
        if self._first and self._own.loss_type != "ipo":
            limit = _FIRST_LOSS[self.precision.dtype]
            if abs(terms["loss"] - math.log(2)) > limit and not self.model.config.dropout:
                self.context.warn(
                    "reference_is_not_the_policy",
                    f"the loss of the first step is {terms['loss']:.6f}, not ln 2: policy and reference differ",
                )
        self._first = False
        return True

    def load_state(self, state: dict[str, Any]) -> None:
        """A run that goes on has left its reference behind."""
        super().load_state(state)
        self._first = False

    @torch.no_grad()
    def evaluate(self) -> Evaluation:
        """Loss, accuracy and margin of the held-out pairs, divergence from the reference, answers to fixed prompts."""
        self.model.eval()
        losses, margins = [], []
        divergence, tokens = 0.0, 0
        for batch in self.held_out_pairs():
            found, apart, compared = self._look(batch)
            losses.append(found.losses)
            margins.append(found.chosen_rewards - found.rejected_rewards)
            divergence, tokens = divergence + apart, tokens + compared
        metrics = self.pair_metrics(losses, margins)
        if tokens:
            metrics["val_kl_reference"] = divergence / tokens
        return Evaluation(metrics, self.say())

    def _look(self, batch: Batch) -> tuple[Preferences, float, int]:
        """What DPO makes of held-out pairs; where the reference is there, the divergence of so many tokens from it."""
        moved, divergence, tokens = self.to_device(batch), 0.0, 0
        with self.precision.autocast():
            hidden, _ = self.hidden(moved)
            sources = hidden[moved.sources]
            del hidden
            log_probs = self._log_probs(sources, moved, self.model.head_weight)
        if self._reference is not None:
            divergence, tokens = float(self._divergence(sources, moved, self._reference)), len(sources)
        del sources
        return self._compare(batch, moved, log_probs)[0], divergence, tokens

    def _log_probs(self, sources: Tensor, moved: DeviceBatch, head: Tensor) -> Tensor:
        """The log-probability of every trained token, shape (trained,)."""
        chunk = self.settings.training.loss_chunk_size
        return linear_log_probs(sources, head, moved.targets, chunk=chunk, dtype=self.precision.dtype)[0]

    def _compare(self, batch: Batch, moved: DeviceBatch, log_probs: Tensor) -> tuple[Preferences, Tensor]:
        """What DPO makes of the pairs, and log(policy / reference) of the trained tokens without gradients."""
        ratios = log_probs - self._reference_log_probs(batch, moved)
        gathered = means if takes_mean(self._own.loss_type) else sums
        sides = gathered(ratios, moved.documents, len(batch.rows))
        return dpo(sides[::2], sides[1::2], self._own.beta, self._own.loss_type), ratios.detach()

    def _reference_log_probs(self, batch: Batch, moved: DeviceBatch) -> Tensor:
        if self._known is not None:
            [log_probs] = self._known.of(batch.samples)
            return log_probs.to(moved.tokens.device)
        assert self._reference is not None
        return self._asked(self._reference, moved)

    @torch.no_grad()
    def _asked(self, reference: Reference, moved: DeviceBatch) -> Tensor:
        with self.precision.autocast():
            hidden = reference.hidden(moved)
            return self._log_probs(hidden[moved.sources], moved, reference.model.head_weight)

    def _divergence(self, hidden: Tensor, moved: DeviceBatch, reference: Reference) -> Tensor:
        """KL(policy ‖ reference) of the whole distributions that trained tokens come from, summed, in nats."""
        with self.precision.autocast():
            its = reference.hidden(moved)[moved.sources]
        return linear_divergence(
            hidden,
            self.model.head_weight,
            Teacher(its, reference.model.head_weight.to(self.precision.dtype), self.model.config.vocab_size),
            torch.ones_like(moved.weights),
            temperature=1.0,
            reverse=True,
            chunk=self.settings.training.loss_chunk_size,
            dtype=self.precision.dtype,
        )

    def _precomputed(self, reference: Reference) -> Precomputed:
        """The reference's log-probabilities of all trained tokens, in the run's precision."""
        return self.ask_once(
            "log-probs",
            reference.model,
            (str(self.precision.dtype),),
            {"log_probs": (np.float32, ())},
            ask=lambda batch: (self._asked(reference, self.to_device(batch)),),
            what="asking the reference",
        )
