"""How fast this machine multiplies the matrices of a model: the denominator of model flops utilisation."""

import time

import torch
from torch import Tensor
from torch.nn import functional

from engine.model.config import ModelConfig
from engine.training.device import Device

_ROWS, _TRIES, _SECONDS = 1024, 3, 0.05


def matrix_flops_per_second(config: ModelConfig, tokens: int, dtype: torch.dtype, device: Device) -> float:
    """Floating point operations a second over the model's own linear layers, forward and both backward products.

    Every distinct shape is timed (the best of up to three, after a warm-up, while there is time) and weighs as often as
    it occurs.

    Args:
        config: The model's shape.
        tokens: Rows of the products: tokens in a micro-batch; more than 1,024 make no difference and are not timed.
        dtype: Precision of the products.
        device: Where.
    """
    tokens = min(tokens, _ROWS)
    width, head = config.hidden_size, config.head_dim
    inner, passes = config.intermediate_size, 1
    if config.num_experts:  # a token passes through its own experts and the shared ones
        inner, passes = config.moe_intermediate_size, config.num_experts_per_tok + config.num_shared_experts
    shapes: dict[tuple[int, int], int] = {}
    for shape, count in (
        ((width, config.num_attention_heads * head), 2 * config.num_hidden_layers),
        ((width, config.num_key_value_heads * head), 2 * config.num_hidden_layers),
        ((width, inner), 3 * passes * config.num_hidden_layers),
        ((width, config.vocab_size), 1),
    ):
        shapes[shape] = shapes.get(shape, 0) + count
    flops = seconds = 0.0
    for (inner, outer), count in shapes.items():
        rows = torch.randn(tokens, inner, device=device.torch_device).to(dtype)
        weight = torch.randn(outer, inner, device=device.torch_device).to(dtype)
        slope = torch.randn(tokens, outer, device=device.torch_device).to(dtype)
        seconds += count * _best(rows, weight, slope, device)
        flops += count * 6.0 * tokens * inner * outer
    return flops / seconds


def _best(rows: Tensor, weight: Tensor, slope: Tensor, device: Device) -> float:
    """Seconds of the three products; the first try warms up; further ones are made while there is time."""
    warm_up = _time(rows, weight, slope, device)
    began, best = time.perf_counter(), warm_up
    for number in range(_TRIES):
        if number and time.perf_counter() - began + best > _SECONDS:
            break
        best = min(best, _time(rows, weight, slope, device))
    return best


def _time(rows: Tensor, weight: Tensor, slope: Tensor, device: Device) -> float:
    device.synchronize()
    began = time.perf_counter()
    functional.linear(rows, weight)
    slope @ weight
    slope.T @ rows
    device.synchronize()
    return time.perf_counter() - began
