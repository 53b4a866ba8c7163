"""From a data file's bytes to parsed rows, lazily: one reader per format."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from engine.errors import DataError
from engine.text import scan
from engine.text.scan import Line, Stream, elements, open_stream, paragraphs, read_lines
from engine.text.shapes import FIELDS
from engine.text.strict_json import BadRow, loads, quote

BLOCK_BYTES = 8 << 10
"""How much text one row of a .txt or .md file holds, in whole paragraphs."""
RAW_BYTES = 200
"""How much of a row is kept to show it."""
HEAD_BYTES = 64 << 10
"""How much is looked at to tell what a file is."""


class Unit(NamedTuple):
    """One row as it stands in the file: parsed, or with the reason why it could not be.

    `offset` is where `Source.units` can start reading again: a byte (in a .gz: of the unpacked stream), or a row number
    in parquet. `line` is 1-based; `raw` are its first bytes, empty in parquet.
    """

    offset: int
    line: int
    raw: bytes
    row: Any
    problem: str = ""


class Source:
    """A file that can be read row by row from any row's offset.

    Attributes:
        start: The offset of the first row.
        first_line: The line (or element) number there.
        size: Bytes or rows in all, for progress; of a .gz an estimate.
        splittable: Whether any line boundary is a row boundary, so that byte ranges can be read apart.

    Raises:
        UserError: The file cannot be read as what it seems to be.
    """

    splittable = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = scan.unpacked_size(path)
        self.first_line = 1
        with open_stream(path) as stream:
            self.start = len(scan.BOM) if stream.read(len(scan.BOM)) == scan.BOM else 0

    def units(self, offset: int, line: int, end: int | None = None) -> Iterator[Unit]:
        """Reads rows from an offset on, up to the offset `end`.

        Raises:
            DataError: The file cannot be read any more.
        """
        try:
            with open_stream(self.path) as stream:
                for unit in self._read(stream, offset, line, end):
                    line = unit.line + 1
                    yield unit
        except scan.DAMAGE:
            yield Unit(offset, line, b"", None, "the compressed data is damaged or ends too early")
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror or error}", where=str(self.path)) from error

    def _read(self, stream: Stream, offset: int, line: int, end: int | None) -> Iterator[Unit]:
        raise NotImplementedError


def _json_unit(offset: int, line: int, raw: bytes | bytearray, problem: str) -> Unit:
    row = None
    if not problem:
        try:
            row = loads(raw)
        except BadRow as error:
            problem = error.reason
    return Unit(offset, line, bytes(raw[:RAW_BYTES]), row, problem)


class JsonLines(Source):
    """One JSON object a line; blank lines are skipped."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.splittable = not scan.is_gzip(path)

    def _read(self, stream: Stream, offset: int, line: int, end: int | None) -> Iterator[Unit]:
        for found in read_lines(stream, offset, line, end):
            if found.problem or not found.raw.isspace():
                yield _json_unit(found.offset, found.number, found.raw, found.problem)


class JsonDocument(Source):
    """A JSON list of rows, an object with one such list inside, or one row."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with open_stream(path) as stream:
            stream.seek(self.start)
            text = re.search(rb"\S", stream.read1(HEAD_BYTES))
            begin = self.start + (text.start() if text else 0)
            stream.seek(begin)
            self._is_list = stream.read(1) == b"["
            self.start = begin + 1 if self._is_list else self._find_list(stream, begin)

    def _find_list(self, stream: Stream, begin: int) -> int:
        """Where the rows begin: inside the only list that the object holds, or at the object if it is a row itself."""
        lists: dict[str, int] = {}
        for member in elements(stream, begin + 1):
            match = re.match(rb'\s*"((?:[^"\\]|\\.)*)"\s*:\s*\[', member.raw)
            if match and not member.is_rest:
                lists[match[1].decode(errors="replace")] = member.offset + match.end()
        if not lists or FIELDS & set(lists):
            return begin
        if len(lists) > 1:
            names = ", ".join(quote(name) for name in lists)
            raise DataError(f"the object holds several lists: {names}", where=str(self.path), hint="keep one of them")
        return next(iter(lists.values()))

    def _read(self, stream: Stream, offset: int, line: int, end: int | None) -> Iterator[Unit]:
        for element in elements(stream, offset):
            if not element.is_rest:
                if element.problem or element.raw.strip():
                    yield _json_unit(element.offset, line, element.raw.strip(), element.problem)
                    line += 1
            elif self._is_list:
                raw = bytes(element.raw[:RAW_BYTES])
                yield Unit(element.offset, line, raw, None, "something follows the end of the list")


class Text(Source):
    """Running text: whole paragraphs, joined up to `BLOCK_BYTES`."""

    def _read(self, stream: Stream, offset: int, line: int, end: int | None) -> Iterator[Unit]:
        block: list[str] = []
        size, begin, number = 0, offset, line
        for start, at, raw in paragraphs(stream, offset, line):
            text, problem = "", ""
            try:
                text = raw.decode().replace("\r\n", "\n").strip("\n")
                problem = "NUL character in text" if "\0" in text else ""
            except UnicodeDecodeError as error:
                at += raw.count(b"\n", 0, error.start)
                problem = "invalid UTF-8"
            if block and (problem or size + len(raw) > BLOCK_BYTES):
                yield _text_unit(begin, number, block)
                block, size = [], 0
            if problem:
                yield Unit(start, at, bytes(raw[:RAW_BYTES]), None, problem)
                continue
            if not block:
                begin, number = start, at
            block.append(text)
            size += len(raw)
        if block:
            yield _text_unit(begin, number, block)


def _text_unit(offset: int, line: int, block: list[str]) -> Unit:
    raw = block[0][:RAW_BYTES].encode()[:RAW_BYTES]
    return Unit(offset, line, raw, {"text": "\n\n".join(block)})


class Csv(Source):
    """Comma-separated values with a header row."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        # The limit is the process's own; rows are limited here as a whole, so no field can be longer.
        csv.field_size_limit(scan.MAX_ROW_BYTES)
        self._columns: list[str] = []
        header = next(self.units(self.start, 1), None)
        if header is None or header.problem:
            reason = header.problem if header else "there are only blank lines"
            raise DataError(f"no header row: {reason}", where=f"{path}:1", hint="the first row must name the columns")
        self._columns, self.start, self.first_line = header.row

    def _read(self, stream: Stream, offset: int, line: int, end: int | None) -> Iterator[Unit]:
        while True:
            taken: list[Line] = []
            try:
                for cells in csv.reader(_decoded(stream, offset, line, taken), strict=True):
                    if cells:
                        yield self._unit(taken, cells)
                    taken.clear()
                return
            except (csv.Error, BadRow) as error:
                reason = error.reason if isinstance(error, BadRow) else f"broken CSV: {error}"
                yield Unit(taken[0].offset, taken[0].number, bytes(taken[0].raw[:RAW_BYTES]), None, reason)
                # An open quote swallows what follows it: go on right after the line on which the row began.
                offset, line = taken[0].end, taken[0].number + 1

    def _unit(self, taken: list[Line], cells: list[str]) -> Unit:
        first, last = taken[0], taken[-1]
        raw = b"".join(bytes(line.raw[:RAW_BYTES]) for line in taken[:RAW_BYTES])[:RAW_BYTES]
        if not self._columns:
            return Unit(first.offset, first.number, raw, (cells, last.end, last.number + 1))
        if len(cells) != len(self._columns):
            reason = f"{len(cells)} cells, the header has {len(self._columns)}"
            return Unit(first.offset, first.number, raw, None, reason)
        return Unit(first.offset, first.number, raw, dict(zip(self._columns, cells, strict=True)))


def _decoded(stream: Stream, offset: int, line: int, taken: list[Line]) -> Iterator[str]:
    """Lines for the CSV parser; `taken` collects those of the row being parsed (who reads the rows empties it)."""
    size = 0
    for found in read_lines(stream, offset, line):
        size = size + len(found.raw) if taken else len(found.raw)
        taken.append(found)
        if found.problem or size > scan.MAX_ROW_BYTES:
            raise BadRow(found.problem or scan.too_long())
        if b"\0" in found.raw:
            raise BadRow("NUL character in text")
        try:
            text = found.raw.decode()
        except UnicodeDecodeError:
            raise BadRow("invalid UTF-8") from None
        yield text
