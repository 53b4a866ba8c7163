"""Tokens made ready for looking at: what the token view paints, wherever the tokens come from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TokenSheet:
    """A run of tokens in columns, all of the same length.

    Attributes:
        texts: Each token's text; they concatenate to the whole. A character split over tokens stands on its last one,
            the tokens before it have an empty text and belong to the same cell group.
        roles: Who says the token: system, user, assistant, tool, text; `pad` for padding.
        weights: Loss weight: 0 not trained, 1 trained, above 1 trained more.
        special: Whether the token is a special one, shown by its name.
        starts: Where documents begin, of a packed batch.
        dimmed: So many tokens at the beginning stand back, such as what the two sides of a pair share.
        heat: A value from 0 (cold) to 1 (hot) for each token, None where there is none; instead of the roles' colours.
        detail: What there is to say about a token, a line each: its id, bytes, what it predicts, why it is trained.
    """

    texts: Sequence[str]
    roles: Sequence[str]
    weights: Sequence[float]
    special: Sequence[bool]
    starts: Sequence[int] = ()
    dimmed: int = 0
    heat: Sequence[float | None] = ()
    detail: Callable[[int], Sequence[str]] = field(default=lambda index: ())

    def __len__(self) -> int:
        return len(self.texts)
