"""Correction pairs: a row's own answer preferred to the wrong one that the model gives."""

from collections.abc import Sequence
from typing import Any

from engine.curation.answers import Answer, New, usable
from engine.curation.recipe import Asking, Progress, curate
from engine.curation.rows import question_of, reply_text
from engine.rewards.checks import score_or_wrong
from engine.text.messages import Message
from engine.text.records import Record, open_records
from engine.text.shortcuts import shortcut_audit
from engine.text.strict_json import BadRow


def correction_pairs(asking: Asking, progress: Progress | None = None) -> dict[str, Any]:
    """Writes each row whose prompt the model answers wrongly as a pair of the row's own answer and the model's.

    A conversation's own answer is its last reply, a prompt's its `answer`. What is right is for the row's check to say.

    Args:
        asking: What and whom.
        progress: See `curate`.

    Returns:
        See `curate`; `shortcuts`: see `engine.text.shortcuts.shortcut_audit`. New rows have a `reward` and a
        `rejected_reward`: how right both answers are, 0 to 1.

    Raises:
        UserError: See `curate`.
    """
    found = curate(asking, _correct, question=_question, progress=progress)
    return {**found, "shortcuts": shortcut_audit(open_records(asking.out).records())}


def _correct(record: Record, answers: Sequence[Answer]) -> New:
    (wrong,) = usable(answers)
    if wrong.correct is None or wrong.correct >= 1:
        raise BadRow("the model is right")
    return New(_own(record), wrong.message, {"reward": 1.0, "rejected_reward": wrong.correct})


def _question(record: Record) -> Record:
    """What a row asks.

    Raises:
        BadRow: Nothing, or its right answer is not known, or its own reply does not give it.
    """
    prompt = question_of(record)
    if prompt.answer is None:
        raise BadRow("its right answer is not known")
    if score_or_wrong(reply_text(_own(record)), prompt.answer, prompt.check, prompt.extra) < 1:
        raise BadRow("its own reply is not right by its check")
    return prompt


def _own(record: Record) -> Message:
    if record.shape == "prompt":
        return Message("assistant", record.answer or "")
    return record.messages[-1]
