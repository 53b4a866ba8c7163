"""A watch over what reinforcement learning must not lose: the loss of rows that it is not trained on."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from engine.model.transformer import Transformer
from engine.settings.rollout import RolloutSettings
from engine.stages.context import StageContext
from engine.text.batching import Batch, fill_batches
from engine.text.cache import CacheRequest, load_samples
from engine.text.encode import EncodeSettings
from engine.text.store import token_byte_lengths
from engine.training.validate import held_out_loss

_ROOM = 4096
"""Tokens that are read at a time."""


class Guard:
    """Measures the loss of conversations' answers, as fine-tuning would.

    Args:
        context: The run's.
    """

    def __init__(self, context: StageContext) -> None:
        own = context.settings.part(RolloutSettings)
        length = min(2048, context.model.config.max_position_embeddings)
        request = CacheRequest(
            Path(own.guard_data), context.run.tokenizer, EncodeSettings(length), {}, own.guard_rows, ("conversation",)
        )
        self._context = context
        self._store = load_samples(request, context.encoder.tokenizer)
        self._byte_lengths = token_byte_lengths(context.encoder.tokenizer)

    def measure(self, model: Transformer) -> dict[str, float]:
        """guard_loss, in nats a token."""
        precision = self._context.precision
        found = held_out_loss(
            model, self._batches(), self._byte_lengths, autocast=precision.autocast(), dtype=precision.dtype
        )
        return {"guard_loss": found["val_loss"]} if found else {}

    def _batches(self) -> Iterator[Batch]:
        for batch in fill_batches(self._store, np.arange(len(self._store)).tolist(), _ROOM):
            self._context.inbox.hurry()
            yield batch
