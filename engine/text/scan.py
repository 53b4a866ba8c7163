"""Cutting a stream of bytes into lines, elements of a JSON list, and paragraphs, in bounded memory."""

import gzip
import io
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MAX_ROW_BYTES = 16 << 20
"""Longer lines (list elements, CSV rows) are quarantined."""
PIECE_BYTES = 1 << 20
"""How much is read at once; also the longest paragraph that is kept whole."""
BOM = b"\xef\xbb\xbf"
DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile)
"""What reading a damaged .gz raises."""
Stream = io.BufferedReader | gzip.GzipFile

_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_TOP = re.compile(rb'["\[\]{},]')
_DEEP = re.compile(rb'["\[\]{}]')


class Line(NamedTuple):
    """One line with its line end; of one that is too long only the beginning. `end` is the next line's offset."""

    offset: int
    number: int
    raw: bytes | bytearray
    end: int
    problem: str = ""


class Element(NamedTuple):
    """One element of a JSON list (or member of an object), unparsed; `is_rest`: what follows the end of the list."""

    offset: int
    raw: bytes | bytearray
    problem: str = ""
    is_rest: bool = False


def too_long() -> str:
    """The reason for refusing a row."""
    return f"longer than {MAX_ROW_BYTES / (1 << 20):g} MiB"


def is_gzip(path: Path) -> bool:
    """Whether the file is compressed, by its first bytes: names lie."""
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def open_stream(path: Path) -> Stream:
    """Opens a file for reading, unpacking a .gz.

    Whoever reads uses `readline` or `read1`: `read` would lose what stands before the end of a truncated .gz.
    """
    return gzip.GzipFile(path) if is_gzip(path) else path.open("rb")


def unpacked_size(path: Path) -> int:
    """Bytes of the file; for a .gz what its last four bytes say (modulo 4 GiB, of its last member)."""
    size = path.stat().st_size
    if size < 18 or not is_gzip(path):
        return size
    with path.open("rb") as stream:
        stream.seek(-4, io.SEEK_END)
        return int(struct.unpack("<I", stream.read(4))[0])


def read_lines(stream: Stream, offset: int, number: int, end: int | None = None) -> Iterator[Line]:
    """Reads lines that begin before the offset `end`; never holds more than `MAX_ROW_BYTES` and one piece."""
    stream.seek(offset)
    while end is None or offset < end:
        raw: bytes | bytearray = stream.readline(PIECE_BYTES)
        if not raw:
            return
        after, problem = offset + len(raw), ""
        if len(raw) == PIECE_BYTES and not raw.endswith(b"\n"):
            raw = bytearray(raw)
            while piece := stream.readline(PIECE_BYTES):
                after += len(piece)
                if len(raw) + len(piece) <= MAX_ROW_BYTES and not problem:
                    raw += piece
                else:
                    problem = too_long()
                    del raw[PIECE_BYTES:]
                if piece.endswith(b"\n"):
                    break
        yield Line(offset, number, raw, after, problem)
        offset, number = after, number + 1


def elements(stream: Stream, offset: int) -> Iterator[Element]:
    """Cuts the inside of a JSON list or object at its commas without parsing: one bad element spoils no other."""
    stream.seek(offset)
    kept, begin, problem = bytearray(), offset, ""
    depth, in_string, escaped = 0, False, False

    def keep(piece: bytes) -> None:
        nonlocal problem
        if len(kept) + len(piece) > MAX_ROW_BYTES:
            problem = too_long()
        if not problem:
            kept.extend(piece)

    while chunk := stream.read1(PIECE_BYTES):
        first, position, escaped = 0, int(escaped), False
        while position < len(chunk):
            if in_string:
                match = _STRING.match(chunk, position)
                position = match.end() if match else len(chunk)
                if position < len(chunk):
                    # A quote ends the string; a backslash here is the chunk's last byte and escapes the next one.
                    in_string = escaped = chunk[position] != 0x22
                    position += 1
                continue
            mark = (_DEEP if depth else _TOP).search(chunk, position)
            if not mark:
                break
            position = mark.end()
            match mark[0]:
                case b'"':
                    in_string = True
                case b"[" | b"{":
                    depth += 1
                case b"]" | b"}" if depth:
                    depth -= 1
                case _:
                    keep(chunk[first : mark.start()])
                    yield Element(begin, kept, problem)
                    kept, begin, problem, first = bytearray(), offset + position, "", position
                    if mark[0] != b",":
                        rest = chunk[position:].strip()
                        while not rest and (chunk := stream.read1(PIECE_BYTES)):
                            rest = chunk.strip()
                        if rest:
                            yield Element(begin, rest, is_rest=True)
                        return
        keep(chunk[first:])
        offset += len(chunk)
    if kept or problem:
        yield Element(begin, kept, problem)


def paragraphs(stream: Stream, offset: int, number: int) -> Iterator[tuple[int, int, bytearray]]:
    """Reads what stands between blank lines: (offset, number of the first line, bytes).

    A paragraph longer than `PIECE_BYTES` comes in several pieces, cut at a line's end or else between two characters.
    """
    stream.seek(offset)
    kept, begin, first = bytearray(), offset, number
    while piece := stream.readline(PIECE_BYTES):
        if piece.isspace():
            if kept:
                yield begin, first, kept
                kept = bytearray()
        else:
            if not kept:
                begin, first = offset, number
            kept += piece
            while len(kept) > PIECE_BYTES:
                cut = _cut(kept)
                yield begin, first, kept[:cut]
                begin, first = begin + cut, first + kept.count(b"\n", 0, cut)
                del kept[:cut]
        offset += len(piece)
        number += piece.endswith(b"\n")
    if kept:
        yield begin, first, kept


def _cut(text: bytearray) -> int:
    line_end = text.rfind(b"\n", 0, PIECE_BYTES) + 1
    if line_end > PIECE_BYTES // 2:
        return line_end
    # Bytes 10xxxxxx continue a character, of which there are at most three.
    return next((cut for cut in range(PIECE_BYTES, PIECE_BYTES - 4, -1) if text[cut] & 0xC0 != 0x80), PIECE_BYTES)
