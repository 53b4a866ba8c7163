"""Pretraining, mid-training, supervised fine-tuning and LoRA: predict the tokens that have a weight.

They differ in what they read, which tokens are trained and which parameters; the registry says so, the encoder and the
adapter do it.
"""

import numpy as np

from engine.settings.data import DocumentSettings
from engine.stages.base import ModelStage
from engine.stages.context import StageContext
from engine.text.batching import Batch, Sampler
from engine.training.stage import Evaluation, Measures, Term


class Supervised(ModelStage):
    """Maximum likelihood of the trained tokens, one optimizer step a round; see `engine.training.stage.Stage`."""

    def __init__(self, context: StageContext) -> None:
        super().__init__(context)
        training, data = context.settings.training, context.settings.part(DocumentSettings)
        self.sampler = Sampler(
            context.store,
            self.train_rows,
            batch_size=training.batch_size,
            accumulation_steps=training.accumulation_steps,
            max_seq_len=data.max_seq_len,
            packing=data.packing,
            seed=training.seed,
        )

    def collect(self, round: int) -> list[list[Batch]]:
        """The sampler's micro-batches of one step."""
        return [self.sampler.step(round)]

    def measure(self, batch: Batch) -> Measures:
        """The count of the loss is the sum of the weights."""
        return self.measured(batch, {"loss": float(batch.loss_weights.sum(dtype=np.float64))})

    def loss(self, batch: Batch) -> dict[str, Term]:
        """The weighted negative log-likelihood of the trained tokens."""
        moved = self.to_device(batch)
        hidden, terms = self.hidden(moved)
        return {"loss": Term(self.cross_entropy(moved, hidden))} | terms

    def evaluate(self) -> Evaluation:
        """Loss and bits per byte of the held-out rows, and answers to fixed prompts."""
        return Evaluation(self.likelihood(), self.say())
