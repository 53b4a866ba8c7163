"""Token sheets of a data file's rows: what the loss reads, made ready for the token view. Torch-free, no Textual."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain

import numpy as np

from engine.clean import clean
from engine.text.encode import Encoder
from engine.text.inspect import InspectedSample, inspect_sample, inspect_samples
from engine.text.records import Record, RecordFile
from engine.text.sample import Sample, Span
from engine.text.store import SampleStore
from minimind_tui.core.tokens import PAD, TokenSheet

_MOST_BYTES = 24


@dataclass(frozen=True)
class LabelledSheet:
    """A sample's tokens with what is said about them.

    Attributes:
        label: What it is: `sample`, `window 2 of 3`, `chosen`, …
        sheet: The tokens.
        truncated: How many tokens of the row were cut to fit.
        problems: What is odd about it, in words that may hold anything.
        note: What else is to be known, such as empty slots.
        begin: The token that is looked at first.
    """

    label: str
    sheet: TokenSheet
    truncated: int = 0
    problems: tuple[str, ...] = ()
    note: str = ""
    begin: int = 0

    @property
    def trained(self) -> int:
        """How many tokens have a weight."""
        return sum(weight > 0 for weight in self.sheet.weights)

    @property
    def summary(self) -> str:
        """The counts in a line: `37 of 120 tokens trained · 12 cut, …`."""
        tokens = sum(role != PAD for role in self.sheet.roles)
        parts = [f"{self.trained:,} of {tokens:,} tokens trained"]
        parts += [f"{self.truncated:,} cut"] if self.truncated else []
        return " · ".join([*parts, *([self.note] if self.note else [])])

    @property
    def rendered(self) -> str:
        """The exact text, not cleaned."""
        return "".join(self.sheet.texts)


@dataclass(frozen=True)
class PairSheets:
    """The sides of a pair; `shared` is the number of tokens that both begin with."""

    chosen: LabelledSheet
    rejected: LabelledSheet
    shared: int


def sample_sheets(record: Record, encoder: Encoder) -> list[LabelledSheet]:
    """A sheet for each sample that training makes of a record: windows of a text, turns, a pair's sides, a prompt.

    Raises:
        DataError: The row is a conversation and the tokenizer has no chat template.
        TemplateFailure: The chat template cannot render the row.
    """
    if record.shape == "pair":
        pair = pair_sheets(record, encoder)
        return [pair.chosen, pair.rejected]
    samples = inspect_samples(record, encoder)
    what = "prompt" if record.shape == "prompt" else "window" if samples[-1].continues else "sample"
    labels = [what] if len(samples) == 1 else [f"{what} {n} of {len(samples)}" for n in range(1, len(samples) + 1)]
    return [labelled_sheet(label, sample) for label, sample in zip(labels, samples, strict=True)]


def pair_sheets(record: Record, encoder: Encoder) -> PairSheets:
    """Both sides of a pair, what they share dimmed.

    Raises:
        DataError: The tokenizer has no chat template.
        TemplateFailure: The chat template cannot render the row.
    """
    chosen, rejected = inspect_samples(record, encoder)
    shared = chosen.shared
    return PairSheets(labelled_sheet("chosen", chosen, shared), labelled_sheet("rejected", rejected, shared), shared)


def packed_sheet(
    store: SampleStore, documents: Sequence[int], encoder: Encoder, *, capacity: int, records: RecordFile | None = None
) -> LabelledSheet:
    """A row of a micro-batch: documents of a store one after the other, and its empty slots.

    Ids and weights are the store's own. It does not keep who says what: that comes from encoding the rows once more,
    where this gives the same ids and weights.

    Args:
        store: The samples.
        documents: Which of them, as `Sampler.micro_batches` or `pack` say.
        encoder: What the store was made with.
        capacity: Slots of the row, in tokens.
        records: The file, indexed if it is large; without it roles are unknown.

    Raises:
        DataError: The file has changed.
        TemplateFailure: The chat template cannot render a row.
    """
    again: dict[int, list[InspectedSample]] = {}
    parts: list[InspectedSample] = []
    for document in map(int, documents):
        row = int(store.columns["rows"][document])
        if records is not None and row not in again:
            again[row] = inspect_samples(records.read(row), encoder)
        parts.append(_cached(store, document, row, again.get(row, ()), encoder))
    details = _Details(parts, capacity)
    tokens = details.starts[-1]
    empty = max(0, capacity - tokens)
    unknown = sum(part.purpose == "cached" for part in parts)
    return LabelledSheet(
        label="packed row",
        sheet=TokenSheet(
            texts=[*chain.from_iterable(part.texts for part in parts), *[""] * empty],
            roles=[*chain.from_iterable(part.roles for part in parts), *[PAD] * empty],
            weights=[*chain.from_iterable(part.weights for part in parts), *[0.0] * empty],
            special=[*chain.from_iterable(part.special for part in parts), *[False] * empty],
            starts=details.starts[:-1],
            detail=details,
        ),
        truncated=int(store.columns["truncated"][np.asarray(documents, dtype=np.int64)].sum()),
        problems=(f"of {unknown} documents it is unknown who says what",) if unknown else (),
        note=f"{len(parts)} documents, {empty:,} of {capacity:,} slots empty",
    )


def with_values(
    labelled: LabelledSheet,
    values: Sequence[float | None],
    *,
    name: str = "loss",
    unit: str = "nats",
    hottest: float | None = None,
) -> LabelledSheet:
    """The same sheet with a value a token, shown as heat and in the details, before the reason for the weight.

    Args:
        labelled: The sheet.
        values: `values[i]` is about predicting token i; None, or NaN, where there is none.
        name: What the values are.
        unit: Their unit.
        hottest: The value of full heat; by default the highest finite one.
    """
    sheet = labelled.sheet
    known = [None if value is None or math.isnan(value) else float(value) for value in values]
    top = hottest if hottest is not None else max((v for v in known if v is not None and v < math.inf), default=0.0)

    def detail(index: int) -> list[str]:
        value, lines = known[index], [*sheet.detail(index)]
        said = [] if value is None else [f"{name} {value:.4g} {unit}: of this token, given those before it"]
        return [*lines[:-1], *said, *lines[-1:]]

    heat = [None if value is None else _share(value, top) for value in known]
    title = f"{name}, 0 to {top:.3g} {unit}"
    return replace(labelled, sheet=replace(sheet, heat=heat, heat_title=title, detail=detail))


def _share(value: float, top: float) -> float:
    return 1.0 if value >= top > 0 else max(0.0, value / top) if top > 0 else 0.0


def rendered_text(sheets: Sequence[LabelledSheet]) -> str:
    """The exact texts of samples, cleaned; several are told apart by their labels."""
    if len(sheets) == 1:
        return clean(sheets[0].rendered)
    return "\n\n".join(f"── {each.label} ──\n{clean(each.rendered)}" for each in sheets)


def labelled_sheet(label: str, sample: InspectedSample, dimmed: int = 0) -> LabelledSheet:
    """A sample's tokens; so many at the beginning stand back."""
    sheet = TokenSheet(
        texts=sample.texts,
        roles=sample.roles,
        weights=sample.weights,
        special=sample.special,
        dimmed=dimmed,
        detail=_Details([sample]),
    )
    ends_open = sample.purpose in ("chosen", "rejected") and sample.kinds[-1] == "content"
    where = "the answer's end among them" if ends_open else "the oldest first"
    return LabelledSheet(
        label, sheet, sample.sample.truncated, sample.problems, where if sample.sample.truncated else ""
    )


def _cached(
    store: SampleStore, document: int, row: int, again: Sequence[InspectedSample], encoder: Encoder
) -> InspectedSample:
    """A document of the store, by the sample that gives the same ids and weights, if there is one."""
    ids, weights = store.ids(document), store.weights(document)
    for sample in again:
        same = sample.sample
        if np.array_equal(same.input_ids, ids) and np.array_equal(same.loss_weights, weights):
            return sample
    spans = (Span(0, len(ids), "unknown", ""),)
    return inspect_sample(Sample(ids.astype(np.int32), weights, spans, row), encoder.tokenizer, "cached")


class _Details:
    """What there is to say about a token of one or more samples that stand one after the other.

    Args:
        parts: The samples.
        capacity: Slots of a packed row; 0 where there is one sample only.
    """

    def __init__(self, parts: Sequence[InspectedSample], capacity: int = 0) -> None:
        self._parts, self._capacity = parts, capacity
        self.starts = [*accumulate(map(len, parts), initial=0)]
        """Where each sample begins, and where the last one ends."""

    def __call__(self, index: int) -> list[str]:
        number = bisect_right(self.starts, index) - 1
        if number >= len(self._parts):
            return [f"slot #{index} of {self._capacity}", "padding: an empty slot, for which nothing is computed"]
        part, place = self._parts[number], index - self.starts[number]
        position = f"token #{place} of {len(part)}"
        if self._capacity:
            position = (
                f"slot #{index} of {self._capacity} · document {number + 1} of {len(self._parts)} "
                f"(row {part.sample.row}), {position}"
            )
        raw = part.bytes[place]
        shown = f"{raw[:_MOST_BYTES].hex(' ')}{' …' if len(raw) > _MOST_BYTES else ''}" or "none: no token of this id"
        weight = f"weight {part.weights[place]:g}"
        return [
            f"{position} · id {part.ids[place]}",
            f"{_named(part, place)} · bytes {shown}",
            " · ".join(word for word in (part.roles[place], part.kinds[place], weight) if word),
            _predicts(part, place),
            part.why(place),
        ]


def _predicts(part: InspectedSample, place: int) -> str:
    following = place + 1
    if following == len(part):
        if part.purpose == "prompt":
            return "the model's own answer begins after this"
        return "predicts nothing: the sample ends here"
    weight = part.weights[following]
    said = f"weight {weight:g}" if weight else "not trained"
    return f"predicts {_named(part, following)} (#{following}, {said})"


def _named(part: InspectedSample, place: int) -> str:
    """A token's text in quotes; of a part of a character, the character that it becomes part of."""
    whole = next((text for text in part.texts[place:] if text), "")
    shown = clean(whole.replace("\n", "⏎").replace("\t", "⇥"), newlines=False)
    if not part.texts[place]:
        return f"a part of '{shown}'"
    return f"'{shown}'" if len(part.bytes[place]) >= len(part.texts[place].encode()) else f"the last part of '{shown}'"
