"""Direct preference optimization: chosen answers become more likely than rejected ones, against a frozen reference."""

import hashlib
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.model.fingerprint import fingerprint
from engine.objectives.divergence import kl_estimate
from engine.objectives.log_probs import linear_log_probs
from engine.objectives.preference import Preferences, dpo, takes_mean
from engine.objectives.sequences import means, sums
from engine.settings.places import cache_folder
from engine.settings.preference import DpoSettings
from engine.stages.base import Reference
from engine.stages.context import StageContext
from engine.stages.pairs import PairStage
from engine.text.batching import Batch, make_batch
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
        self._known: tuple[Tensor, ...] | None = None
        if self._own.reference_log_probs == "precomputed":
            self._known, self._reference = self._precomputed(self._reference), None
        self._first = True

    def measure(self, batch: Batch) -> Measures:
        """Terms count pairs; the divergence counts tokens, the fine-tuning term tokens of the chosen sides."""
        pairs = len(batch.rows) / 2
        trained = np.add.reduceat(batch.loss_weights > 0, batch.cu_seqlens[:-1])
        names = ("loss", "accuracy", "margin", "chosen_reward", "rejected_reward")
        counts = dict.fromkeys(names, pairs) | {"kl": float(trained.sum())}
        if self._own.sft_weight:
            counts["sft"] = float(trained[::2].sum())
        return self.measured(batch, counts)

    def loss(self, batch: Batch) -> dict[str, Term]:
        """The loss of the pairs, and what they look like to the policy."""
        moved = self.to_device(batch)
        hidden, terms = self.hidden(moved)
        log_probs = self._log_probs(hidden[moved.sources], moved, self.model.head_weight)
        found, ratios = self._compare(batch, moved, log_probs)
        margin = found.chosen_rewards - found.rejected_rewards
        terms = {
            "loss": Term(found.losses.sum()),
            "accuracy": Term((margin > 0).float().sum() + 0.5 * (margin == 0).float().sum(), 0.0),
            "margin": Term(margin.sum(), 0.0),
            "chosen_reward": Term(found.chosen_rewards.sum(), 0.0),
            "rejected_reward": Term(found.rejected_rewards.sum(), 0.0),
            "kl": Term(kl_estimate(ratios, "k3").sum(), 0.0),
        } | terms
        if self._own.sft_weight:
            terms["sft"] = Term(-(log_probs * (moved.documents % 2 == 0)).sum(), self._own.sft_weight)
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
        """Loss, accuracy and margin of the held-out pairs, and answers to fixed prompts."""
        self.model.eval()
        losses, margins = [], []
        for batch in self.held_out_pairs():
            moved = self.to_device(batch)
            with self.precision.autocast():
                hidden, _ = self.hidden(moved)
                log_probs = self._log_probs(hidden[moved.sources], moved, self.model.head_weight)
            found, _ = self._compare(batch, moved, log_probs)
            losses.append(found.losses)
            margins.append(found.chosen_rewards - found.rejected_rewards)
        return Evaluation(self.pair_metrics(losses, margins), self.say())

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
            return torch.cat([self._known[sample] for sample in batch.samples.tolist()]).to(moved.tokens.device)
        assert self._reference is not None
        return self._asked(self._reference, moved)

    @torch.no_grad()
    def _asked(self, reference: Reference, moved: DeviceBatch) -> Tensor:
        with self.precision.autocast():
            hidden = reference.hidden(moved)
            return self._log_probs(hidden[moved.sources], moved, reference.model.head_weight)

    # What the reference says, computed once

    def _precomputed(self, reference: Reference) -> tuple[Tensor, ...]:
        """The reference's log-probabilities of each sample's trained tokens, from the cache or computed now.

        They are kept under the digest of the reference's weights, its position code, the token cache (data, tokenizer,
        template, lengths) and the precision.
        """
        code, precision = str(reference.model.config.rope_scaling), str(self.precision.dtype)
        parts = (fingerprint(reference.model), code, self.store.folder.name, precision)
        name = hashlib.blake2b("|".join(parts).encode(), digest_size=16).hexdigest()
        path = cache_folder() / "log-probs" / f"{name}.npy"
        lengths = [int(np.count_nonzero(self.store.weights(index))) for index in range(len(self.store))]
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            found = np.zeros(sum(lengths), dtype=np.float32)
            ends = np.cumsum([0, *lengths])
            for start in range(0, len(self.store), 2 * self.settings.training.batch_size):
                self.context.inbox.hurry()
                rows = np.arange(start, min(start + 2 * self.settings.training.batch_size, len(self.store)))
                values = self._asked(reference, self.to_device(make_batch(self.store, rows, slots=0)))
                found[ends[rows[0]] : ends[rows[-1] + 1]] = values.float().cpu().numpy()
            work = path.with_suffix(".building")
            with work.open("wb") as file:
                np.save(file, found)
            work.replace(path)
        return torch.split(torch.from_numpy(np.load(path)), lengths)
