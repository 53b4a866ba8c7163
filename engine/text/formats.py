"""Which reader a data file needs."""

from pathlib import Path

from engine.errors import DataError, UserError
from engine.text import scan
from engine.text.parquet import Parquet
from engine.text.scan import open_stream
from engine.text.sources import HEAD_BYTES, Csv, JsonDocument, JsonLines, Source, Text

_LOOK_LINES = 20

_FORMATS: dict[str, type[Source]] = {
    ".jsonl": JsonLines,
    ".ndjson": JsonLines,
    ".txt": Text,
    ".md": Text,
    ".csv": Csv,
    ".parquet": Parquet,
}


def open_source(path: Path) -> Source:
    """Chooses the reader by the file's name (a `.gz` behind it aside), or by its first bytes where the name is unknown.

    Raises:
        UserError: There is no such file, it is a folder, or it is nothing that can be read.
    """
    if path.is_dir():
        raise UserError("this is a folder, not a data file", where=str(path), hint="name one file in it")
    if not path.is_file():
        raise UserError("no such file", where=str(path))
    try:
        return _choose(path)
    except (OSError, *scan.DAMAGE) as error:
        raise DataError(f"cannot be read: {error}", where=str(path)) from error


def _choose(path: Path) -> Source:
    with open_stream(path) as stream:
        head = stream.read1(HEAD_BYTES)
    if not head:
        raise DataError("the file is empty", where=str(path))
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError("the file is UTF-16", where=str(path), hint="convert it to UTF-8")
    extension = Path(path.name.lower().removesuffix(".gz")).suffix
    if extension in _FORMATS:
        return _FORMATS[extension](path)
    if head.startswith(b"PAR1"):
        return Parquet(path)
    begins = head.removeprefix(scan.BOM).lstrip()[:1]
    if extension == ".json" or begins in (b"{", b"["):
        return JsonLines(path) if begins != b"[" and _looks_like_lines(path) else JsonDocument(path)
    if b"\0" in head or not _is_utf8(head):
        known = ", ".join((*_FORMATS, ".json"))
        raise UserError("this is neither JSON nor text", where=str(path), hint=f"what can be read: {known} (and .gz)")
    return Text(path)


def _looks_like_lines(path: Path) -> bool:
    """Whether most of the first lines are JSON objects by themselves; a single line may also be a whole document."""
    source = JsonLines(path)
    objects = count = 0
    for unit in source.units(source.start, 1):
        objects += isinstance(unit.row, dict)
        count += 1
        if count == _LOOK_LINES:
            break
    return count > 1 and objects * 2 > count


def _is_utf8(head: bytes) -> bool:
    try:
        head.decode()
    except UnicodeDecodeError as error:
        # The last character may be cut in two.
        return error.reason == "unexpected end of data"
    return True
