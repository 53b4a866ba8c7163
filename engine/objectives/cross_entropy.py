"""Cross-entropy of a linear head, in chunks: full logits never exist."""

from typing import Any

import torch
from torch import Tensor


class _LinearCrossEntropy(torch.autograd.Function):
    """Computes loss and gradients chunk by chunk in the forward pass; backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor, chunk: int, dtype: torch.dtype
    ) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        wants_hidden, wants_head = ctx.needs_input_grad[:2]
        compute_head = head.detach().to(dtype)
        hidden_grad = torch.empty_like(hidden) if wants_hidden else None
        head_grad = torch.zeros_like(head, dtype=torch.float32) if wants_head else None
        for start in range(0, len(hidden), chunk):
            piece = slice(start, start + chunk)
            rows = hidden[piece].detach().to(dtype)
            logits = (rows @ compute_head.T).float()
            wanted, weight = targets[piece, None], weights[piece]
            log_normaliser = logits.logsumexp(dim=-1)
            total += ((log_normaliser - logits.gather(1, wanted)[:, 0]) * weight).sum()
            if hidden_grad is None and head_grad is None:
                continue
            # d(loss)/d(logits) = weight · (softmax − one-hot), built in place of the logits
            slope = logits.sub_(log_normaliser[:, None]).exp_()
            slope.scatter_add_(1, wanted, torch.full_like(slope[:, :1], -1.0)).mul_(weight[:, None])
            slope = slope.to(dtype)
            if hidden_grad is not None:
                hidden_grad[piece] = slope @ compute_head
            if head_grad is not None:
                head_grad += slope.T @ rows
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
            None, None, None, None,
        )  # fmt: skip


def linear_cross_entropy(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    chunk: int = 1024,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The weighted sum of negative log-likelihoods, Σ w·(−log softmax(h·Wᵀ)[target]), in nats.

    Softmax and sum are computed in float32; the products in `dtype`. Backward may run once.

    Args:
        hidden: Shape (tokens, width).
        head: Shape (vocabulary, width).
        targets: Token ids, shape (tokens,).
        weights: Shape (tokens,), float32.
        chunk: Tokens whose logits exist at a time.
        dtype: The precision of the matrix products; the hidden states' own by default.
    """
    result: Tensor = _LinearCrossEntropy.apply(hidden, head, targets, weights, chunk, dtype or hidden.dtype)  # type: ignore[no-untyped-call]
    return result


@torch.no_grad()
def token_losses(
    hidden: Tensor, head: Tensor, targets: Tensor, *, chunk: int = 1024, dtype: torch.dtype | None = None
) -> Tensor:
    """The negative log-likelihood of each target in nats, shape (tokens,), float32; without gradients."""
    kind = dtype or hidden.dtype
    losses: list[Tensor] = []
    for start in range(0, len(hidden), chunk):
        logits = (hidden[start : start + chunk].to(kind) @ head.to(kind).T).float()
        wanted = targets[start : start + chunk, None]
        losses.append(logits.logsumexp(dim=-1) - logits.gather(1, wanted)[:, 0])
    return torch.cat(losses) if losses else torch.zeros(0, device=hidden.device)
