"""How probable a generated token was, and what else could have stood there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Alternative(NamedTuple):
    """A token that could have been next: its log-probability under the model, and its chance to be drawn."""

    id: int
    logprob: float
    sampled_probability: float


@dataclass(frozen=True, slots=True)
class Score:
    """What is known about one token at the moment it was drawn.

    Attributes:
        logprob: Natural logarithm of its probability under the model: temperature 1, nothing cut, no penalty.
        entropy: Of that distribution, in nats: 0 where the model was certain.
        rank: How many tokens were more probable under the model.
        sampled_probability: Its probability under the distribution that it was drawn from.
        alternatives: The most probable tokens under the model, best first.
    """

    logprob: float
    entropy: float
    rank: int
    sampled_probability: float
    alternatives: tuple[Alternative, ...]


class TokenScores:
    """Scores tokens as they are generated; `stream` calls it at each step.

    Args:
        alternatives: How many of the most probable tokens are kept with each token.

    Attributes:
        newest: The scores of the newest step by row.
    """

    def __init__(self, alternatives: int) -> None:
        self.alternatives = alternatives
        self.newest: dict[int, Score] = {}

    def __call__(self, rows: Sequence[int], tokens: Tensor, logits: Tensor, drawn_from: Tensor) -> None:
        """Takes in a step: the rows, their tokens [rows], the model's logits and what was drawn from, [rows, vocab]."""
        self.newest = dict(zip(rows, score(tokens, logits, drawn_from, self.alternatives), strict=True))


def score(tokens: Tensor, logits: Tensor, drawn_from: Tensor, alternatives: int) -> list[Score]:
    """A score a row.

    Args:
        tokens: Token ids, shape (rows,).
        logits: The model's own, shape (rows, vocabulary).
        drawn_from: The probabilities that were sampled from, shape (rows, vocabulary).
        alternatives: How many of the most probable tokens to keep.
    """
    logprobs = logits.float().log_softmax(dim=-1)
    index = tokens.to(logprobs.device)[:, None]
    own = logprobs.gather(-1, index)
    best = logprobs.topk(min(alternatives, logprobs.shape[-1]), dim=-1)
    columns = zip(
        own[:, 0].tolist(),
        torch.special.entr(logprobs.exp()).sum(dim=-1).tolist(),
        (logprobs > own).sum(dim=-1).tolist(),
        drawn_from.gather(-1, index)[:, 0].tolist(),
        best.indices.tolist(),
        best.values.tolist(),
        drawn_from.gather(-1, best.indices).tolist(),
        strict=True,
    )
    return [
        Score(logprob, entropy, rank, sampled, tuple(map(Alternative, *others)))
        for logprob, entropy, rank, sampled, *others in columns
    ]
