"""Mixed precision: float32 weights, computation in another type, and the scaler that float16 needs."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from engine.training.device import DTYPES, Device


class Precision:
    """How a run computes.

    Args:
        dtype: float32, bfloat16 or float16.
        device: Where.
    """

    def __init__(self, dtype: str, device: Device) -> None:
        self.dtype, self._device = DTYPES[dtype], device
        self.scaler = torch.amp.GradScaler(device.kind, enabled=dtype == "float16")

    def autocast(self) -> AbstractContextManager[Any]:
        """The context for forward passes."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self._device.kind, dtype=self.dtype)

    def backward(self, loss: Tensor) -> None:
        """Back-propagates a loss, scaled where float16 needs it."""
        torch.autograd.backward(self.scaler.scale(loss))

    def state(self) -> dict[str, Any]:
        """The scaler's state, for a checkpoint."""
        return self.scaler.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores what `state` gave."""
        if state:
            self.scaler.load_state_dict(state)
