"""Rows of a run's `rollouts.jsonl`: answers with their rewards, groups, and tokens as they were sampled. Torch-free."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import EngineError
from engine.runs.folder import RunFolder
from engine.settings.registry import STAGES
from engine.text.encode import Encoder
from engine.text.inspect import inspect_sample
from engine.text.records import Record
from engine.text.sample import Sample, Span
from engine.text.shapes import as_prompt
from minimind_tui.core.reading import Reading
from minimind_tui.core.rows import Rows
from minimind_tui.core.sheets import LabelledSheet, labelled_sheet

MOST_ANSWERS = 64
"""Answers of a group that are shown."""
IMPROBABLE, MOVED = 8.0, 1.0
"""Nats from which a token is painted hottest: by how improbable it was, and by how far it has moved since."""
_LARGEST_ID = 2**31 - 1
_ROUNDING = 1e-3
"""So far above 0 a log-probability may lie."""
_LARGEST_EXPONENT = 700.0
_LEFT_OUT = "it was cut off: truncated = mask leaves it out of the loss"
_FOREIGN = "the answer reads otherwise with this tokenizer: T chooses the run's own"


@dataclass(frozen=True)
class Rollout:
    """An answer that a policy gave, as reinforcement learning logged it.

    Attributes:
        row: Its row of the file.
        round: When it was given.
        group: What it shares with the other answers to its prompt in that round.
        expected: The right answer, where there is one.
        reward: What it was learnt by.
        parts: Every reward by name, not weighted.
        advantage: How much better than expected it was.
        stop_reason: `stop`, or `length` and `context` where it was cut off.
        ids: Its tokens.
        log_probs: The logarithm of each token's chance to be drawn.
        text: What it said; uncleaned.
    """

    row: int
    round: int
    group: str
    expected: str | None
    reward: float
    parts: Mapping[str, float]
    advantage: float
    stop_reason: str
    ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    text: str

    @property
    def ended(self) -> bool:
        """Whether it ended by itself."""
        return self.stop_reason == "stop"


def rollout_of(record: Record) -> Rollout | None:
    """The rollout in a row; None where the row is something else."""
    found, last = record.extra, record.messages[-1] if record.messages else None
    ids, log_probs, parts = found.get("answer_ids"), found.get("log_probs"), found.get("rewards")
    numbers = [found.get(name) for name in ("reward", "advantage")]
    if not isinstance(ids, list) or not isinstance(log_probs, list) or not isinstance(parts, dict):
        return None
    if not ids or len(ids) != len(log_probs) or not all(type(id_) is int and 0 <= id_ <= _LARGEST_ID for id_ in ids):
        return None
    if not all(map(_is_number, [*log_probs, *numbers, *parts.values()])) or max(log_probs) > _ROUNDING:
        return None
    if type(found.get("round")) is not int:
        return None
    expected = found.get("expected")
    return Rollout(
        record.row, found["round"], str(found.get("group", "")), None if expected is None else str(expected),
        float(found["reward"]), {str(name): float(value) for name, value in parts.items()}, float(found["advantage"]),
        str(found.get("stop_reason", "")), tuple(ids), tuple(map(float, log_probs)),
        last.content if last is not None and last.role == "assistant" else "",
    )  # fmt: skip


def _is_number(value: Any) -> bool:
    return math.isfinite(value) if isinstance(value, float) else type(value) is int and abs(value) <= _LARGEST_ID


def group_of(rows: Rows, rollout: Rollout) -> tuple[Rollout, ...]:
    """The answers to the same prompt in the same round, in the file's order: they stand one behind the other.

    Raises:
        DataError: The file has changed.
    """
    before = [*_neighbours(rows, rollout, -1)]
    return (*reversed(before), rollout, *_neighbours(rows, rollout, 1))


def _neighbours(rows: Rows, rollout: Rollout, step: int) -> Iterator[Rollout]:
    row = rollout.row + step
    while 0 <= row < rows.known and abs(row - rollout.row) < MOST_ANSWERS:
        other = rollout_of(rows.read(row))
        if other is None or (other.round, other.group) != (rollout.round, rollout.group):
            return
        yield other
        row += step


def rollout_sample(record: Record, rollout: Rollout, encoder: Encoder, *, learnt: bool) -> Sample:
    """The prompt as the run encoded it, then the tokens that were sampled, trained where the answer is learnt from.

    Raises:
        EngineError: The prompt cannot be encoded.
    """
    prompt = encoder.encode_prompt(as_prompt(record)).sample
    begin, end = len(prompt), len(prompt) + len(rollout.ids)
    words = end - rollout.ended
    bounds = ((begin, words, "content"), (words, end, "end"))
    return replace(
        prompt,
        input_ids=np.concatenate([prompt.input_ids, np.array(rollout.ids, dtype=np.int32)]),
        loss_weights=np.concatenate([prompt.loss_weights, np.full(len(rollout.ids), learnt, dtype=np.float32)]),
        spans=(*prompt.spans, *(Span(start, stop, "assistant", kind) for start, stop, kind in bounds if stop > start)),
    )


def rollout_sheet(
    sample: Sample, rollout: Rollout, encoder: Encoder, opinions: Mapping[str, Sequence[float]] | None = None
) -> LabelledSheet:
    """A rollout's tokens, hot where they were improbable, or where a checkpoint finds them otherwise than then.

    Args:
        sample: As `rollout_sample` made it.
        rollout: The same.
        encoder: What encoded the prompt.
        opinions: The log-probability of every token of the sample by checkpoints, the first one being compared with
            what was sampled; their names.
    """
    begin, tokenizer = len(sample) - len(rollout.ids), encoder.tokenizer
    # As of a pair's side: only the last answer is judged.
    labelled = labelled_sheet("answer", inspect_sample(sample, tokenizer, "chosen"))
    base, given = labelled.sheet.detail, opinions or {}
    judged = {name: [*values][begin:] for name, values in given.items()}

    def detail(index: int) -> list[str]:
        lines, place = [*base(index)], index - begin
        if place < 0:
            return lines
        then = rollout.log_probs[place]
        said = [f"sampled with log p {then:.3f} ({math.exp(then):.2%})"]
        said += [f"{name} {own[place]:.3f}, ratio {_ratio(own[place], then):.3f}" for name, own in judged.items()]
        return [*said, *lines[:-1], _why(rollout) if labelled.trained else _LEFT_OUT]

    moved = [abs(now - then) for now, then in zip(next(iter(judged.values()), ()), rollout.log_probs, strict=False)]
    heat = [value / MOVED for value in moved] or [-value / IMPROBABLE for value in rollout.log_probs]
    sheet = replace(
        labelled.sheet,
        detail=detail,
        heat=[*[None] * begin, *(min(1.0, max(0.0, value)) for value in heat)],
        heat_title=f"moved since, 0 to {MOVED:g} nats" if moved else f"-log p when sampled, 0 to {IMPROBABLE:g} nats",
    )
    other = bool(rollout.text) and tokenizer.decode(rollout.ids[: len(rollout.ids) - rollout.ended]) != rollout.text
    problems = (*[_LEFT_OUT] * (not labelled.trained), *[_FOREIGN] * other)
    return replace(labelled, sheet=sheet, begin=begin, problems=problems, note="")


def _ratio(now: float, then: float) -> float:
    return math.exp(min(now - then, _LARGEST_EXPONENT))


def _why(rollout: Rollout) -> str:
    """What is learnt from its tokens."""
    if not rollout.advantage:
        return "the policy's own choice; with an advantage of 0 nothing is learnt from it"
    wanted = "more" if rollout.advantage > 0 else "less"
    return f"the policy's own choice, to be made {wanted} likely: advantage {rollout.advantage:+.3g}"


def rollout_note(rollout: Rollout, opinions: Mapping[str, Sequence[float]]) -> str:
    """What the whole answer came to: its log-probability when it was sampled, and by checkpoints now."""
    parts = [f"log p {math.fsum(rollout.log_probs):.2f}"]
    for name, values in opinions.items():
        now = [*values][-len(rollout.ids) :]
        ratios = [_ratio(value, then) for value, then in zip(now, rollout.log_probs, strict=True)]
        parts.append(f"{name} {math.fsum(now):.2f}, ratios {min(ratios):.3g} to {max(ratios):.3g}")
    return " · ".join(parts)


@dataclass(frozen=True)
class Origin:
    """The run that rollouts were logged by, and how it read prompts and sampled.

    Attributes:
        run: Its folder.
        stage: Its stage.
        max_seq_len: The longest prompt.
        temperature: What answers were sampled at.
        top_k: From how many tokens; 0: from all.
        masks: Whether answers that were cut off are left out of the loss.
    """

    run: RunFolder
    stage: str
    max_seq_len: int
    temperature: float
    top_k: int
    masks: bool

    def learns_from(self, rollout: Rollout) -> bool:
        """Whether an answer is in the loss."""
        return rollout.ended or not self.masks

    def reading(self, shape: str) -> Reading:
        """How its prompts are encoded."""
        return Reading(shape, self.stage, str(self.run.path), "", self.max_seq_len)


def origin_of(path: Path) -> Origin | None:
    """The run whose rollouts a file holds; None of any other file."""
    run = RunFolder(path.parent)
    if path != run.rollouts:
        return None
    try:
        resolved = run.read_json(run.resolved)
        values = {name: entry["value"] for name, entry in resolved["settings"].items()}
        stage, length, top_k = STAGES[resolved["stage"]], int(values["max_seq_len"]), int(values["rollout_top_k"])
        # A critic says what such an answer may still have come to: it is learnt from all the same.
        masks = values["truncated"] == "mask" and "critic" not in stage.settings
        return Origin(run, stage.name, length, float(values["temperature"]), top_k, masks)
    except (EngineError, AttributeError, KeyError, TypeError, ValueError):  # moved away from its run, or damaged
        return None
