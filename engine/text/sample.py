"""What the loss reads and the eye sees: token ids with the weight of predicting each."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]
Weights = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens `start` to `end` (exclusive) belong to one party and one part of its turn.

    `role` is system, user, assistant, tool or text; `kind` is header, content, end, after, start (of a document).
    """

    start: int
    end: int
    role: str
    kind: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One training sample.

    Attributes:
        input_ids: Token ids, shape (n,).
        loss_weights: Shape (n,): the weight of predicting `input_ids[i]` from `input_ids[:i]`; the first is 0.
        spans: Who says which tokens; they cover the sample in order.
        row: The usable row of the file that it comes from.
        truncated: How many tokens of the row were cut to fit.
        problems: What is odd about it, in words.
        one_string_differs: Whether the same text, tokenised as one string, would give other ids.
    """

    input_ids: Ids
    loss_weights: Weights
    spans: tuple[Span, ...]
    row: int = 0
    truncated: int = 0
    problems: tuple[str, ...] = ()
    one_string_differs: bool = False

    @property
    def trained(self) -> int:
        """How many tokens have a weight."""
        return int(np.count_nonzero(self.loss_weights))

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to the same prompt, the first preferred."""

    chosen: Sample
    rejected: Sample


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question for the model, with what is known of its answer."""

    sample: Sample
    answer: str | None
    check: str | None
