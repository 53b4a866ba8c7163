"""Encoded samples as flat arrays, written once and memory-mapped."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.text.chat import NO_END_OF_TURN
from engine.text.encode import DOUBLE_BOS, Encoder, split_key
from engine.text.records import Quarantined, Record
from engine.text.sample import Sample
from engine.text.template import TemplateFailure
from engine.text.tokenizer import Tokenizer

_TEXT_BATCH = 256
_COLUMNS = ("rows", "lines", "keys", "hashes", "truncated", "bytes", "trained")
_TYPES = {"rows": np.int64, "lines": np.int64, "keys": np.float64, "hashes": np.uint64, "truncated": np.int32,
          "bytes": np.int64, "trained": np.int32}  # fmt: skip


@dataclass
class Part:
    """Samples of a run of records, on their way into a store."""

    ids: list[NDArray[np.int32]] = field(default_factory=list)
    weights: list[NDArray[np.float32]] = field(default_factory=list)
    columns: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in _COLUMNS})
    quarantined: list[Quarantined] = field(default_factory=list)
    usable: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """Rows by what was found: without_trained, truncated, one_string_differs, problems in words."""
    untrained: list[int] = field(default_factory=list)
    """Lines of the rows that have nothing to train on."""

    def save(self, path: Path) -> None:
        """Writes the part for another process."""
        notes = {
            "quarantined": [[entry.line, entry.reason, entry.raw.hex()] for entry in self.quarantined],
            "usable": self.usable, "counts": self.counts, "untrained": self.untrained,
        }  # fmt: skip
        arrays: dict[str, Any] = {
            "lengths": np.array([len(sample) for sample in self.ids], dtype=np.int64),
            "ids": np.concatenate(self.ids) if self.ids else np.zeros(0, np.int32),
            "weights": np.concatenate(self.weights) if self.weights else np.zeros(0, np.float32),
            "notes": np.frombuffer(json.dumps(notes).encode(), dtype=np.uint8),
            **{name: np.array(values, dtype=_TYPES[name]) for name, values in self.columns.items()},
        }
        np.savez(path, **arrays)

    @staticmethod
    def load(path: Path) -> "Part":
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as data:
            notes = json.loads(data["notes"].tobytes())
            cuts = np.cumsum(data["lengths"])[:-1]
            some = len(data["lengths"]) > 0
            return Part(
                ids=np.split(data["ids"], cuts) if some else [],
                weights=np.split(data["weights"], cuts) if some else [],
                columns={name: data[name].tolist() for name in _COLUMNS},
                quarantined=[
                    Quarantined(line, reason, bytes.fromhex(raw)) for line, reason, raw in notes["quarantined"]
                ],
                usable=notes["usable"],
                counts=Counter(notes["counts"]),
                untrained=notes["untrained"],
            )


def collect(
    records: Iterable[Record | Quarantined],
    encoder: Encoder,
    shapes: tuple[str, ...],
) -> Part:
    """Encodes records; rows that cannot be encoded are quarantined with the reason."""
    part = Part()
    byte_lengths = token_byte_lengths(encoder.tokenizer)
    waiting: list[Record] = []

    def add(record: Record, samples: list[Sample]) -> None:
        _add(part, record, samples, byte_lengths)

    def flush() -> None:
        texts = encoder.encode_texts([record.text for record in waiting], [record.row for record in waiting])
        for record, samples in zip(waiting, texts, strict=True):
            add(record, samples)
        waiting.clear()

    for record in records:
        if isinstance(record, Quarantined):
            part.quarantined.append(record)
        elif record.shape not in shapes:
            reason = f"a row of shape {record.shape}, not {' or '.join(shapes)}"
            part.quarantined.append(Quarantined(record.line, reason, b""))
        elif record.shape == "text":
            part.usable += 1
            waiting.append(record)
            if len(waiting) >= _TEXT_BATCH:
                flush()
        else:
            if waiting:
                flush()
            try:
                samples = encoder.encode(record)
            except TemplateFailure as failure:
                part.quarantined.append(Quarantined(record.line, failure.what, b""))
                continue
            part.usable += 1
            part.counts["one_string_differs"] += any(sample.one_string_differs for sample in samples)
            add(record, samples)
    if waiting:
        flush()
    return part


def _add(part: Part, record: Record, samples: list[Sample], byte_lengths: NDArray[np.int64]) -> None:
    kept = [sample for sample in samples if sample.trained]
    if not kept:
        part.counts["without_trained"] += 1
        part.untrained.append(record.line)
    part.counts["truncated"] += any(sample.truncated for sample in samples)
    part.counts["missing_end_of_turn"] += any(NO_END_OF_TURN in sample.problems for sample in samples)
    part.counts["double_bos"] += any(DOUBLE_BOS in sample.problems for sample in samples)
    for problem in {problem for sample in samples for problem in sample.problems}:
        part.counts[f"problem: {problem}"] += 1
    key = split_key(record)
    for sample in kept:
        trained = sample.loss_weights > 0
        part.ids.append(sample.input_ids)
        part.weights.append(sample.loss_weights)
        values = (
            record.row, record.line, key, _content_hash(sample.input_ids), sample.truncated,
            int(byte_lengths[sample.input_ids[trained]].sum()), int(trained.sum()),
        )  # fmt: skip
        for name, value in zip(_COLUMNS, values, strict=True):
            part.columns[name].append(value)


def _content_hash(ids: NDArray[np.int32]) -> int:
    return int.from_bytes(hashlib.blake2b(ids.tobytes(), digest_size=8).digest(), "big")


def token_byte_lengths(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """Raw bytes each token stands for, shape (vocabulary,); 0 for control tokens, which are no text."""
    control = set(tokenizer.control_tokens.values())
    lengths = [0 if token in control else len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size)]
    return np.array(lengths, dtype=np.int64)


class SampleStore:
    """The samples of a file, memory-mapped.

    Attributes:
        lengths: Tokens of each sample, shape (samples,).
        columns: Per sample: rows, lines, keys (for the split), hashes (of the ids), truncated (tokens cut), bytes (of
            trained text), trained (tokens with a weight).
        meta: Counts of the whole file, see `engine.text.audit`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        self._offsets: NDArray[np.int64] = np.load(folder / "offsets.npy")
        mode: Literal["r"] | None = "r" if self._offsets[-1] else None  # nothing can be mapped of an empty file
        self._ids = np.load(folder / "ids.npy", mmap_mode=mode)
        self._weights = np.load(folder / "weights.npy", mmap_mode=mode)
        self.columns: dict[str, NDArray[Any]] = {name: np.load(folder / f"{name}.npy") for name in _COLUMNS}
        self.lengths: NDArray[np.int64] = np.diff(self._offsets)

    def __len__(self) -> int:
        return len(self.lengths)

    def ids(self, index: int) -> NDArray[np.int64]:
        """Token ids of a sample, shape (length,)."""
        ids: NDArray[np.int64] = self._ids[self._offsets[index] : self._offsets[index + 1]].astype(np.int64)
        return ids

    def weights(self, index: int) -> NDArray[np.float32]:
        """Loss weights of a sample, shape (length,)."""
        return np.asarray(self._weights[self._offsets[index] : self._offsets[index + 1]])

    @staticmethod
    def write(folder: Path, parts: list[Part], vocab_size: int) -> None:
        """Writes the parts, in order, as one store."""
        folder.mkdir()
        kind = np.uint16 if vocab_size <= 1 << 16 else np.int32
        ids = [sample for part in parts for sample in part.ids]
        weights = [sample for part in parts for sample in part.weights]
        _save_flat(folder / "ids.npy", ids, kind)
        _save_flat(folder / "weights.npy", weights, np.float32)
        np.save(folder / "offsets.npy", np.cumsum([0, *(len(sample) for sample in ids)], dtype=np.int64))
        first_rows = np.cumsum([0, *(part.usable for part in parts)])
        for part, first in zip(parts, first_rows, strict=False):
            if len(parts) > 1:
                part.columns["rows"] = [row + int(first) for row in part.columns["rows"]]
        for name in _COLUMNS:
            np.save(
                folder / f"{name}.npy", np.array([v for part in parts for v in part.columns[name]], dtype=_TYPES[name])
            )
        counts: Counter[str] = sum((part.counts for part in parts), Counter())
        meta = {
            "usable": sum(part.usable for part in parts),
            "quarantined": [
                {"line": entry.line, "reason": entry.reason, "raw": entry.raw.hex()}
                for part in parts
                for entry in part.quarantined
            ],
            "untrained_lines": [line for part in parts for line in part.untrained],
            "counts": dict(counts),
        }
        (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


def _save_flat(path: Path, arrays: list[Any], kind: Any) -> None:
    total = sum(len(array) for array in arrays)
    if not total:
        np.save(path, np.zeros(0, kind))
        return
    flat = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=(total,))
    position = 0
    for array in arrays:
        flat[position : position + len(array)] = array
        position += len(array)
    flat.flush()
