"""Sums and means over the sequences of a flat batch."""

import torch
from torch import Tensor


def sums(values: Tensor, sequence: Tensor, count: int) -> Tensor:
    """The sum of each sequence's values, shape (count,).

    Args:
        values: One value a token, shape (tokens,).
        sequence: The number of the sequence that each token belongs to, shape (tokens,).
        count: How many sequences there are.
    """
    return torch.zeros(count, dtype=values.dtype, device=values.device).index_add(0, sequence, values)


def lengths(sequence: Tensor, count: int) -> Tensor:
    """Tokens of each sequence, float32, shape (count,)."""
    return sums(torch.ones_like(sequence, dtype=torch.float32), sequence, count)


def means(values: Tensor, sequence: Tensor, count: int) -> Tensor:
    """The mean of each sequence's values, shape (count,); 0 for a sequence without tokens."""
    return sums(values, sequence, count) / lengths(sequence, count).clamp(min=1)
