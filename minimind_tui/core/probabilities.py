"""How probable the tokens of an answer were, made ready for looking at. Without Textual and torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minimind_tui.core.tokens import TokenSheet
from minimind_tui.core.transcript import Turn

if TYPE_CHECKING:
    from engine.generation.chat import Token

_SHOWN = str.maketrans({"\n": "⏎", "\t": "⇥"})


@dataclass(frozen=True)
class Bar:
    """One token that could have been said.

    Attributes:
        name: In quotes, so that spaces are seen; not cleaned.
        probability: Under the model, at temperature 1.
        sampled: Under the distribution that was drawn from.
        said: It is the one that was said.
    """

    name: str
    probability: float
    sampled: float
    said: bool


def token_sheet(turn: Turn) -> TokenSheet | None:
    """An answer's tokens, hot where they were improbable; what it was begun with stands before them as one piece."""
    given = bool(turn.given)
    if not turn.tokens:
        return None
    role = "text" if turn.completes else "assistant"
    count = len(turn.tokens) + given

    def detail(index: int) -> Sequence[str]:
        return [facts(turn.tokens[index - given])] if index >= given else ["given, not generated"]

    return TokenSheet(
        texts=[turn.given] * given + [token.name if token.special else token.text for token in turn.tokens],
        roles=[role] * count,
        weights=[0.0] * count,
        special=[False] * given + [token.special for token in turn.tokens],
        heat=[None] * given + [1 - token.probability for token in turn.tokens],
        detail=detail,
        heat_title="probable to improbable",
    )


def facts(token: "Token") -> str:
    """A line about a token; not cleaned."""
    score = token.score
    return (
        f"{quoted(token.name)} id {token.id} · {token.probability:.1%} probable, rank {score.rank + 1} · "
        f"{-score.logprob:.2f} nats · entropy {score.entropy:.2f}"
    )


def bars(token: "Token") -> list[Bar]:
    """The most probable tokens of a place, and the one that was said."""
    found = [
        Bar(quoted(choice.name), choice.probability, choice.sampled_probability, choice.id == token.id)
        for choice in token.choices
    ]
    if not any(bar.said for bar in found):
        found.append(Bar(quoted(token.name), token.probability, token.score.sampled_probability, True))
    return found


def quoted(name: str) -> str:
    """A token's text with its ends and its white space visible."""
    return f"“{name.translate(_SHOWN)}”"
