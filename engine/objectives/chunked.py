"""A loss of a linear head's logits, computed in chunks: full logits never exist."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Slope = Callable[[Tensor, slice, bool], tuple[Tensor, Tensor | None]]
"""Makes of a chunk's logits (rows, vocabulary) in float32, which it may overwrite, the chunk's part of the loss and, if
the last argument is true, the loss's slope on the logits, of the same shape. The slice says which rows these are."""


class _ChunkedLoss(torch.autograd.Function):
    """Computes loss and gradients chunk by chunk in the forward pass; backward only scales them."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, slope_of: Slope, chunk: int, dtype: torch.dtype) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        wants_hidden, wants_head = ctx.needs_input_grad[:2]
        compute_head = head.detach().to(dtype)
        hidden_grad = torch.empty_like(hidden) if wants_hidden else None
        head_grad = torch.zeros_like(head, dtype=torch.float32) if wants_head else None
        for start in range(0, len(hidden), chunk):
            piece = slice(start, start + chunk)
            rows = hidden[piece].detach().to(dtype)
            value, slope = slope_of((rows @ compute_head.T).float(), piece, wants_hidden or wants_head)
            total += value
            if slope is None:
                continue
            slope = slope.to(dtype)
            if hidden_grad is not None:
                hidden_grad[piece] = slope @ compute_head
            if head_grad is not None:
                head_grad += slope.T @ rows
            del slope  # before the next chunk's logits exist
        ctx.gradients = (hidden_grad, head_grad, head.dtype)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = grad_outputs
        hidden_grad, head_grad, head_dtype = ctx.gradients
        ctx.gradients = None
        return (
            None if hidden_grad is None else hidden_grad.mul_(scale),
            None if head_grad is None else head_grad.mul_(scale).to(head_dtype),
            None, None, None,
        )  # fmt: skip


def chunked_loss(hidden: Tensor, head: Tensor, slope_of: Slope, *, chunk: int, dtype: torch.dtype | None) -> Tensor:
    """A loss that is a sum over rows of a function of their logits, with gradients where they are recorded.

    Backward may run once.

    Args:
        hidden: Shape (tokens, width).
        head: Shape (vocabulary, width).
        slope_of: The function.
        chunk: Rows whose logits exist at a time.
        dtype: The precision of the matrix products; the hidden states' own by default.
    """
    if not torch.is_grad_enabled():  # autograd would ask for gradients all the same
        hidden, head = hidden.detach(), head.detach()
    result: Tensor = _ChunkedLoss.apply(hidden, head, slope_of, chunk, dtype or hidden.dtype)  # type: ignore[no-untyped-call]
    return result
