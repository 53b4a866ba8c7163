"""Several files in one, in given proportions and shuffled."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import DataError, UserError
from engine.randomness import derive_seed
from engine.text.batching import Indices
from engine.text.records import Quarantined, Record, RecordFile, open_records
from engine.text.row_files import changed, new_files, stored_rows


@dataclass(frozen=True)
class Ingredient:
    """A file and its part of a mixture; without a weight its part is its own size."""

    path: Path
    weight: Fraction | None = None


def mix_files(
    out: Path,
    ingredients: Sequence[Ingredient],
    *,
    rows: int = 0,
    seed: int = 0,
    repeat: bool = True,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes rows of several files, shuffled; what is kept in memory is some 40 bytes a row, not the rows.

    Rows keep their bytes (those of other formats than JSON lines are written as JSON), so layouts may differ.

    Args:
        out: The new file, JSON lines.
        ingredients: The files; either all have weights, or none.
        rows: Rows of the mixture; 0: as many as the files have together.
        seed: Decides which rows of a file are taken and their order.
        repeat: Whether a file too small for its part is repeated; otherwise the mixture shrinks to what keeps the
            proportions.
        overwrite: Whether `out` may be replaced.

    Returns:
        `rows`, the `shape`, and for each file its `rows`, those `taken`, its `share` of the mixture, how many of those
        taken are `repeated`, and its `quarantined` lines.

    Raises:
        UserError: `out` is taken, or only some files have weights.
        DataError: The files are of different shapes.
    """
    weights = [ingredient.weight for ingredient in ingredients]
    if any(weight is None for weight in weights) and any(weight is not None for weight in weights):
        raise UserError("some files have a weight and some have none", hint="give FILE=WEIGHT for all or for none")
    files = [open_records(ingredient.path) for ingredient in ingredients]
    shape = _common_shape(files)
    with new_files(out, sources=[file.path for file in files], overwrite=overwrite) as (target,):
        scanned = [_scan(file, shape) for file in files]
        sizes = [len(lengths) for lengths, _ in scanned]
        if not all(sizes):
            raise DataError("there is no usable row", where=str(files[sizes.index(0)].path))
        parts = [weight or Fraction(size) for weight, size in zip(weights, sizes, strict=True)]
        shares = [part / sum(parts) for part in parts]
        total = rows or sum(sizes)
        if not repeat:
            total = min(total, *(size // share for size, share in zip(sizes, shares, strict=True)))
        counts = apportion(shares, total)
        picks = [_pick(size, count, seed, place) for place, (size, count) in enumerate(zip(sizes, counts, strict=True))]
        lengths = np.concatenate([lengths[pick] for (lengths, _), pick in zip(scanned, picks, strict=True)])
        starts = _starts(lengths, np.random.Generator(np.random.Philox(key=derive_seed(seed, "order"))))
        first = 0
        for file, (known, _), pick in zip(files, scanned, picks, strict=True):
            _write(file, shape, known, pick, starts[first : first + len(pick)], target)
            first += len(pick)
    described = [
        {"file": str(file.path), "rows": size, "taken": count, "share": count / total,
         "repeated": max(count - size, 0), "quarantined": quarantined}
        for file, size, count, (_, quarantined) in zip(files, sizes, counts, scanned, strict=True)
    ]  # fmt: skip
    return {"out": str(out), "shape": shape, "rows": total, "files": described}


def apportion(shares: Sequence[Fraction], total: int) -> list[int]:
    """Whole numbers in the proportion of `shares` (which sum to 1) that sum to `total`: largest remainders."""
    exact = [share * total for share in shares]
    counts = [int(value) for value in exact]
    remainders = sorted(range(len(exact)), key=lambda place: (counts[place] - exact[place], place))
    for place in remainders[: total - sum(counts)]:
        counts[place] += 1
    return counts


def _common_shape(files: Sequence[RecordFile]) -> str:
    if len({file.shape for file in files}) > 1:
        found = ", ".join(f"{file.path.name}: {file.shape}" for file in files)
        raise DataError(f"the files are of different shapes ({found})", hint="engine data convert makes them alike")
    return files[0].shape


def _lines(file: RecordFile, shape: str) -> Iterator[tuple[Record | Quarantined, bytes]]:
    """The stored rows; those of another shape are quarantined."""
    for item, line in stored_rows(file):
        if isinstance(item, Record) and item.shape != shape:
            yield Quarantined(item.line, f"a row of shape {item.shape}, not {shape}", b""), b""
        else:
            yield item, line


def _scan(file: RecordFile, shape: str) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
    """Bytes of each usable row's line, shape (rows,), and the lines that cannot be used."""
    lengths = array("q")
    quarantined: list[dict[str, Any]] = []
    for item, line in _lines(file, shape):
        if isinstance(item, Quarantined):
            quarantined.append({"line": item.line, "reason": item.reason})
        else:
            lengths.append(len(line))
    return np.asarray(lengths, dtype=np.int64), quarantined


def _pick(size: int, count: int, seed: int, place: int) -> Indices:
    """`count` rows of a file, in the file's order: all of them as often as they fit, the rest drawn without repeats."""
    times, rest = divmod(count, size)
    rng = np.random.Generator(np.random.Philox(key=derive_seed(seed, "mix", place)))
    drawn = rng.choice(size, rest, replace=False)
    return np.sort(np.concatenate([np.tile(np.arange(size), times), drawn])).astype(np.int64)


def _starts(lengths: NDArray[np.int64], rng: np.random.Generator) -> Indices:
    """Where each line begins in the shuffled file, shape (lines,)."""
    order = rng.permutation(len(lengths))
    starts = np.empty_like(lengths)
    starts[order] = np.cumsum(lengths[order]) - lengths[order]
    return starts


def _write(
    file: RecordFile, shape: str, lengths: NDArray[np.int64], pick: Indices, starts: Indices, target: IO[bytes]
) -> None:
    """Writes the picked rows of a file to where they belong."""
    row = place = 0
    for item, line in _lines(file, shape):
        if isinstance(item, Quarantined):
            continue
        if row == len(lengths) or len(line) != lengths[row]:
            raise changed(file.path)
        while place < len(pick) and pick[place] == row:
            target.seek(int(starts[place]))
            target.write(line)
            place += 1
        row += 1
    if row < len(lengths):
        raise changed(file.path)
