"""Completions made by hand."""

from collections.abc import Sequence
from typing import Any

from engine.rewards.completion import Completion
from engine.text.messages import Message


def said(
    text: str,
    answer: str | None = None,
    check: str | None = None,
    *,
    asked: str = "What is one plus two?",
    ids: Sequence[int] = (1, 2, 3),
    **extra: Any,
) -> Completion:
    """What a model said to a question."""
    return Completion((Message("user", asked),), text, ids, False, answer, check, extra)
