"""What stages that learn from pairs have in common: their order, their validation."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from engine.stages.base import ModelStage
from engine.stages.context import StageContext
from engine.text.batching import Batch, Indices, Sampler, make_batch


class PairStage(ModelStage):
    """Samples lie in the store by twos: the chosen side, then the rejected one. A row of a batch is a pair."""

    together = 2

    def __init__(self, context: StageContext) -> None:
        super().__init__(context)
        training = context.settings.training
        self.held_out = whole_pairs(self.held_out, context.store.columns["rows"])
        self.sampler = Sampler(
            context.store,
            self.train_rows,
            batch_size=training.batch_size,
            accumulation_steps=training.accumulation_steps,
            max_seq_len=2 * context.settings.data.max_seq_len,
            packing=False,
            seed=training.seed,
            together=self.together,
        )

    def collect(self, round: int) -> list[list[Batch]]:
        """The sampler's micro-batches of one step."""
        return [self.sampler.step(round)]

    def parts(self, batch: Batch) -> Iterator[Batch]:
        """Its pairs."""
        documents = list(batch.documents())
        for chosen, rejected in zip(documents[::2], documents[1::2], strict=True):
            yield Batch(
                np.concatenate([chosen.input_ids, rejected.input_ids]),
                np.concatenate([chosen.loss_weights, rejected.loss_weights]),
                np.array([0, len(chosen.input_ids), len(chosen.input_ids) + len(rejected.input_ids)]),
                np.concatenate([chosen.rows, rejected.rows]),
                np.concatenate([chosen.samples, rejected.samples]),
                chosen.slots + rejected.slots,
            )

    def held_out_pairs(self) -> Iterator[Batch]:
        """Validation pairs, as many at a time as in training."""
        size = 2 * self.settings.training.batch_size
        for start in range(0, len(self.held_out), size):
            self.context.inbox.hurry()
            yield make_batch(self.store, self.held_out[start : start + size], slots=0)

    def pair_metrics(self, losses: list[Tensor], margins: list[Tensor]) -> dict[str, float]:
        """Validation figures of some batches of pairs; a tie is half right. None where there are no pairs."""
        if not losses:
            return {}
        loss, margin = torch.cat(losses).double(), torch.cat(margins).double()
        return {
            "val_loss": float(loss.mean()),
            "val_accuracy": float(((margin > 0).double() + 0.5 * (margin == 0).double()).mean()),
            "val_margin": float(margin.mean()),
        }


def whole_pairs(indices: Indices, rows: Indices) -> Indices:
    """Without the side whose other side was cut off by a limit on rows."""
    first = indices[indices % 2 == 0]
    kept = first[np.isin(first + 1, indices)]
    return np.stack([kept, kept + 1], axis=1).reshape(-1)
