"""Reductions over the processes of a run; on one process they change nothing."""

from typing import Any

import torch
import torch.distributed as dist
from torch import nn


def rank() -> int:
    """This process's number."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_over_ranks(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """Each value summed over all processes; one that a process does not have counts as 0 there."""
    if world_size() == 1:
        return values
    known: list[Any] = [None] * world_size()
    dist.all_gather_object(known, sorted(values))
    names = sorted({name for each in known for name in each})
    tensor = torch.tensor([values.get(name, 0.0) for name in names], dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return dict(zip(names, tensor.tolist(), strict=True))


def sum_gradients(parameters: list[nn.Parameter]) -> None:
    """Sums gradients over all processes; losses are already divided by the counts of the whole step."""
    if world_size() > 1:
        for parameter in parameters:
            if parameter.grad is None:  # this process had nothing to learn from
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
