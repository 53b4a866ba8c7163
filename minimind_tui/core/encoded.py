"""What encoding a whole file finds out: its audit, and which rows its problems are."""

import threading
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError
from engine.text.audit import audit
from engine.text.batching import Sampler, split_rows
from engine.text.cache import load_samples
from engine.text.store import SampleStore
from minimind_tui.core.plot import load as load_plotting
from minimind_tui.core.reading import Reader
from minimind_tui.core.rows import Hits, Rows

QUARANTINED, UNTRAINED, TRUNCATED, DUPLICATES, DIFFERS, ANY = (
    "quarantined", "untrained", "truncated", "duplicates", "one_string_differs", "any",
)  # fmt: skip
"""Problems by name; `problem: …` names one of the encoder's own words."""

TITLES = {
    QUARANTINED: "lines that cannot be used",
    UNTRAINED: "rows with nothing trained",
    TRUNCATED: "rows cut to fit",
    DUPLICATES: "rows that repeat an earlier one",
    DIFFERS: "rows whose tokens differ from those of one string",
    ANY: "rows with any problem of the encoder",
}
_OWN_WORDS = "problem: "
_REPORT_EVERY = 64


@dataclass(frozen=True)
class Problem:
    """A kind of problem and how many rows have it."""

    name: str
    count: int

    @property
    def title(self) -> str:
        """What it is, in words; uncleaned, as it may quote a row."""
        return TITLES.get(self.name, self.name.removeprefix(_OWN_WORDS))


class Encoded:
    """A file's samples as one reader makes them, by row. Makes or opens the token cache, so it belongs into a thread.

    Attributes:
        store: The samples.
        audit: What `engine.text.audit` says of them.
        tokens: Of each row, all its samples together, shape (rows,).

    Raises:
        EngineError: The file has no row that the stage reads, or the cache cannot be written.
    """

    def __init__(self, rows: Rows, reader: Reader, progress: Callable[[float], None] | None = None) -> None:
        self._rows = rows
        self.reader = reader
        self.store: SampleStore = load_samples(reader.request(rows.path), reader.tokenizer, progress)
        load_plotting()
        columns = self.store.columns
        self.audit: dict[str, Any] = audit(
            self.store,
            max_seq_len=reader.sample_length,
            val_fraction=float(reader.reading.default("val_fraction")),
            vocab_size=reader.tokenizer.vocab_size,
        )
        lengths = columns["lengths"].astype(np.float64)
        self.tokens: NDArray[np.int64] = np.bincount(columns["rows"], weights=lengths).astype(np.int64)

    @property
    def problems(self) -> list[Problem]:
        """The problems that the file has, the gravest first."""
        found, own = self.audit, self.audit["problems"]
        counts = {
            QUARANTINED: len(found["quarantined"]),
            UNTRAINED: found["rows_without_trained_tokens"],
            TRUNCATED: found["truncated_rows"],
            **{_OWN_WORDS + words: count for words, count in own.items()},
            DUPLICATES: found["duplicates"],
            DIFFERS: found["one_string_differs"],
        }
        return [Problem(name, count) for name, count in counts.items() if count]

    def rows_with(self, name: str, stop: threading.Event) -> Hits:
        """The rows that have a problem: at once where the samples say which, otherwise by encoding the file again."""
        if name not in (QUARANTINED, UNTRAINED, TRUNCATED, DUPLICATES):
            yield from self._encode_again(name, stop)
            return
        columns = self.store.columns
        if name == TRUNCATED:
            found = np.unique(columns["rows"][columns["truncated"] > 0]).tolist()
        elif name == DUPLICATES:
            rows, first = np.unique(columns["rows"], return_index=True)
            _, kept = np.unique(columns["hashes"][first], return_index=True)
            found = np.delete(rows, kept).tolist()
        else:
            self._rows.wait(stop)
            meta = self.store.meta
            lines = meta["untrained_lines"] if name == UNTRAINED else [entry["line"] for entry in meta["quarantined"]]
            found = [row for line in lines if (row := self._rows.row_of_line(line)) is not None]
        yield array("q", found), 1.0

    @cached_property
    def packed(self) -> list[NDArray[np.int64]]:
        """The samples of each packed row that training goes through, by the stage's default seed."""
        reading = self.reader.reading
        train, _ = split_rows(self.store.columns["keys"], float(reading.default("val_fraction")))
        return Sampler(
            self.store, train, batch_size=1, accumulation_steps=1, packing=True,
            max_seq_len=self.reader.sample_length, seed=int(reading.default("seed")),
        ).units  # fmt: skip

    def packed_with(self, row: int) -> int | None:
        """The number of the packed row that holds a row's first sample; None where none does."""
        samples = np.flatnonzero(self.store.columns["rows"] == row)
        place = int(self._packed_of[samples[0]]) if len(samples) else -1
        return None if place < 0 else place

    @cached_property
    def _packed_of(self) -> NDArray[np.int64]:
        """The packed row of each sample, -1 where it is in none."""
        places = np.full(len(self.store), -1, dtype=np.int64)
        for number, samples in enumerate(self.packed):
            places[samples] = number
        return places

    def is_odd(self, row: int) -> bool:
        """Whether a row is cut to fit, or has no sample at all."""
        return row >= len(self.tokens) or not self.tokens[row] or bool(self._cut[row])

    @cached_property
    def _cut(self) -> NDArray[np.bool_]:
        """Whether each row is cut, shape (rows,)."""
        return np.bincount(self.store.columns["rows"], weights=self.store.columns["truncated"]) > 0

    def rows_between(self, least: int, most: int) -> Sequence[int]:
        """The rows that have from `least` to `most` tokens."""
        fits = (self.tokens >= max(least, 1)) & (self.tokens <= most)
        return array("q", np.flatnonzero(fits).tolist())

    def _encode_again(self, name: str, stop: threading.Event) -> Hits:
        encoder = self.reader.reencoder
        hits, words = array("q"), name.removeprefix(_OWN_WORDS)
        for count, record in enumerate(self._rows.records(), start=1):
            if stop.is_set():
                return
            try:
                samples = encoder.encode(record)
            except EngineError:  # quarantined by the cache as well
                samples = []
            problems = {problem for sample in samples for problem in sample.problems}
            differs = name == DIFFERS and any(sample.one_string_differs for sample in samples)
            if differs or words in problems or (name == ANY and problems):
                hits.append(record.row)
            if count % _REPORT_EVERY == 0:
                yield hits, count / max(self._rows.known, count)
                hits = array("q")
        yield hits, 1.0
