"""Several checkpoints asked the same questions, their answers beside each other."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from engine.errors import CheckpointError, DataError
from engine.evaluation.asking import ask
from engine.evaluation.questions import Question, question_of
from engine.generation.chat import ChatPartner
from engine.text.messages import Message
from engine.text.records import open_records


def questions_of(data: Path, max_rows: int = 0) -> list[Question]:
    """The questions with known answers among the rows of a file.

    Args:
        data: The file.
        max_rows: Only the first rows; 0: all.

    Raises:
        DataError: There is none.
    """
    found = [question_of(record) for record in open_records(data, max_rows=max_rows or None).records()]
    if questions := [question for question in found if question]:
        return questions
    raise DataError(
        "no row is a question with a known answer",
        where=str(data),
        hint="give conversations, or prompts with an answer field; a list of mere questions is a questions file",
    )


def listed_questions(path: Path) -> list[Question]:
    """The questions of a text file, one a line, to which no answer is known.

    Raises:
        DataError: The file cannot be read or holds none.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the questions cannot be read: {error}", where=str(path), hint="give a text file") from error
    texts = [(row, line.strip()) for row, line in enumerate(lines) if line.strip()]
    if not texts:
        raise DataError("the file holds no question", where=str(path), hint="write one a line")
    return [Question((Message("user", text),), None, False, {}, row) for row, text in texts]


def side_by_side(
    folders: Mapping[str, Path],
    questions: Sequence[Question],
    *,
    max_new_tokens: int = 128,
    batch_size: int = 64,
    device: str = "cpu",
    progress: Callable[[str, float], None] | None = None,
) -> dict[str, Any]:
    """Asks every checkpoint all questions greedily; one checkpoint is in memory at a time.

    Args:
        folders: Name → Hugging Face folder; tokenizers and templates may differ.
        questions: At least one.
        max_new_tokens: How long an answer may be.
        batch_size: Questions at a time.
        device: Where.
        progress: Told which checkpoint is asked and how much of that is done (0 to 1).

    Returns:
        models (name → folder and the figures of `engine.evaluation.asking.ask`), questions (row, prompt, expected, and
        answers: name → said, right, passed, stop_reason).

    Raises:
        CheckpointError: A checkpoint cannot be read or has no chat template.
    """
    models: dict[str, dict[str, Any]] = {}
    rows: list[dict[str, Any]] = [
        {"row": each.row, "prompt": each.messages[-1].content, "expected": each.expected, "answers": {}}
        for each in questions
    ]  # fmt: skip
    for name, folder in folders.items():
        partner = ChatPartner(folder, device=device)
        if not partner.tokenizer.chat_template:
            raise CheckpointError(
                "the model has no chat template, so it cannot be asked", where=name, hint="choose a fine-tuned model"
            )
        found = ask(
            partner,
            questions,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            answers=True,
            progress=partial(progress, name) if progress else None,
        )
        for row, answer in zip(rows, found.pop("answers"), strict=True):
            row["answers"][name] = {key: answer[key] for key in ("said", "right", "passed", "stop_reason")}
        del found["wrong"]
        models[name] = {"folder": str(folder), **found}
    return {"models": models, "questions": rows}
