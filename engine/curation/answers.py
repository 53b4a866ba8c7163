"""Answers that were judged, and what a recipe makes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.text.messages import Message
from engine.text.strict_json import BadRow


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        text: What was said.
        flaw: Why it cannot be learnt from, in a few words; empty: it can.
        reward: What it is worth; 0 where there are no rewards.
        correct: How right it is by the row's own check, 0 to 1; None where the right answer is not known.
    """

    text: str
    flaw: str
    reward: float
    correct: float | None

    @property
    def message(self) -> Message:
        """It as a turn."""
        return Message("assistant", self.text)


@dataclass(frozen=True)
class New:
    """What a recipe makes of a row.

    Attributes:
        chosen: The reply to learn.
        rejected: The reply to learn against; None: the new row is a conversation, not a pair.
        columns: What else the new row holds.
    """

    chosen: Message
    rejected: Message | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


def usable(answers: Sequence[Answer], least: int = 1) -> list[Answer]:
    """The answers that can be learnt from.

    Raises:
        BadRow: There are fewer than `least`.
    """
    found = [answer for answer in answers if not answer.flaw]
    if len(found) < least:
        flaw = next(answer.flaw for answer in answers if answer.flaw)
        raise BadRow(f"the answer is {flaw}" if len(answers) == 1 else f"too few answers can be used: one is {flaw}")
    return found
