"""How much of an answer is said again, counted in tokens so that every script counts alike."""

from collections.abc import Sequence


def repeated_share(ids: Sequence[int], n: int = 3) -> float:
    """The share of the n-grams that occurred before: 1 − distinct / all.

    Args:
        ids: Token ids.
        n: Tokens an n-gram.

    Returns:
        0 where no n-gram comes twice, towards 1 where one is said over and over; 0 for fewer than n tokens.
    """
    grams = list(zip(*(ids[start:] for start in range(n)), strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
