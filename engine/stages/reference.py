"""A frozen model that a trained one is compared with."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from engine.model.lora import adapted, adapter_disabled
from engine.model.transformer import Transformer
from engine.training.batch import DeviceBatch


class Reference:
    """A frozen model to compare with: one of its own, or the base under an adapter.

    Args:
        model: The frozen model; or the adapted one, which then computes as its base.
    """

    def __init__(self, model: Transformer) -> None:
        self.model = model
        self._shares = adapted(model)

    @torch.no_grad()
    def hidden(self, moved: DeviceBatch) -> Tensor:
        """The final hidden states [tokens, width], without dropout."""
        training, disabled = self.model.training, self._disabled()
        self.model.eval()
        try:
            with disabled:
                hidden: Tensor = self.model(moved.tokens, moved.positions, moved.attention)
        finally:
            self.model.train(training)
        return hidden

    def _disabled(self) -> AbstractContextManager[None]:
        return adapter_disabled(self.model) if self._shares else nullcontext()
