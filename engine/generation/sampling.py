"""How the next token is chosen from the logits."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.errors import UserError


@dataclass(frozen=True)
class SamplingSettings:
    """How to sample.

    Attributes:
        temperature: 0 takes the most probable token; 1 samples from the model's distribution.
        top_k: Only the k most probable tokens; 0: all.
        top_p: Only the most probable tokens that together reach this probability; 1: all.
        min_p: Only tokens at least this fraction as probable as the most probable; 0: all.
        repetition_penalty: Logits of tokens already in the text are divided (if positive) or multiplied by it
            (CTRL, arXiv 1909.05858, section 4.1); 1: none.
        max_new_tokens: How many tokens at most.
        seed: Where the randomness comes from.
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 0.95
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_new_tokens: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        limits = [
            ("temperature", self.temperature >= 0, "0 or more"),
            ("top_k", self.top_k >= 0, "0 or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0, at most 1"),
            ("min_p", 0 <= self.min_p < 1, "from 0, below 1"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0"),
            ("max_new_tokens", self.max_new_tokens >= 1, "1 or more"),
        ]
        for name, fits, wanted in limits:
            if not fits:
                raise UserError(f"{name} is {getattr(self, name)}; it must be {wanted}", where=name)


GREEDY = SamplingSettings(temperature=0.0)


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
    as in transformers.
    """
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
        uniforms: One number in [0, 1) a row, float64 on the CPU; the token is where the cumulative distribution passes
            it. In float32 numbers just below 1 would become 1, which no distribution passes.
    """
    if settings.temperature == 0:
        return logits.argmax(dim=-1)
    cumulative = distribution(logits, settings).cpu().double().cumsum(dim=-1)
    wanted = uniforms[:, None] * cumulative[:, -1:]
    return (cumulative <= wanted).sum(dim=-1)
