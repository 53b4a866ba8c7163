"""Reading parquet files, with the optional pyarrow."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.errors import DataError, UserError
from engine.text.scan import Stream, open_stream
from engine.text.sources import Source, Unit
from engine.text.strict_json import BadRow, check_tree, quote

_BATCH_ROWS = 256


class Parquet(Source):
    """A parquet file; offsets are row numbers."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise UserError(
                "reading parquet needs pyarrow", where=str(path), hint='pip install "minimind-tui[parquet]"'
            ) from None
        self._arrow: Any = pyarrow
        self.start = 0
        with open_stream(path) as stream:
            self.size = self._open(stream).metadata.num_rows

    def _open(self, stream: Stream) -> Any:
        try:
            return self._arrow.parquet.ParquetFile(stream)
        except (self._arrow.ArrowException, OSError) as error:
            raise DataError(f"not a readable parquet file: {quote(error, 120)}", where=str(self.path)) from error

    def _read(self, stream: Stream, offset: int, line: int, end: int | None) -> Iterator[Unit]:
        file = self._open(stream)
        first = 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if first + count > offset:
                yield from self._group(file, group, first, offset)
            first += count

    def _group(self, file: Any, group: int, first: int, offset: int) -> Iterator[Unit]:
        try:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group]):
                if first + batch.num_rows > offset:
                    yield from self._rows(batch.slice(max(offset - first, 0)), max(first, offset))
                first += batch.num_rows
        except (self._arrow.ArrowException, OSError):
            yield Unit(first, first + 1, b"", None, "damaged parquet data from here to the end of its row group")

    def _rows(self, batch: Any, first: int) -> Iterator[Unit]:
        try:
            rows: list[Any] = batch.to_pylist()
        except (ValueError, OverflowError):
            if batch.num_rows == 1:
                yield Unit(first, first + 1, b"", None, "a value cannot be read: invalid UTF-8 or out of range")
                return
            # One bad value spoils the whole conversion: find the row that has it.
            half = batch.num_rows // 2
            yield from self._rows(batch.slice(0, half), first)
            yield from self._rows(batch.slice(half), first + half)
            return
        for number, row in enumerate(rows, first):
            problem = ""
            try:
                check_tree(row)
            except BadRow as error:
                problem = error.reason
            yield Unit(number, number + 1, b"", row, problem)
