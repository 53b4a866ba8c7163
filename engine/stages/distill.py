"""White-box distillation: a student learns a frozen teacher's distributions beside the data."""

import hashlib
from itertools import pairwise

import numpy as np
import torch

from engine.errors import UserError
from engine.model.fingerprint import fingerprint
from engine.model.transformer import Transformer
from engine.objectives.divergence import CachedTeacher, Teacher, linear_divergence
from engine.settings.distill import DistillSettings
from engine.settings.places import cache_folder
from engine.stages.context import StageContext
from engine.stages.supervised import Supervised
from engine.text.batching import Batch, make_batch
from engine.text.tokenizer import Tokenizer
from engine.training.batch import DeviceBatch
from engine.training.device import DTYPES
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
        self._teacher: Transformer | None = self.frozen("teacher", self._own.teacher_dtype)
        if self._own.teacher_top_k:
            self._places, self._ids, self._log_probs = self._cached(self._teacher)
            self._teacher = None

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
        if self._teacher is not None:
            hidden = self._hidden(self._teacher, moved)
            return Teacher(hidden, self._teacher.head_weight, self._vocabulary)
        spots = np.concatenate([np.arange(*self._places[sample]) for sample in batch.samples.tolist()])
        device = moved.tokens.device
        ids, log_probs = (torch.from_numpy(kept[spots]).to(device) for kept in (self._ids, self._log_probs))
        return CachedTeacher(ids.long(), log_probs.float(), self._vocabulary)

    @torch.no_grad()
    def _hidden(self, teacher: Transformer, moved: DeviceBatch) -> torch.Tensor:
        """The teacher's hidden states at the positions that predict trained tokens, in its own precision."""
        with torch.autocast(moved.tokens.device.type, enabled=False):
            hidden: torch.Tensor = teacher(moved.tokens, moved.positions, moved.attention)
        return hidden[moved.sources]

    @torch.no_grad()
    def _cached(self, teacher: Transformer) -> tuple[list[tuple[int, int]], np.ndarray, np.ndarray]:
        """The teacher's top-k of every trained token: from disk, or by one pass over the data now.

        Returns:
            Where each sample's tokens stand, then the tokens' ids and log-probabilities, (tokens, k); memory-mapped.
        """
        top_k = min(self._own.teacher_top_k, self._vocabulary)
        counts = [int(np.count_nonzero(self.store.weights(index))) for index in range(len(self.store))]
        ends = np.cumsum([0, *counts]).tolist()
        parts = (fingerprint(teacher), self.store.folder.name, self._own.teacher_dtype, str(self._own.temperature))
        name = hashlib.blake2b("|".join((*parts, str(top_k))).encode(), digest_size=16).hexdigest()
        folder = cache_folder() / "teachers"
        paths = [folder / f"{name}.{kind}.npy" for kind in ("ids", "log_probs")]
        if not all(path.exists() for path in paths):
            folder.mkdir(parents=True, exist_ok=True)
            found = [np.zeros((ends[-1], top_k), dtype=kind) for kind in (np.int32, np.float32)]
            for index in range(len(self.store)):
                self.context.inbox.hurry()
                moved = self.to_device(make_batch(self.store, np.array([index]), slots=0))
                logits = self._hidden(teacher, moved).to(DTYPES[self._own.teacher_dtype])
                logits = (logits @ teacher.head_weight[: self._vocabulary].T).float() / self._own.temperature
                best = logits.log_softmax(dim=-1).topk(top_k, dim=-1)
                place = slice(ends[index], ends[index + 1])
                found[0][place], found[1][place] = best.indices.cpu().numpy(), best.values.cpu().numpy()
            for path, values in zip(paths, found, strict=True):
                work = path.with_suffix(".building")
                with work.open("wb") as file:
                    np.save(file, values)
                work.replace(path)
        ids, log_probs = (np.load(path, mmap_mode="r") for path in paths)
        return list(pairwise(ends)), ids, log_probs
