"""What recipes that ask a model have in common: rows in, answers judged, new rows out, everything counted."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.curation.answerer import Answerer, Question, Reply
from engine.curation.answers import Answer, New
from engine.curation.counting import Counts
from engine.curation.judging import troubles
from engine.curation.rows import question_of
from engine.errors import DataError
from engine.generation.settings import SamplingSettings
from engine.rewards.checks import score_or_wrong
from engine.rewards.completion import Completion
from engine.rewards.reward_set import RewardSet
from engine.text.records import Quarantined, Record, RecordFile, open_records
from engine.text.row_files import new_files
from engine.text.strict_json import BadRow
from engine.text.writing import write_record

_OF_REPLIES = ("reward", "rejected_reward", "source")
"""Columns that say something of the replies: those of a row's old ones do not hold for the new."""

Progress = Callable[[int, int | None], None]
"""Told how many rows are done, and how many there are, where that is known."""


@dataclass(frozen=True)
class Asking:
    """What is asked, whom, how, and where the new rows go.

    Attributes:
        data: A file of prompts, or of conversations: their last reply is what is asked for.
        out: The new file, JSON lines.
        model: The checkpoint's folder.
        source: Its name; every new row holds it.
        sampling: How answers are sampled.
        copies: Answers a prompt.
        batch_size: Answers made at a time; at least one prompt's. It changes none of them.
        device: Where.
        mapping: Our field names → the file's columns.
        max_rows: Only the first usable rows; 0: all.
        overwrite: Whether `out` may be replaced.
    """

    data: Path
    out: Path
    model: Path
    source: str
    sampling: SamplingSettings
    copies: int = 1
    batch_size: int = 64
    device: str = "cpu"
    mapping: Mapping[str, str] = field(default_factory=dict)
    max_rows: int = 0
    overwrite: bool = False


Recipe = Callable[[Record, Sequence[Answer]], New]
"""Makes a new row of a row and the answers to it; raises BadRow, with a reason that is counted, where it makes none."""


def curate(
    asking: Asking,
    recipe: Recipe,
    *,
    rewards: RewardSet | None = None,
    question: Callable[[Record], Record] = question_of,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Writes what a recipe makes of the answers to every row of a file.

    Args:
        asking: What and whom.
        recipe: What becomes of the answers.
        rewards: What answers are worth.
        question: What a row asks; raises BadRow where it cannot be asked.
        progress: Told after each batch.

    Returns:
        file, out, model; `rows` of the file, those `asked`, the `answers` made and how many of them were `truncated`;
        `kept` rows, and the `dropped` ones, how many for which reason; `mean_reward` of all answers (None without
        rewards) and `mean_reward_kept` of the replies to learn; `pass_at_1`, and for k answers `pass_at_k`, of the
        prompts whose right answer is known; `lost`: columns that new rows could not hold, and in how many; with rewards
        what `engine.curation.judging.troubles` says of them; `quarantined`: the lines that could not be asked, with
        reasons.

    Raises:
        UserError: `out` is taken or is no JSON lines file.
        CheckpointError: The model cannot be loaded or asked.
        DataError: Not one row is kept.
    """
    file = open_records(asking.data, mapping=asking.mapping, max_rows=asking.max_rows or None)
    counts = Counts(asking.copies, has_rewards=rewards is not None)
    with new_files(asking.out, sources=[asking.data], overwrite=asking.overwrite) as (target,):
        answerer = Answerer(asking.model, asking.sampling, asking.copies, asking.device)
        file.build_index()
        total = len(file) + len(file.quarantined)
        for questions in _batches(file, answerer, question, counts, max(1, asking.batch_size // asking.copies)):
            for each, answers in zip(questions, _judged(answerer.answer(questions), rewards), strict=True):
                counts.add(answers)
                try:
                    new = recipe(each.record, answers)
                    written = write_record(_new_record(each, new, asking.source), "minimind")
                except BadRow as error:
                    counts.dropped[error.reason] += 1
                    continue
                target.write(written.line)
                counts.keep(new, written.lost)
            if progress:
                progress(counts.rows, total)
        if not counts.kept:
            raise DataError(f"no row is kept: {counts.why()}", where=str(asking.data))
    return {
        "file": str(asking.data), "out": str(asking.out), "model": asking.source, **counts.figures(),
        **(troubles(rewards) if rewards else {}),
        "quarantined": counts.quarantined,
    }  # fmt: skip


def _batches(
    file: RecordFile, answerer: Answerer, question: Callable[[Record], Record], counts: Counts, together: int
) -> Iterator[list[Question]]:
    """The rows that can be asked, so many at a time; the others are counted."""
    batch: list[Question] = []
    for item in file:
        counts.rows += 1
        if isinstance(item, Quarantined):
            counts.refuse(item.line, item.reason)
            continue
        try:
            batch.append(answerer.question(item, question(item)))
        except BadRow as error:
            counts.refuse(item.line, error.reason)
            continue
        if len(batch) == together:
            yield batch
            batch = []
    if batch:
        yield batch


def _judged(groups: Iterator[list[Reply]], rewards: RewardSet | None) -> Iterator[list[Answer]]:
    """The answers of a batch with what they are worth; all are scored at once."""
    replies = list(groups)
    completions = [reply.completion for group in replies for reply in group]
    correct = [_correct(completion) for completion in completions]
    worth = [scored.total for scored in rewards.score(completions)] if rewards else [0.0] * len(completions)
    judged = zip(worth, correct, strict=True)
    for group in replies:
        yield [Answer(reply.completion.text, reply.flaw, *next(judged)) for reply in group]


def _correct(said: Completion) -> float | None:
    return None if said.answer is None else score_or_wrong(said.text, said.answer, said.check, said.extra)


def _new_record(question: Question, new: New, source: str) -> Record:
    asked, record = question.prompt.messages, question.record
    kept = {name: value for name, value in record.extra.items() if name not in _OF_REPLIES}
    extra = {**kept, **new.columns, "source": source}
    if new.rejected is None:
        return replace(record, shape="conversation", messages=(*asked, new.chosen), extra=extra)
    return replace(
        record, shape="pair", messages=(*asked, new.chosen), rejected=(*asked, new.rejected), answer=None, check=None,
        extra=extra,
    )  # fmt: skip
