"""White-box distillation: a student learns a frozen teacher's distributions beside the data."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from engine.errors import UserError
from engine.model.transformer import Transformer
from engine.objectives.divergence import CachedTeacher, Teacher, linear_divergence
from engine.settings.distill import DistillSettings
from engine.stages.context import StageContext
from engine.stages.precomputed import Precomputed
from engine.stages.supervised import Supervised
from engine.text.batching import Batch
from engine.text.tokenizer import Tokenizer
from engine.training.batch import DeviceBatch
from engine.training.stage import Measures, Term


class Distillation(Supervised):
    """α·cross-entropy + (1 − α)·T²·KL (Hinton et al., arXiv 1503.02531), both over the trained tokens of the step."""

    def __init__(self, context: StageContext) -> None:
        super().__init__(context)
        self._own = context.settings.part(DistillSettings)
        folder = context.run.companion("teacher")
        if Tokenizer.load(folder).fingerprint != context.encoder.tokenizer.fingerprint:
            raise UserError(
                "the teacher has another tokenizer than the student: its probabilities are of other tokens",
                where="teacher",
                hint="take a teacher that was trained with the student's tokenizer",
            )
        self._vocabulary = context.encoder.tokenizer.vocab_size
        self._top_k = min(self._own.teacher_top_k, self._vocabulary)
        self._teacher: Transformer | None = self.frozen("teacher", self._own.teacher_dtype)
        self._known: Precomputed | None = None
        if self._top_k:
            self._known, self._teacher = self._precomputed(self._teacher), None

    def companions(self) -> Iterable[nn.Module]:
        """The teacher, unless it was asked before."""
        return () if self._teacher is None else (self._teacher,)

    def measure(self, batch: Batch) -> Measures:
        """Both terms count the sum of the weights."""
        count = float(batch.loss_weights.sum(dtype=np.float64))
        return self.measured(batch, {"cross_entropy": count, "divergence": count})

    def loss(self, batch: Batch) -> dict[str, Term]:
        """The two terms; untrained tokens are left out before either is computed."""
        moved = self.to_device(batch)
        hidden, terms = self.hidden(moved)
        alpha, temperature = self._own.alpha, self._own.temperature
        divergence = linear_divergence(
            hidden[moved.sources],
            self.model.head_weight,
            self._distributions(batch, moved),
            moved.weights,
            temperature=temperature,
            reverse=self._own.direction == "reverse",
            chunk=self.settings.training.loss_chunk_size,
            dtype=self.precision.dtype,
        )
        return {
            "cross_entropy": Term(self.cross_entropy(moved, hidden), alpha),
            "divergence": Term(divergence, (1 - alpha) * temperature**2),
        } | terms

    def _distributions(self, batch: Batch, moved: DeviceBatch) -> Teacher | CachedTeacher:
        """What the teacher says of the batch's trained tokens."""
        if self._known is not None:
            ids, log_probs = (kept.to(moved.tokens.device) for kept in self._known.of(batch.samples))
            return CachedTeacher(ids.long(), log_probs, self._vocabulary)
        assert self._teacher is not None
        hidden = self._hidden(self._teacher, moved)
        return Teacher(hidden, self._teacher.head_weight, self._vocabulary)

    @torch.no_grad()
    def _hidden(self, teacher: Transformer, moved: DeviceBatch) -> torch.Tensor:
        """The teacher's hidden states at the positions that predict trained tokens, in its own precision."""
        with torch.autocast(moved.tokens.device.type, enabled=False):
            hidden: torch.Tensor = teacher(moved.tokens, moved.positions, moved.attention)
        return hidden[moved.sources]

    @torch.no_grad()
    def _top(self, teacher: Transformer, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and log-probabilities of the teacher's most probable tokens, each (trained tokens, k)."""
        found = []
        head, chunk = teacher.head_weight[: self._vocabulary], self.settings.training.loss_chunk_size
        for hidden in torch.split(self._hidden(teacher, self.to_device(batch)), chunk):
            logits = (hidden.to(head.dtype) @ head.T).float() / self._own.temperature
            best = logits.topk(self._top_k, dim=-1)
            found.append((best.indices, best.values - logits.logsumexp(dim=-1, keepdim=True)))
        ids, log_probs = (torch.cat(parts) for parts in zip(*found, strict=True))
        return ids, log_probs

    def _precomputed(self, teacher: Transformer) -> Precomputed:
        """The teacher's top-k of every trained token at the temperature of the distillation."""
        return self.ask_once(
            "teachers",
            teacher,
            (self._own.teacher_dtype, self._own.temperature),
            {"ids": (np.int32, (self._top_k,)), "log_probs": (np.float32, (self._top_k,))},
            ask=lambda batch: self._top(teacher, batch),
            what="asking the teacher",
        )
