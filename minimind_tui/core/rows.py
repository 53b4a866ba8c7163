"""A data file's rows: where each begins and who speaks in it, learnt in a thread while the first are looked at."""

import json
import threading
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson

from engine.clean import clean
from engine.errors import DataError
from engine.text.formats import open_source
from engine.text.records import Record, RecordFile

ROLES = ("system", "user", "assistant", "tool")
SHAPES = ("text", "conversation", "pair", "prompt")
MARKS = {"text": "≡", "conversation": "»", "pair": "±", "prompt": "?"}
"""A sign a shape, for lists."""
BAD = "✗"
"""The sign of a quarantined line."""

Hits = Iterator[tuple[Sequence[int], float]]
"""New rows that were found, and the share of the file that has been searched, 0 to 1."""

_REPORT_EVERY = 2048
_PREVIEW, _CUT = 240, 600
_WAIT_SECONDS = 0.05


@dataclass(frozen=True)
class Preview:
    """A row in one line, cleaned: its number, the sign of its shape, its beginning."""

    number: str
    mark: str
    text: str


class Rows(RecordFile):
    """A data file whose rows can be looked at while it is still being read.

    `build_index` reads the whole file once, and notes who speaks in which row; every other method may be called
    meanwhile from other threads, for the rows that are known so far. A usable row is named by its number from 0, as
    everywhere in the engine; the quarantined line `quarantined[i]` is named by `~i`, a negative number.

    Attributes:
        size: Bytes on the disk.
        answers: Rows, known so far, that say what the answer is.

    Raises:
        UserError: The file cannot be read, or has not one usable row.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(open_source(path), mapping=None, max_rows=None)
        self.size = path.stat().st_size
        self.answers = 0
        self._facts, self._roles = bytearray(), 0
        self._of_shape = [0] * len(SHAPES)

    @property
    def known(self) -> int:
        """Usable rows known so far."""
        return len(self._offsets)

    @property
    def shapes(self) -> dict[str, int]:
        """Rows of each shape known so far, the commonest first."""
        counts = {shape: count for shape, count in zip(SHAPES, self._of_shape, strict=True) if count}
        return dict(sorted(counts.items(), key=lambda entry: -entry[1]))

    def build_index(self, progress: Callable[[float], None] | None = None, stop: threading.Event | None = None) -> bool:
        """Reads the whole file once; as the engine's own, and notes of each row its shape and who speaks in it."""
        offsets, lines = array("q"), array("q")
        self._indexed = False
        self._offsets, self._lines, self.quarantined = offsets, lines, []
        self.answers, self._facts, self._roles, self._of_shape = 0, bytearray(), 0, [0] * len(SHAPES)
        for count, (offset, item) in enumerate(self._scan(self._whole())):
            if isinstance(item, Record):
                self._note(item)
                lines.append(item.line)
                # Last: another thread reads a row as soon as its offset is there.
                offsets.append(offset)
            else:
                self.quarantined.append(item)
            if count % _REPORT_EVERY == 0:
                if stop is not None and stop.is_set():
                    return False
                if progress is not None:
                    progress(self._share(offset))
        self._indexed = True
        return True

    def _share(self, offset: int) -> float:
        return min(offset / max(self._source.size, 1), 1.0)

    def _note(self, record: Record) -> None:
        roles = {message.role for message in (*record.messages, *record.rejected)}
        facts = sum(1 << place for place, role in enumerate(ROLES) if role in roles)
        self._facts.append(facts)
        self._roles |= facts
        self._of_shape[SHAPES.index(record.shape)] += 1
        self.answers += record.answer is not None

    def line(self, row: int) -> int:
        """The line of a row or of a quarantined line, 1-based."""
        return int(self._lines[row]) if row >= 0 else self.quarantined[~row].line

    def row_of_line(self, line: int) -> int | None:
        """The row, or the quarantined line, that stands on a line of the file, if it is known."""
        place = bisect_left(self._lines, line, hi=self.known)
        if place < self.known and self._lines[place] == line:
            return place
        place = bisect_left(self.quarantined, line, key=lambda entry: entry.line)
        return ~place if place < len(self.quarantined) and self.quarantined[place].line == line else None

    def parsed(self, row: int) -> Any:
        """The row as it stands in the file, parsed and otherwise untouched: a dictionary of JSON values, mostly.

        Raises:
            DataError: The file has changed since it was read.
        """
        if not 0 <= row < self.known:
            raise DataError(f"there is no row {row}", where=str(self.path))
        unit = next(self._source.units(int(self._offsets[row]), int(self._lines[row])), None)
        if unit is None or unit.problem:
            raise self._changed(row)
        return unit.row

    def _changed(self, row: int) -> DataError:
        return DataError(
            "the file has changed since it was read", where=f"{self.path}:{self.line(row)}", hint="open it again"
        )

    def previews(self, rows: Sequence[int]) -> dict[int, Preview]:
        """Previews of some rows and quarantined lines; neighbours are read in one go.

        Raises:
            DataError: As `parsed`.
        """
        found = {row: self._bad_preview(row) for row in rows if row < 0}
        wanted = sorted(row for row in set(rows) if 0 <= row < self.known)
        for _, run in groupby(enumerate(wanted), key=lambda entry: entry[1] - entry[0]):
            block = [row for _, row in run]
            at = dict(zip(self._offsets[block[0] : block[-1] + 1], block, strict=True))
            for unit in self._source.units(int(self._offsets[block[0]]), int(self._lines[block[0]])):
                if (row := at.get(unit.offset)) is not None:
                    record = self._item(unit, row)
                    if not isinstance(record, Record):
                        raise self._changed(row)
                    found[row] = Preview(f"{row:,}", MARKS[record.shape], preview(record))
                if unit.offset >= self._offsets[block[-1]]:
                    break
        return found

    def _bad_preview(self, row: int) -> Preview:
        entry = self.quarantined[~row]
        return Preview(f"line {entry.line:,}", BAD, clean(entry.reason, newlines=False))

    def search(self, needle: str, stop: threading.Event) -> Hits:
        """Finds the rows whose fields hold a text, upper and lower case alike.

        Rows that are not known yet are waited for while `build_index` goes on.

        Args:
            needle: The text; quotes and line ends as they are.
            stop: Set it from another thread to give up.

        Yields:
            New hits, and the share of the known rows that has been searched, 0 to 1.

        Raises:
            DataError: As `parsed`.
        """
        folded = needle.casefold()
        wanted = {folded, json.dumps(folded, ensure_ascii=False)[1:-1]}
        for news in self._news(stop):
            row, hits = news.start, array("q")
            for unit in self._source.units(int(self._offsets[row]), int(self._lines[row])):
                if unit.offset != self._offsets[row]:
                    continue
                text = orjson.dumps(unit.row, default=str).decode().casefold()
                if any(each in text for each in wanted):
                    hits.append(row)
                row += 1
                if row == news.stop or stop.is_set():
                    break
                if row % _REPORT_EVERY == 0:
                    yield hits, row / self.known
                    hits = array("q")
            else:
                raise self._changed(row)
            yield hits, row / self.known

    def has_role(self, role: str) -> bool:
        """Whether a role speaks in any row known so far."""
        return bool(self._roles >> ROLES.index(role) & 1)

    def with_role(self, role: str, stop: threading.Event) -> Hits:
        """Finds the rows in which a role speaks; see `search`."""
        bit, facts = 1 << ROLES.index(role), self._facts
        for news in self._news(stop):
            yield array("q", (row for row in news if facts[row] & bit)), news.stop / max(self.known, 1)

    def wait(self, stop: threading.Event) -> None:
        """Waits until the whole file has been read."""
        while not self.indexed and not stop.is_set():
            stop.wait(_WAIT_SECONDS)

    def _news(self, stop: threading.Event) -> Iterator[range]:
        """Rows that are known and were not given before, until there are no more."""
        seen = 0
        while not stop.is_set():
            # In this order: once the index is complete, what is known is all.
            complete, known = self.indexed, self.known
            if known > seen:
                yield range(seen, known)
                seen = known
            elif complete:
                return
            else:
                stop.wait(_WAIT_SECONDS)


def preview(record: Record) -> str:
    """The beginning of a row in one line, cleaned: what is asked and what is answered."""
    if record.shape == "text":
        return _one_line(record.text)
    asked = next((message.content for message in reversed(record.messages) if message.role == "user"), "")
    if record.shape == "prompt":
        return _one_line(asked) + (f" → {_one_line(record.answer)}" if record.answer is not None else "")
    turns = [message for message in record.messages if message.role in ("user", "assistant")] or record.messages
    return " → ".join(_one_line(message.content) for message in turns[:2])


def _one_line(text: str) -> str:
    return clean(" ".join(text[:_CUT].split())[:_PREVIEW], newlines=False)
