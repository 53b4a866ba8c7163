"""Rows as they stand in a data file, and new data files that appear whole or not at all."""

import os
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from engine.errors import DataError, UserError
from engine.text.formats import open_source
from engine.text.records import Quarantined, Record, RecordFile
from engine.text.scan import open_stream, read_lines
from engine.text.sources import JsonLines, Source
from engine.text.strict_json import BadRow
from engine.text.writing import to_line


def stored_rows(file: RecordFile) -> Iterator[tuple[Record | Quarantined, bytes]]:
    """Streams every row with the line that a JSON lines file would hold for it, in constant memory.

    Lines of a JSON lines file are its own, byte for byte; rows of other formats are written as JSON. A line ends with
    its line end; that of a quarantined row is empty.

    Raises:
        DataError: The file changes while it is read.
    """
    source = open_source(file.path)
    yield from _own_lines(file, source) if isinstance(source, JsonLines) else _written_lines(file, source)


def _own_lines(file: RecordFile, source: Source) -> Iterator[tuple[Record | Quarantined, bytes]]:
    with open_stream(file.path) as stream:
        lines = read_lines(stream, source.start, source.first_line)
        for item in file:
            if isinstance(item, Quarantined):
                yield item, b""
                continue
            line = next((line for line in lines if line.number == item.line), None)
            if line is None:
                raise changed(file.path)
            yield item, bytes(line.raw) if line.raw.endswith(b"\n") else bytes(line.raw) + b"\n"


def _written_lines(file: RecordFile, source: Source) -> Iterator[tuple[Record | Quarantined, bytes]]:
    units = source.units(source.start, source.first_line)
    for item in file:
        unit = next(units, None)
        if unit is None or unit.line != item.line:
            raise changed(file.path)
        if isinstance(item, Quarantined):
            yield item, b""
            continue
        try:
            line = to_line(unit.row)
        except BadRow as error:
            yield Quarantined(item.line, error.reason, unit.raw), b""
        else:
            yield item, line


def changed(path: Path) -> DataError:
    """The error of a file that is not what it was a moment ago."""
    return DataError("the file was changed while it was read", where=str(path), hint="start again")


@contextmanager
def new_files(*paths: Path, sources: Collection[Path], overwrite: bool) -> Iterator[list[IO[bytes]]]:
    """Opens files for writing that appear under their names when the block ends well, and not at all otherwise.

    Args:
        paths: The files; their folders are made if need be.
        sources: The files that are read; none of them is ever written.
        overwrite: Whether files that exist may be replaced.

    Raises:
        UserError: A name is taken, or is not that of a JSON lines file.
    """
    places = [path.resolve() for path in paths]  # a link stays a link
    for path, place in zip(paths, places, strict=True):
        _check(path, place, [source.resolve() for source in sources], overwrite)
    partials = [place.with_name(f".{place.name}.{os.getpid()}.new") for place in places]
    try:
        with ExitStack() as stack:
            files: list[IO[bytes]] = []
            for partial in partials:
                partial.parent.mkdir(parents=True, exist_ok=True)
                files.append(stack.enter_context(partial.open("wb")))
            yield files
            for file in files:
                file.flush()
                os.fsync(file.fileno())
        for partial, place in zip(partials, places, strict=True):
            partial.replace(place)
    finally:
        for partial in partials:
            partial.unlink(missing_ok=True)


def _check(path: Path, place: Path, sources: Collection[Path], overwrite: bool) -> None:
    if path.suffix != ".jsonl":
        raise UserError("rows are written as JSON lines", where=str(path), hint="give a name that ends in .jsonl")
    if place in sources:
        raise UserError("this is the file that is read", where=str(path), hint="give another name")
    if place.is_dir():
        raise UserError("this is a folder", where=str(path))
    if place.exists() and not overwrite:
        raise UserError("the file exists", where=str(path), hint="give another name, or --overwrite")
