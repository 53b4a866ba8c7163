"""One row made ready for looking at: its tokens, its text, what a checkpoint thinks of it. Call it from a thread."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from engine.clean import clean
from engine.errors import EngineError
from engine.text.records import Record
from minimind_tui.core.encoded import Encoded
from minimind_tui.core.plain import quarantined_text
from minimind_tui.core.reading import Reader
from minimind_tui.core.rollouts import (
    Origin,
    Rollout,
    group_of,
    origin_of,
    rollout_note,
    rollout_of,
    rollout_sample,
    rollout_sheet,
)
from minimind_tui.core.rows import Rows
from minimind_tui.core.sheets import (
    LabelledSheet,
    PairSheets,
    packed_sheet,
    pair_sheets,
    rendered_text,
    sample_sheets,
    with_values,
)

if TYPE_CHECKING:  # the scores need torch
    from engine.evaluation.scores import Comparison, Scorer

TOKENS, RENDERED, RAW, PACKED = "tokens", "rendered", "raw", "packed"
MODES = (TOKENS, RENDERED, RAW, PACKED)
"""The ways to look at a row, in the order in which they are gone through."""

MOST_TOKENS = 16_384
"""Tokens of a sample that are shown: more could not be painted at once."""
MOST_CHARACTERS = 2_000_000
"""Longer rows are not looked at token by token: that would take minutes and gigabytes."""

HOTTEST = 8.0
"""The loss, in nats, from which a token is painted hottest: the same in every row, so that rows can be compared."""


@dataclass(frozen=True)
class Look:
    """What there is to see of a row; all texts cleaned but for the problems.

    Attributes:
        row: The row, or `~i` for a quarantined line.
        line: In the file.
        mode: How it is looked at.
        sheets: Its samples, where tokens are shown and the row is no pair.
        pair: Both sides of a pair.
        text: Where no tokens are shown.
        title: What the text is: `quarantined`, `raw` or `rendered`.
        problems: What is wrong, in words, uncleaned.
        notes: One a side of a pair, or one for the samples: what a checkpoint thinks in sum.
        margin: What both sides of a pair come to.
        group: Of a rollout, all answers to its prompt in its round, its own among them.
    """

    row: int
    line: int
    mode: str
    sheets: Sequence[LabelledSheet] = ()
    pair: PairSheets | None = None
    text: str = ""
    title: str = RAW
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    margin: str = ""
    group: tuple[Rollout, ...] = ()

    @property
    def labelled(self) -> tuple[LabelledSheet, ...]:
        """Every sample, also those of a pair."""
        return (self.pair.chosen, self.pair.rejected) if self.pair else tuple(self.sheets)

    @property
    def has_problem(self) -> bool:
        """Whether a list of rows shall mark it."""
        return bool(self.problems) or any(
            each.problems or each.truncated or not (each.trained or each.label == "prompt") for each in self.labelled
        )


@dataclass(frozen=True)
class Judges:
    """The checkpoints whose opinion is asked for."""

    policy: "Scorer | None" = None
    reference: "Scorer | None" = None


def look(rows: Rows, row: int, reader: Reader, mode: str, judges: Judges, width: int) -> Look:
    """Looks at a row; what cannot be encoded is shown as it stands in the file, with the reason.

    Raises:
        DataError: The file has changed.
    """
    if row < 0:
        entry = rows.quarantined[~row]
        return Look(row, entry.line, mode, text=quarantined_text(entry, width), title="quarantined")
    record = rows.read(row)
    info = reader.reading.info
    foreign = info is not None and record.shape not in info.reads
    said = f"stage {reader.reading.stage} does not read a {record.shape}: it leaves this row out" if foreign else ""
    rollout = rollout_of(record)
    group = group_of(rows, rollout) if rollout is not None else ()
    plain = Look(row, record.line, mode, problems=(said,) if said else (), group=group)
    if mode == RAW:
        return replace(plain, text=raw_text(rows.parsed(row)))
    characters = len(record.text) + sum(len(each.content) for each in (*record.messages, *record.rejected))
    if characters > MOST_CHARACTERS:
        said = f"the row has {characters:,} characters: too many to look at token by token"
        return replace(plain, text=raw_text(rows.parsed(row)), problems=(*plain.problems, said))
    try:
        if mode == RENDERED:
            return replace(plain, text=rendered_text(sample_sheets(record, reader.encoder)), title=RENDERED)
        if rollout is not None and info is not None and info.train_on == "prompt":
            return _shortened(_as_sampled(plain, record, rollout, reader, judges, origin_of(rows.path)))
        return _shortened(_with_tokens(plain, record, reader, judges))
    except EngineError as error:
        return replace(plain, text=raw_text(rows.parsed(row)), problems=(*plain.problems, _said(error)))


def look_packed(rows: Rows, row: int, encoded: Encoded, number: int | None = None) -> tuple[Look, int]:
    """The packed row of a training batch that holds a row, or one by its number.

    Returns:
        The look, and the packed row's number; a row kept for validation is in none, and the first is shown.
    """
    packed = encoded.packed
    kept_out = number is None and encoded.packed_with(row) is None
    if number is None:
        number = encoded.packed_with(row) or 0
    number = max(0, min(number, len(packed) - 1))
    sheet = packed_sheet(
        encoded.store,
        packed[number].tolist(),
        encoded.reader.reencoder,
        capacity=encoded.reader.sample_length,
        records=rows,
    )
    problems = (f"row {row:,} is kept for validation, or has no sample",) if kept_out else ()
    label = f"packed row {number + 1:,} of {len(packed):,}"
    line = rows.line(row)
    return Look(row, line, PACKED, [replace(sheet, label=label)], problems=problems), number


def raw_text(parsed: Any) -> str:
    """A parsed row as indented JSON, cleaned."""
    return clean(json.dumps(parsed, ensure_ascii=False, indent=2, default=str))


def _said(error: EngineError) -> str:
    return f"{error.what} ({error.hint})" if error.hint else error.what


def _with_tokens(plain: Look, record: Record, reader: Reader, judges: Judges) -> Look:
    if record.shape == "pair":
        seen = replace(plain, pair=pair_sheets(record, reader.encoder))
        judged = _judged_pair
    else:
        seen = replace(plain, sheets=sample_sheets(record, reader.encoder))
        judged = _judged_samples
    if judges.policy is None:
        return seen
    try:
        return judged(seen, record, reader, judges)
    except EngineError as error:
        return replace(seen, problems=(*seen.problems, _said(error)))


def _as_sampled(
    plain: Look, record: Record, rollout: Rollout, reader: Reader, judges: Judges, origin: Origin | None
) -> Look:
    """A rollout's very tokens; by checkpoints at the temperature that they were sampled at."""
    learnt = origin is None or origin.learns_from(rollout)
    sample, problems = rollout_sample(record, rollout, reader.encoder, learnt=learnt), plain.problems
    scorers = {"now": judges.policy, "reference": judges.reference}
    opinions: dict[str, list[float]] = {}
    try:
        for name, scorer in scorers.items():
            if scorer is not None:
                opinions[name] = scorer.logprobs(sample, temperature=origin.temperature if origin else 1.0)
    except EngineError as error:
        problems = (*problems, _said(error))
    if opinions and origin is not None and origin.top_k:
        problems = (*problems, f"it was sampled from the {origin.top_k} most probable tokens, and is scored among all")
    sheet = rollout_sheet(sample, rollout, reader.encoder, opinions)
    return replace(plain, sheets=[sheet], problems=problems, notes=(rollout_note(rollout, opinions),))


def _shortened(seen: Look) -> Look:
    """The look without the tokens that would be too many to paint."""
    longest = max((len(each.sheet) for each in seen.labelled), default=0)
    if longest <= MOST_TOKENS:
        return seen
    said = f"only the first {MOST_TOKENS:,} of {longest:,} tokens are shown: x sets a length"
    seen = replace(seen, problems=(*seen.problems, said), sheets=[_beginning(each) for each in seen.sheets])
    if seen.pair is None:
        return seen
    sides = replace(seen.pair, chosen=_beginning(seen.pair.chosen), rejected=_beginning(seen.pair.rejected))
    return replace(seen, pair=sides)


def _beginning(labelled: LabelledSheet) -> LabelledSheet:
    sheet = labelled.sheet
    columns = {name: getattr(sheet, name)[:MOST_TOKENS] for name in ("texts", "roles", "weights", "special", "heat")}
    return replace(labelled, sheet=replace(sheet, **columns))


def _judged_samples(seen: Look, record: Record, reader: Reader, judges: Judges) -> Look:
    from engine.evaluation.scores import compare

    assert judges.policy is not None
    sheets, notes = [], []
    for sample, labelled in zip(reader.encoder.encode(record), seen.sheets, strict=True):
        if judges.reference is None:
            values = judges.policy.logprobs(sample)
            sheets.append(with_values(labelled, _losses(values), hottest=HOTTEST))
            weights = sample.loss_weights
            notes.append(_mean_loss([value for value, weight in zip(values, weights, strict=True) if weight]))
        else:
            both = compare(sample, judges.policy, judges.reference)
            sheets.append(_compared(labelled, both))
            notes.append(_sums(both))
    return replace(seen, sheets=sheets, notes=tuple(notes))


def _judged_pair(seen: Look, record: Record, reader: Reader, judges: Judges) -> Look:
    from engine.evaluation.scores import score_pair

    assert judges.policy is not None and seen.pair is not None
    sides, pair = seen.pair, reader.encoder.encode_pair(record)
    if judges.reference is None:
        scored = judges.policy.pair(pair)
        sums = [
            sum(value for value, weight in zip(values, sample.loss_weights, strict=True) if weight)
            for values, sample in zip(scored, (pair.chosen, pair.rejected), strict=True)
        ]
        chosen, rejected = (
            with_values(side, _losses(values), hottest=HOTTEST)
            for side, values in zip((sides.chosen, sides.rejected), scored, strict=True)
        )
        margin = f"log p chosen - rejected {sums[0] - sums[1]:+.2f} nats"
        notes = tuple(f"log p {value:.2f}" for value in sums)
    else:
        score = score_pair(pair, judges.policy, judges.reference)
        chosen, rejected = _compared(sides.chosen, score.chosen), _compared(sides.rejected, score.rejected)
        margin = f"margin {score.margin:+.3f} at β {score.beta:g} · loss {score.loss:.3f}"
        notes = (_sums(score.chosen), _sums(score.rejected))
    return replace(seen, pair=replace(sides, chosen=chosen, rejected=rejected), notes=notes, margin=margin)


def _compared(labelled: LabelledSheet, both: "Comparison") -> LabelledSheet:
    """The policy's loss as heat, and what both checkpoints say of each token."""
    judged = with_values(labelled, _losses(both.policy), hottest=HOTTEST)
    difference, before = both.difference, judged.sheet.detail

    def detail(index: int) -> list[str]:
        own, other = both.policy[index], both.reference[index]
        said = f"log p {own:.2f}, reference {other:.2f}, difference {difference[index]:+.2f}"
        facts = [*before(index)]
        return [*facts[:-1], *([] if math.isnan(own) else [said]), *facts[-1:]]

    return replace(judged, sheet=replace(judged.sheet, detail=detail))


def _sums(both: "Comparison") -> str:
    return f"log p {both.policy_sum:.2f}, reference {both.reference_sum:.2f}"


def _mean_loss(values: Sequence[float]) -> str:
    return f"loss {-sum(values) / len(values):.3f} nats a trained token" if values else "nothing trained: no loss"


def _losses(values: Sequence[float]) -> list[float | None]:
    return [None if value is None else -value for value in _numbers(values)]


def _numbers(values: Sequence[float]) -> list[float | None]:
    """The first token is predicted from nothing and has no value."""
    return [None if math.isnan(value) else value for value in values]
