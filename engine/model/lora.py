"""Low-rank adapters: small trained matrices beside frozen linear layers (LoRA, arXiv 2106.09685)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.errors import ProfileError
from engine.model.transformer import Block
from engine.settings.suggest import nearest

ALL_LINEAR = "all-linear"
"""The target that stands for every linear layer of the blocks."""
MAX_RANK = 65536
"""As many as the widest model has features; more would not add a direction."""
MAX_ALPHA = 1e6


@dataclass(frozen=True)
class LoraConfig:
    """Size and place of an adapter.

    Args:
        rank: Inner width r of the two matrices.
        alpha: What the adapter adds is multiplied by alpha / rank.
        dropout: Share of an adapter's inputs that is dropped while training.
        targets: Linear layers by the end of their names (`q_proj`, `self_attn.q_proj`), or `all-linear`.

    Raises:
        ProfileError: A value out of its range.
    """

    rank: int
    alpha: float
    dropout: float = 0.0
    targets: tuple[str, ...] = (ALL_LINEAR,)

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= MAX_RANK:
            raise ProfileError(f"the rank of an adapter is {self.rank}", hint=f"it must be 1 to {MAX_RANK}")
        if not 0 < self.alpha <= MAX_ALPHA:
            raise ProfileError(f"the alpha of an adapter is {self.alpha}", hint=f"above 0, up to {MAX_ALPHA:.0f}")
        if not 0 <= self.dropout < 1:
            raise ProfileError(f"the dropout of an adapter is {self.dropout}", hint="a share: 0 up to below 1")
        if not self.targets:
            raise ProfileError("an adapter without targets", hint=f"name linear layers, or take {ALL_LINEAR}")

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return self.alpha / self.rank


class LoraLinear(nn.Linear):
    """y = W·x + b + (alpha / rank) · B·A·dropout(x).

    The base keeps its names `weight` and `bias` and its very parameters; the adapter's are beside them.

    Args:
        base: The layer that is adapted.
        config: Gives scale and dropout.
        lora_A: [rank, in_features], copied to the base's device and dtype.
        lora_B: [out_features, rank], the same.

    Attributes:
        active: Whether the adapter takes part.
    """

    def __init__(self, base: nn.Linear, config: LoraConfig, lora_A: Tensor, lora_B: Tensor) -> None:
        super().__init__(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
        _take_weights(self, base)
        self.config, self.active = config, True
        self.lora_A = nn.Parameter(lora_A.to(base.weight, copy=True))
        self.lora_B = nn.Parameter(lora_B.to(base.weight, copy=True))

    def forward(self, input: Tensor) -> Tensor:
        """[..., in_features] → [..., out_features]."""
        result = super().forward(input)
        if not self.active:
            return result
        inner = F.linear(F.dropout(input, self.config.dropout, self.training), self.lora_A)
        return result + self.config.scale * F.linear(inner, self.lora_B)


def adaptable(model: nn.Module) -> dict[str, nn.Linear]:
    """The layers that can have an adapter, by name: the linear layers of all blocks, experts too.

    Heads lie outside of the blocks, and the router of experts is no `nn.Linear`.
    """
    blocks = [(prefix, module) for prefix, module in model.named_modules() if isinstance(module, Block)]
    return {
        f"{prefix}.{name}": module
        for prefix, block in blocks
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear)
    }


def adapters(model: nn.Module) -> dict[str, LoraLinear]:
    """The layers that have an adapter, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}


def adapted(model: nn.Module) -> bool:
    """Whether the model has an adapter."""
    return bool(adapters(model))


def is_target(name: str, target: str) -> bool:
    """Whether a target means the layer of that name: it is its end, cut at a dot, as in peft."""
    return target == ALL_LINEAR or f".{name}".endswith(f".{target}")


def attach(model: nn.Module, config: LoraConfig) -> list[str]:
    """Gives the targets fresh adapters, in place; from then on only these require gradients.

    A is drawn as peft does (Kaiming uniform with a = √5: ±1/√in_features) from torch's global generator, on the CPU
    whatever the model's device, B is 0: the model computes what it did before.

    Returns:
        The names of the adapted layers.

    Raises:
        ProfileError: A target that no layer has.
        ValueError: The model has an adapter already.
    """
    layers = adaptable(model)
    for target in config.targets:
        if not any(is_target(name, target) for name in layers):
            known = list(dict.fromkeys(name.rpartition(".")[2] for name in layers))
            raise ProfileError(
                f"no layer can be adapted under the name {target!r}",
                hint=nearest(target, known) or f"there are {', '.join(known)}, and {ALL_LINEAR}",
            )
    chosen = {name: layer for name, layer in layers.items() if any(is_target(name, each) for each in config.targets)}
    insert(model, config, {name: _fresh(layer, config.rank) for name, layer in chosen.items()})
    return list(chosen)


def insert(model: nn.Module, config: LoraConfig, tensors: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Gives layers adapters of these weights, in place; from then on only these require gradients.

    Args:
        model: Has no adapter yet.
        config: Gives scale and dropout.
        tensors: lora_A and lora_B by the name of an adaptable layer.

    Raises:
        ValueError: The model has an adapter already.
    """
    if adapted(model):
        raise ValueError("the model has an adapter already; detach it first")
    layers = adaptable(model)
    model.requires_grad_(False)
    for name, (lora_A, lora_B) in tensors.items():
        _replace(model, name, LoraLinear(layers[name], config, lora_A, lora_B).train(layers[name].training))


def detach(model: nn.Module) -> None:
    """Takes the adapters out; the base is what it was, and all of it requires gradients."""
    for name, layer in adapters(model).items():
        plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        _take_weights(plain, layer)
        _replace(model, name, plain.train(layer.training))
    model.requires_grad_(True)


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Adds the adapters to the weights, W + (alpha / rank)·B·A in fp32, and takes them out.

    What was the base's is lost: `detach` first where it is still needed.
    """
    for layer in adapters(model).values():
        update = layer.lora_B.float() @ layer.lora_A.float()
        layer.weight.copy_(layer.weight.float() + layer.config.scale * update)
    detach(model)


@contextmanager
def adapter_disabled(model: nn.Module) -> Iterator[None]:
    """Within it the model computes as its base; for passes without gradients, such as those of a reference.

    (A block that gradient checkpointing computes again would do so with the adapter.)
    """
    before = {layer: layer.active for layer in adapters(model).values()}
    try:
        for layer in before:
            layer.active = False
        yield
    finally:
        for layer, active in before.items():
            layer.active = active


def _fresh(layer: nn.Linear, rank: int) -> tuple[Tensor, Tensor]:
    lora_A = nn.init.kaiming_uniform_(torch.empty(rank, layer.in_features), a=math.sqrt(5))
    return lora_A, torch.zeros(layer.out_features, rank)


def _take_weights(layer: nn.Linear, source: nn.Linear) -> None:
    layer.weight, layer.bias = source.weight, source.bias


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)
