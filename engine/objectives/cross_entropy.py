"""Cross-entropy of a linear head, in chunks: full logits never exist."""

import torch
from torch import Tensor

from engine.objectives.chunked import chunked_loss


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

    def slope_of(logits: Tensor, piece: slice, wanted: bool) -> tuple[Tensor, Tensor | None]:
        target, weight = targets[piece, None], weights[piece]
        log_normaliser = logits.logsumexp(dim=-1)
        value = ((log_normaliser - logits.gather(1, target)[:, 0]) * weight).sum()
        if not wanted:
            return value, None
        # d(loss)/d(logits) = weight · (softmax − one-hot), built in place of the logits
        slope = logits.sub_(log_normaliser[:, None]).exp_()
        return value, slope.scatter_add_(1, target, torch.full_like(slope[:, :1], -1.0)).mul_(weight[:, None])

    return chunked_loss(hidden, head, slope_of, chunk=chunk, dtype=dtype)


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
