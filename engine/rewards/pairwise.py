"""Pairwise preferences: answers to one prompt compared with each other instead of scored."""

from collections.abc import Sequence


def pairwise_preferences(totals: Sequence[float]) -> list[float]:
    """Win rate less loss rate of each answer against the others of its group.

    The mean of sign(total_i − total_j) over the other answers j: only the order counts, not by how much.

    Args:
        totals: The rewards of one group, answers to the same prompt.

    Returns:
        A number from −1 (worse than all) to 1 (better than all) for each; they sum to 0. A single answer gets 0.
    """
    others = max(len(totals) - 1, 1)
    return [sum((own > other) - (own < other) for other in totals) / others for own in totals]
