"""Sequence-level distillation: a teacher's answers become what a student is taught (Kim and Rush, arXiv 1606.07947)."""

from collections.abc import Sequence
from typing import Any

from engine.curation.answers import Answer, New, usable
from engine.curation.recipe import Asking, Progress, curate
from engine.text.records import Record


def distil(asking: Asking, progress: Progress | None = None) -> dict[str, Any]:
    """Writes each prompt with the teacher's answer as a conversation.

    Args:
        asking: What and whom.
        progress: See `curate`.

    Returns:
        See `curate`. Where the right answer is known, a new row has a `reward`: how right the teacher's is, 0 to 1.

    Raises:
        UserError: See `curate`.
    """
    return curate(asking, _taught, progress=progress)


def _taught(_: Record, answers: Sequence[Answer]) -> New:
    (answer,) = usable(answers)
    return New(answer.message, columns={} if answer.correct is None else {"reward": answer.correct})
