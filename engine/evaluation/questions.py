"""Questions with known answers, and when an answer is right."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.rewards.checks import final_answer, score_or_wrong
from engine.text.messages import Message
from engine.text.records import Record

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_THINK = re.compile(r"\s*<think>.*?</think>", re.DOTALL)


@dataclass(frozen=True)
class Question:
    """What is asked and what is expected.

    Attributes:
        messages: The conversation up to where the assistant answers.
        expected: The right answer; None where it is not known.
        bare: Whether `expected` is the answer alone: then, where there are answer tags, only what they hold counts.
        labels: The row's other short fields (kind, lang, task), to count by.
        row: The usable row of the file that it comes from.
        answer: What the row's check compares with; empty: nothing.
        check: The row's check, see `engine.rewards.checks`.
        extra: The row's other fields.
    """

    messages: tuple[Message, ...]
    expected: str | None
    bare: bool
    labels: dict[str, str]
    row: int = 0
    answer: str = ""
    check: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def question_of(record: Record) -> Question | None:
    """The question in a record; None where it has no known answer.

    A prompt asks for its `answer` field; a conversation for its last assistant turn. Rows with tools have none: what is
    right there is a call, not a text.
    """
    labels = {key: value for key, value in record.extra.items() if isinstance(value, str) and len(value) <= 40}
    if record.shape == "prompt":
        if record.answer is None:
            return None
        messages, expected, bare = record.messages, record.answer, True
    else:
        if record.shape != "conversation" or len(record.messages) < 2 or record.tools:
            return None
        if record.messages[-1].role != "assistant" or not record.messages[-1].content.strip():
            return None
        messages, expected, bare = record.messages[:-1], record.messages[-1].content, False
    answer = final_answer(expected if record.answer is None else record.answer)
    return Question(messages, expected, bare, labels, record.row, answer, record.check, record.extra)


def is_right(question: Question, said: str) -> bool:
    """Whether an answer equals the expected one, white space at the ends and thoughts that nobody expects aside."""
    if question.expected is None:
        return False
    if "<think>" not in question.expected and (thoughts := _THINK.match(said)):
        said = said[thoughts.end() :]
    tagged = _ANSWER.search(said) if question.bare else None
    return (tagged[1] if tagged else said).strip() == question.expected.strip()


def passes(question: Question, said: str) -> bool:
    """Whether an answer is right by the row's check: its final answer counts, however it was reached.

    Scores between wrong and right do not pass. Where the check has nothing to compare with, `is_right` decides.
    """
    if not question.answer:
        return is_right(question, said)
    return score_or_wrong(said, question.answer, question.check, question.extra) >= 1
