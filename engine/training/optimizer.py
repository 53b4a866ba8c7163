"""AdamW, with decay where it belongs, and its state as plain tensors."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import CheckpointError
from engine.settings.training import TrainingSettings

_STATES = ("exp_avg", "exp_avg_sq", "step")


def make_optimizer(
    named: Iterable[tuple[str, nn.Parameter]], settings: TrainingSettings, rates: Mapping[str, float] | None = None
) -> torch.optim.AdamW:
    """AdamW over the parameters that require gradients; matrices decay, norms, biases and embeddings do not.

    Args:
        named: Parameters by `module.name`.
        settings: Rates, betas and decay.
        rates: By module: its learning rate in times of the run's, kept in each group as `rate`.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named:
        if parameter.requires_grad:
            rate = (rates or {}).get(name.partition(".")[0], 1.0)
            decay = settings.weight_decay if _decays(name, parameter) else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    described: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": decay, "rate": rate} for (rate, decay), parameters in groups.items()
    ]
    return torch.optim.AdamW(
        described,
        lr=settings.learning_rate,
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_eps,
        fused=True,
    )


def _decays(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim >= 2 and "embed_tokens" not in name


def optimizer_tensors(optimizer: torch.optim.Optimizer, named: Iterable[tuple[str, nn.Parameter]]) -> dict[str, Tensor]:
    """The optimizer's state by parameter name, for safetensors."""
    return {
        f"{name}.{key}": optimizer.state[parameter][key]
        for name, parameter in named
        if parameter in optimizer.state
        for key in _STATES
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, named: Iterable[tuple[str, nn.Parameter]], tensors: Mapping[str, Tensor]
) -> None:
    """Restores what `optimizer_tensors` gave.

    Raises:
        CheckpointError: The names do not belong to these parameters.
    """
    left = dict(tensors)
    for name, parameter in named:
        keys = [f"{name}.{key}" for key in _STATES]
        if all(key in left for key in keys):
            state = {key: left.pop(f"{name}.{key}") for key in _STATES}
            # the step counter of a fused optimizer lives on the parameter's device, as the moments do
            optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in state.items()}
    if left:
        raise CheckpointError(f"the optimizer state names unknown parameters: {', '.join(sorted(left)[:3])}")
