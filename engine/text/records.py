"""Data files read lazily: usable rows as records, bad ones quarantined with their line and reason."""

import threading
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.errors import DataError, UserError
from engine.text import scan
from engine.text.formats import open_source
from engine.text.messages import Message
from engine.text.shapes import KNOWN, Record, check_mapping, read_row
from engine.text.sources import RAW_BYTES, Source, Unit
from engine.text.strict_json import BadRow

__all__ = ["Chunk", "Message", "Quarantined", "Record", "RecordFile", "open_records"]

_LOOK_ROWS = 100
_LOOK_UNITS = 1000
_LOOK_BYTES = 1 << 20
_REPORT_EVERY = 2048


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row that cannot be used.

    Attributes:
        line: 1-based in the file.
        reason: A short plain reason.
        raw: Its first 200 bytes, as they are: clean them before showing.
    """

    line: int
    reason: str
    raw: bytes


class Chunk(NamedTuple):
    """A part of a file that can be read by itself: offsets, `end` None meaning the file's end, and its first line."""

    start: int
    end: int | None
    first_line: int


class RecordFile:
    """A data file. Iterating streams its rows in order, usable and quarantined ones, in constant memory.

    Reading, iterating and `build_index` may run in different threads: each opens the file for itself.

    Attributes:
        path: The file.
        shape: The shape of most of the first rows; each record has its own.
        format: Their layout.
        quarantined: The bad rows; complete once `indexed`.
    """

    def __init__(self, source: Source, *, mapping: Mapping[str, str] | None, max_rows: int | None) -> None:
        if max_rows is not None and max_rows < 1:
            raise UserError(f"max_rows is {max_rows}", hint="it must be at least 1")
        check_mapping(mapping or {})
        self.path = source.path
        self.quarantined: list[Quarantined] = []
        self._source, self._mapping, self._max_rows = source, mapping, max_rows
        self._offsets: array[int] | npt.NDArray[np.int64] = array("q")
        self._lines: array[int] | npt.NDArray[np.int64] = array("q")
        self._indexed = False
        self.shape, self.format = self._look()

    @property
    def indexed(self) -> bool:
        """Whether `build_index` has run to the end, so that `len` is known and `read` is quick for every row."""
        return self._indexed

    def __len__(self) -> int:
        """The number of usable rows.

        Raises:
            TypeError: The index is not built.
        """
        if not self._indexed:
            raise TypeError("the number of rows is known after build_index()")
        return len(self._offsets)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Record | Quarantined]:
        return self.iterate(self._whole())

    def iterate(self, chunk: Chunk) -> Iterator[Record | Quarantined]:
        """Streams a part of the file; lines are the file's own, rows are counted from the part's beginning."""
        return (item for _, item in self._scan(chunk))

    def records(self) -> Iterator[Record]:
        """Streams the usable rows."""
        return (item for item in self if isinstance(item, Record))

    def read(self, row: int) -> Record:
        """Reads one usable row: at once where the index has it, otherwise by streaming up to it.

        Raises:
            UserError: There is no such row.
            DataError: The file has changed since it was indexed.
        """
        if 0 <= row < len(self._offsets):
            unit = next(self._source.units(int(self._offsets[row]), int(self._lines[row])), None)
            item = self._item(unit, row) if unit else None
            if not isinstance(item, Record):
                raise DataError("the file has changed since it was read", where=f"{self.path}:{self._lines[row]}")
            return item
        count = len(self._offsets)
        if row >= 0 and not self._indexed:
            count = 0
            for record in self.records():
                if record.row == row:
                    return record
                count += 1
        raise UserError(f"there is no row {row}: the file has rows 0 to {count - 1}", where=str(self.path))

    def build_index(self, progress: Callable[[float], None] | None = None, stop: threading.Event | None = None) -> bool:
        """Reads the whole file once to learn where its usable rows are and which rows are bad.

        Args:
            progress: Called now and then with the share done, 0 to 1.
            stop: Set it from another thread to give up.

        Returns:
            Whether the index is complete.
        """
        offsets, lines, bad = array("q"), array("q"), list[Quarantined]()
        self._indexed = False
        self._offsets, self._lines, self.quarantined = offsets, lines, bad
        for count, (offset, item) in enumerate(self._scan(self._whole())):
            if isinstance(item, Record):
                # The line first: another thread reads a row as soon as its offset is there.
                lines.append(item.line)
                offsets.append(offset)
            else:
                bad.append(item)
            if count % _REPORT_EVERY == 0:
                if stop is not None and stop.is_set():
                    return False
                if progress is not None:
                    progress(min(offset / max(self._source.size, 1), 1.0))
        self._lines, self._offsets = np.array(lines, dtype=np.int64), np.array(offsets, dtype=np.int64)
        self._indexed = True
        if progress is not None:
            progress(1.0)
        return True

    def chunks(self, count: int) -> list[Chunk]:
        """Cuts the file into at most `count` parts of about the same size, for several processes.

        Only plain JSON lines can be cut; anything else, or a file with `max_rows`, is one part.

        Raises:
            UserError: `count` is less than 1.
        """
        if count < 1:
            raise UserError(f"cannot cut a file into {count} parts", where=str(self.path))
        if not self._source.splittable or self._max_rows is not None:
            return [self._whole()]
        start, line, size = self._source.start, self._source.first_line, self._source.size
        chunks: list[Chunk] = []
        with scan.open_stream(self.path) as stream:
            stream.seek(start)
            for part in range(1, count + 1):
                end, newlines, target = start, 0, size * part // count
                while end < target and (piece := stream.read1(min(scan.PIECE_BYTES, target - end))):
                    end, newlines = end + len(piece), newlines + piece.count(b"\n")
                    at_line_end = piece.endswith(b"\n")
                if end == start:
                    continue
                while not at_line_end and (piece := stream.readline(scan.PIECE_BYTES)):
                    end, at_line_end = end + len(piece), piece.endswith(b"\n")
                    newlines += at_line_end
                chunks.append(Chunk(start, end, line))
                start, line = end, line + newlines
        return chunks

    def _whole(self) -> Chunk:
        return Chunk(self._source.start, None, self._source.first_line)

    def _scan(self, chunk: Chunk) -> Iterator[tuple[int, Record | Quarantined]]:
        row = 0
        for unit in self._source.units(chunk.start, chunk.first_line, chunk.end):
            item = self._item(unit, row)
            yield unit.offset, item
            if isinstance(item, Record):
                row += 1
                if row == self._max_rows:
                    return

    def _item(self, unit: Unit, row: int) -> Record | Quarantined:
        reason = unit.problem
        if not reason:
            try:
                return read_row(unit.row, row, unit.line, self._mapping)
            except BadRow as error:
                reason = error.reason
        raw = unit.raw or str(unit.row or "")[:RAW_BYTES].encode(errors="replace")[:RAW_BYTES]
        return Quarantined(unit.line, reason, raw)

    def _look(self) -> tuple[str, str]:
        """The commonest shape and layout of the first rows; goes on until there is one."""
        found: Counter[tuple[str, str]] = Counter()
        first_bad: Quarantined | None = None
        bad = 0
        for offset, item in self._scan(self._whole()):
            if isinstance(item, Record):
                found[item.shape, item.format] += 1
            else:
                first_bad = first_bad or item
                bad += 1
            rows = found.total()
            if rows == _LOOK_ROWS or (rows and (rows + bad >= _LOOK_UNITS or offset > _LOOK_BYTES)):
                break
        if not found:
            where = f"{self.path}:{first_bad.line}" if first_bad else str(self.path)
            what = (
                f"none of {bad} rows can be used; the first: {first_bad.reason}" if first_bad else "there are no rows"
            )
            raise DataError(what, where=where, hint=f"a row is one of {KNOWN}; a mapping can name other columns")
        return found.most_common(1)[0][0]


def open_records(
    path: str | Path, *, mapping: Mapping[str, str] | None = None, max_rows: int | None = None
) -> RecordFile:
    """Opens a data file: .jsonl, .ndjson, .json, .txt, .md, .csv or .parquet, each also as .gz.

    Args:
        path: The file.
        mapping: Our field names (`text`, `messages`, `prompt`, …) → the file's columns, dotted paths allowed.
        max_rows: Read only that many usable rows.

    Raises:
        UserError: There is no such file, it is of no known kind, or the arguments are wrong.
        DataError: It has not one usable row.
    """
    return RecordFile(open_source(Path(path)), mapping=mapping, max_rows=max_rows)
