"""Questions with known answers: asked greedily, compared exactly."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from engine.generation.chat import ChatPartner
from engine.generation.generate import generate
from engine.generation.sampling import SamplingSettings
from engine.text.messages import Message
from engine.text.records import Record
from engine.text.template import TemplateFailure

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_THINK = re.compile(r"\s*<think>.*?</think>", re.DOTALL)


@dataclass(frozen=True)
class Question:
    """What is asked and what is expected.

    Attributes:
        messages: The conversation up to where the assistant answers.
        expected: The right answer.
        bare: Whether `expected` is the answer alone: then, where there are answer tags, only what they hold counts.
        labels: The row's other short fields (kind, lang, task), to count by.
        row: The usable row of the file that it comes from.
    """

    messages: tuple[Message, ...]
    expected: str
    bare: bool
    labels: dict[str, str]
    row: int = 0


def question_of(record: Record) -> Question | None:
    """The question in a record; None where it has no known answer.

    A prompt asks for its `answer` field; a conversation for its last assistant turn. Rows with tools have none: what is
    right there is a call, not a text.
    """
    labels = {key: value for key, value in record.extra.items() if isinstance(value, str) and len(value) <= 40}
    if record.shape == "prompt":
        if record.answer is None:
            return None
        return Question(record.messages, record.answer, True, labels, record.row)
    if record.shape != "conversation" or len(record.messages) < 2 or record.tools:
        return None
    if record.messages[-1].role != "assistant" or not record.messages[-1].content.strip():
        return None
    return Question(record.messages[:-1], record.messages[-1].content, False, labels, record.row)


def is_right(question: Question, said: str) -> bool:
    """Whether an answer equals the expected one, white space at the ends and thoughts that nobody expects aside."""
    if "<think>" not in question.expected and (thoughts := _THINK.match(said)):
        said = said[thoughts.end() :]
    tagged = _ANSWER.search(said) if question.bare else None
    return (tagged[1] if tagged else said).strip() == question.expected.strip()


def _prompt(partner: ChatPartner, question: Question) -> list[int]:
    """The token ids of a question; none where the model cannot be asked it."""
    try:
        ids = partner.prompt_ids(question.messages)
    except TemplateFailure:
        return []
    return ids if len(ids) < partner.model.config.max_position_embeddings else []


def exact_match(
    partner: ChatPartner,
    questions: Iterable[Question],
    *,
    max_new_tokens: int,
    batch_size: int = 64,
    answers: bool = False,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Asks every question greedily.

    Returns:
        questions, not_asked (longer than the model reads, or refused by the template: they count as wrong),
        exact_match (share of 1), by (label → value → questions and exact_match), wrong (the first ten: prompt,
        expected, said); where `answers` are wanted, all of them in order (row, prompt, expected, said, right, and
        stop_reason: `stop`, `length`, `context`, or empty where the question could not be asked).
    """
    asked = list(questions)
    prompts = [_prompt(partner, question) for question in asked]
    fitting = [place for place, ids in enumerate(prompts) if ids]
    settings = SamplingSettings(temperature=0.0, max_new_tokens=max_new_tokens)
    generated = generate(
        partner.model,
        [prompts[place] for place in fitting],
        settings,
        partner.tokenizer.stop_ids,
        batch_size=batch_size,
        progress=progress,
    )
    given = dict(zip(fitting, generated, strict=True))
    found = [
        _answer(question, partner.tokenizer.decode(given[place].ids), given[place].stop_reason)
        if place in given
        else _answer(question, "", "")
        for place, question in enumerate(asked)
    ]
    groups: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for question, each in zip(asked, found, strict=True):
        for label, value in question.labels.items():
            groups[label][value].append(each["right"])
    wrong = [{name: each[name] for name in ("prompt", "expected", "said")} for each in found if not each["right"]]
    return {
        "questions": len(asked),
        "not_asked": len(asked) - len(fitting),
        "exact_match": sum(each["right"] for each in found) / len(asked) if asked else None,
        "by": {
            label: {
                value: {"questions": len(hits), "exact_match": sum(hits) / len(hits)} for value, hits in values.items()
            }
            for label, values in groups.items()
            if len(values) <= 20
        },
        "wrong": wrong[:10],
        **({"answers": found} if answers else {}),
    }


def _answer(question: Question, said: str, stop_reason: str) -> dict[str, Any]:
    return {
        "row": question.row,
        "prompt": question.messages[-1].content,
        "expected": question.expected,
        "said": said,
        "right": is_right(question, said),
        "stop_reason": stop_reason,
    }
