"""Log-probabilities of given tokens under a linear head, with gradients, in chunks: full logits never exist."""

from typing import Any

import torch
from torch import Tensor


class _LinearLogProbs(torch.autograd.Function):
    """Keeps one number a token from the forward pass and computes each chunk's logits again on the way back."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, chunk: int, dtype: torch.dtype, temperature: float
    ) -> tuple[Tensor, Tensor]:
        compute_head = head.detach().to(dtype)
        log_probs, normalisers, entropies = (torch.empty(len(hidden), device=hidden.device) for _ in range(3))
        for start in range(0, len(hidden), chunk):
            piece = slice(start, start + chunk)
            logits = (hidden[piece].detach().to(dtype) @ compute_head.T).float().div_(temperature)
            normalisers[piece] = logits.logsumexp(dim=-1)
            log_probs[piece] = logits.gather(1, targets[piece, None])[:, 0] - normalisers[piece]
            likely = (logits - normalisers[piece, None]).exp_()
            entropies[piece] = normalisers[piece] - likely.mul_(logits).sum(dim=-1)
            del logits, likely  # before the next chunk's exist
        ctx.save_for_backward(hidden, head, targets, normalisers)
        ctx.chunk, ctx.dtype, ctx.temperature = chunk, dtype, temperature
        ctx.mark_non_differentiable(entropies)
        return log_probs, entropies

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        hidden, head, targets, normalisers = ctx.saved_tensors
        wants_hidden, wants_head = ctx.needs_input_grad[:2]
        slopes = grad_outputs[0].float() / ctx.temperature
        compute_head = head.to(ctx.dtype)
        hidden_grad = torch.empty_like(hidden) if wants_hidden else None
        head_grad = torch.zeros_like(head, dtype=torch.float32) if wants_head else None
        for start in range(0, len(hidden), ctx.chunk):
            piece = slice(start, start + ctx.chunk)
            rows, slope = hidden[piece].to(ctx.dtype), slopes[piece, None]
            logits = (rows @ compute_head.T).float().div_(ctx.temperature)
            # d(log p[target])/d(logits) = (one-hot − softmax) / temperature
            grad = logits.sub_(normalisers[piece, None]).exp_().mul_(-slope)
            grad = grad.scatter_add_(1, targets[piece, None], slope).to(ctx.dtype)
            if hidden_grad is not None:
                hidden_grad[piece] = grad @ compute_head
            if head_grad is not None:
                head_grad += grad.T @ rows
            del logits, grad
        return hidden_grad, None if head_grad is None else head_grad.to(head.dtype), None, None, None, None


def linear_log_probs(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    *,
    chunk: int = 1024,
    dtype: torch.dtype | None = None,
    temperature: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """log softmax(h·Wᵀ / temperature)[target] of each row, in nats.

    Args:
        hidden: Shape (tokens, width).
        head: Shape (vocabulary, width).
        targets: Token ids, shape (tokens,).
        chunk: Tokens whose logits exist at a time.
        dtype: The precision of the matrix products; the hidden states' own by default. Softmax is float32.
        temperature: What the logits are divided by, as when sampling.

    Returns:
        The log-probabilities, shape (tokens,) in float32, with gradients; and the entropies of the same distributions
        in nats, without.
    """
    found: tuple[Tensor, Tensor] = _LinearLogProbs.apply(  # type: ignore[no-untyped-call]
        hidden, head, targets, chunk, dtype or hidden.dtype, temperature
    )
    return found
