"""How the next token is chosen from the logits."""

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.generation.settings import GREEDY, SamplingSettings

__all__ = ["GREEDY", "SamplingSettings", "choose", "distribution", "draw", "penalise"]


def penalise(logits: Tensor, seen: Sequence[Sequence[int]], penalty: float) -> Tensor:
    """Lowers the logits of tokens that a row has seen. logits: (rows, vocabulary)."""
    if penalty == 1:
        return logits
    logits = logits.clone()
    for row, tokens in enumerate(seen):
        index = torch.tensor(sorted(set(tokens)), device=logits.device)
        chosen = logits[row, index]
        logits[row, index] = torch.where(chosen > 0, chosen / penalty, chosen * penalty)
    return logits


def distribution(logits: Tensor, settings: SamplingSettings) -> Tensor:
    """The probabilities that are sampled from, (rows, vocabulary) in float32.

    After the temperature come the cuts, top-k, top-p (arXiv 1904.09751) and min-p (arXiv 2407.01082), in this order,
    as in transformers. At temperature 0 everything lies on the most probable token.
    """
    if settings.temperature == 0:
        best = logits.argmax(dim=-1, keepdim=True)
        return torch.zeros(logits.shape, device=logits.device).scatter(-1, best, 1)
    logits = logits.float() / settings.temperature
    if settings.top_k and settings.top_k < logits.shape[-1]:
        floor = logits.topk(settings.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < floor, -torch.inf)
    probabilities = logits.softmax(dim=-1)
    if settings.top_p < 1:
        ordered, order = probabilities.sort(dim=-1, descending=True)
        before = ordered.cumsum(dim=-1) - ordered
        cut = ordered.masked_fill(before >= settings.top_p, 0)
        probabilities = torch.zeros_like(probabilities).scatter(-1, order, cut)
    if settings.min_p:
        floor = probabilities.amax(dim=-1, keepdim=True) * settings.min_p
        probabilities = probabilities.masked_fill(probabilities < floor, 0)
    return probabilities / probabilities.sum(dim=-1, keepdim=True)


def choose(logits: Tensor, settings: SamplingSettings, uniforms: Tensor) -> Tensor:
    """One token a row, shape (rows,).

    Args:
        logits: Shape (rows, vocabulary).
        settings: How.
        uniforms: See `draw`.
    """
    if settings.temperature == 0:
        return logits.argmax(dim=-1)
    return draw(distribution(logits, settings), uniforms)


def draw(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """One token a row, shape (rows,): where the cumulative distribution passes the row's number.

    Args:
        probabilities: Shape (rows, vocabulary).
        uniforms: One number in [0, 1) a row, float64 on the CPU. In float32 numbers just below 1 would become 1, which
            no distribution passes.
    """
    cumulative = probabilities.cpu().double().cumsum(dim=-1)
    wanted = uniforms[:, None] * cumulative[:, -1:]
    return (cumulative <= wanted).sum(dim=-1)
