"""What a reward model thinks of given answers."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.model.heads import load_scalar_model
from engine.text.batching import Batch
from engine.text.tokenizer import Tokenizer
from engine.training.batch import to_device


class RewardScorer:
    """Gives the scores of a reward model.

    Args:
        folder: A Hugging Face sequence classifier with one label, with its tokenizer.
        device: Where.

    Attributes:
        tokenizer: Its own.
        max_length: The most tokens that it reads.

    Raises:
        CheckpointError: The folder cannot be read or holds another model.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.tokenizer = Tokenizer.load(folder)
        self._model = load_scalar_model(folder).to(device).eval()
        self.max_length = self._model.transformer.config.max_position_embeddings

    @torch.no_grad()
    def scores(self, batches: Iterable[Batch]) -> Iterator[NDArray[np.float64]]:
        """The score of each document, read at its last trained token, shape (documents,) a batch.

        Documents must be made with the model's own tokenizer, have a trained token and be no longer than `max_length`.
        """
        device = self._model.score.weight.device
        for batch in batches:
            moved = to_device(batch, device)
            values = self._model(moved.tokens, moved.positions, moved.attention).cpu().double().numpy()
            yield values[batch.last_trained()]
