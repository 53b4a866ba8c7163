"""One answer of the model, as rewards see it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.text.messages import Message


@dataclass(frozen=True)
class Completion:
    """An answer with the prompt it answers and what its row knows.

    Attributes:
        prompt: The conversation up to where the assistant answers.
        text: The answer as text, without the stop token; tags such as `<think>` are visible.
        ids: Its token ids, without the stop token.
        truncated: Whether it ended because of the length limit.
        answer: The expected answer, where the row has one.
        check: How it is compared: `exact`, `number`, `reasoning_gym`, or None where the row does not say.
        extra: The row's other fields.
    """

    prompt: tuple[Message, ...]
    text: str
    ids: Sequence[int]
    truncated: bool
    answer: str | None
    check: str | None
    extra: Mapping[str, Any]
