"""How the documents of a flat batch share attention calls. Torch-free: memory is planned by it too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

CALL_COST = 4096
"""What one attention call costs beside its work, in pairs of tokens: as much as a document of 64 tokens."""
MOVE_COST = 24
"""What it costs to move a token into its padded slot and back, in pairs of tokens."""
EXPLICIT_LIMIT = 512
"""Up to this length bf16 scores are written out on a CPU, see `engine.model.attention.causal`."""
EXPLICIT_SCORES = 2**20
"""How many scores are written out at a time: 2 MiB, about what stays near the core."""


@dataclass(frozen=True)
class Group:
    """Documents that share one call: `documents` of them, each padded to `length` slots."""

    documents: int
    length: int

    @property
    def slots(self) -> int:
        """What the call attends to."""
        return self.documents * self.length


@dataclass(frozen=True)
class Grouping:
    """The calls of a batch.

    Attributes:
        groups: One call each.
        order: The documents in the order of the groups' slots where they are moved there; None where they stay.
    """

    groups: list[Group]
    order: list[int] | None

    @property
    def slots(self) -> int:
        """What is attended to in each layer, padding included."""
        return sum(group.slots for group in self.groups)


def group_documents(lengths: Sequence[int]) -> Grouping:
    """The cheaper of two ways: neighbours of equal length together, or sorted by length and padded; see
    `engine.model.attention.DocumentAttention`.
    """
    in_order = [Group(len(list(run)), length) for length, run in groupby(lengths)]
    by_length = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    padded: list[Group] = []
    for document in by_length:
        if padded and padded[-1].length ** 2 - lengths[document] ** 2 < CALL_COST:
            padded[-1] = Group(padded[-1].documents + 1, padded[-1].length)
        else:
            padded.append(Group(1, lengths[document]))
    if _cost(padded) + MOVE_COST * sum(lengths) < _cost(in_order):
        return Grouping(padded, by_length)
    return Grouping(in_order, None)


def _cost(groups: Sequence[Group]) -> int:
    """Pairs of tokens that the calls of a plan are worth."""
    return sum(CALL_COST + group.documents * group.length**2 for group in groups)
