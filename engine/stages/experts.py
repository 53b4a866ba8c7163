"""How a mixture of experts was used, over all micro-batches between two reports."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

_NAMED = 8
"""So many experts have a figure of their own."""


@dataclass
class ExpertUse:
    """Counts that add up over batches.

    What a batch adds stays on its device until it is asked for: no forward pass waits for it.

    Attributes:
        loads: Tokens that each expert got, layers × experts.
        entropy: Of the routers' probabilities in nats, summed over tokens, the layers' mean.
        tokens: Tokens that were routed.
    """

    loads: list[list[int]] = field(default_factory=list)
    entropy: float = 0.0
    tokens: int = 0
    _waiting: list[tuple[Tensor, Tensor, int]] = field(default_factory=list)

    def count(self, loads: Tensor, entropy: Tensor, tokens: int) -> None:
        """Takes in a batch; see `engine.model.moe.router_figures`."""
        self._waiting.append((loads, entropy.mean(), tokens))

    def state(self) -> dict[str, Any]:
        """Plain numbers by attribute, for a checkpoint."""
        self._add_up()
        return {"loads": self.loads, "entropy": self.entropy, "tokens": self.tokens}

    def metrics(self) -> dict[str, float]:
        """Each expert's load in times of an even share, all layers together, and the extremes of any layer."""
        self._add_up()
        if not self.tokens:
            return {}
        loads = torch.tensor(self.loads, dtype=torch.float64)
        shares = loads / loads.sum(dim=-1, keepdim=True) * loads.shape[-1]
        each = shares.mean(dim=0).tolist()
        return {
            "expert_load_max": float(shares.max()),
            "expert_load_min": float(shares.min()),
            "router_entropy": self.entropy / self.tokens,
            **({f"expert_load_{number}": share for number, share in enumerate(each)} if len(each) <= _NAMED else {}),
        }

    def _add_up(self) -> None:
        for loads, entropy, tokens in self._waiting:
            before = torch.tensor(self.loads) if self.loads else torch.zeros_like(loads, device="cpu")
            self.loads = (before + loads.cpu()).tolist()
            self.entropy += float(entropy)
            self.tokens += tokens
        self._waiting.clear()
