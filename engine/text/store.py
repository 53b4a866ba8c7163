"""Encoded samples as flat arrays, written once and memory-mapped."""

import json
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError
from engine.text.cutting import NO_END_OF_TURN
from engine.text.encode import DOUBLE_BOS, Encoder
from engine.text.fingerprints import content_hash, split_key
from engine.text.records import Quarantined, Record
from engine.text.sample import Sample
from engine.text.tokenizer import Tokenizer

_TEXT_BATCH = 256
_PART_TOKENS = 1 << 22
"""A part is passed on when it holds this many tokens: a large file is never in memory as a whole."""

_COLUMNS = {
    "lengths": "q", "rows": "q", "lines": "q", "keys": "d", "hashes": "Q", "truncated": "i", "bytes": "q",
    "trained": "i",
}  # fmt: skip
"""What is kept of each sample, with its type."""


@dataclass
class Part:
    """Samples of a run of records, on their way into a store: eight bytes a token, some sixty a sample."""

    ids: "array[int]" = field(default_factory=lambda: array("i"))
    weights: "array[float]" = field(default_factory=lambda: array("f"))
    columns: "dict[str, array[Any]]" = field(
        default_factory=lambda: {name: array(code) for name, code in _COLUMNS.items()}
    )
    quarantined: list[Quarantined] = field(default_factory=list)
    parsed: int = 0
    """Rows that were read, whether or not they could be encoded: what rows are numbered by."""
    usable: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """Rows by what was found: without_trained, truncated, one_string_differs, problems in words."""
    untrained: list[int] = field(default_factory=list)
    """Lines of the rows that have nothing to train on."""

    def add(
        self, record: Record, samples: list[Sample], byte_lengths: NDArray[np.int64], *, asks: bool = False
    ) -> None:
        """Takes the samples of a row; those with nothing to train on are counted and dropped.

        Of a pair both sides are kept, one after the other, or neither. Where the row only `asks`, nothing is trained.
        """
        self.usable += 1
        kept = [sample for sample in samples if sample.trained or asks]
        if record.shape == "pair" and (len(kept) < 2 or np.array_equal(kept[0].input_ids, kept[1].input_ids)):
            self.counts["same_sides"] += len(kept) == 2
            kept = []
        if not kept:
            self.counts["without_trained"] += 1
            self.untrained.append(record.line)
        problems = {problem for sample in samples for problem in sample.problems}
        self.counts.update(
            truncated=int(any(sample.truncated for sample in samples)),
            one_string_differs=int(any(sample.one_string_differs for sample in samples)),
            missing_end_of_turn=int(NO_END_OF_TURN in problems),
            double_bos=int(DOUBLE_BOS in problems),
            **{f"problem: {problem}": 1 for problem in problems},
        )
        key, content = split_key(record), content_hash(record)
        for sample in kept:
            trained = sample.loss_weights > 0
            text_bytes = int(byte_lengths[sample.input_ids[trained]].sum())
            values = (
                len(sample), record.row, record.line, key, content, sample.truncated, text_bytes, int(trained.sum())
            )  # fmt: skip
            self.ids.frombytes(sample.input_ids.tobytes())
            self.weights.frombytes(sample.loss_weights.tobytes())
            for column, value in zip(self.columns.values(), values, strict=True):
                column.append(value)

    def shift_rows(self, first: int) -> None:
        """Numbers the rows from `first` on, in a part whose rows were counted from its own beginning."""
        self.columns["rows"] = array("q", (np.asarray(self.columns["rows"]) + first).tobytes())

    def save(self, path: Path) -> None:
        """Writes the part for another process."""
        notes = {
            "quarantined": [[entry.line, entry.reason, entry.raw.hex()] for entry in self.quarantined],
            "parsed": self.parsed, "usable": self.usable, "counts": self.counts, "untrained": self.untrained,
        }  # fmt: skip
        arrays: dict[str, Any] = {
            "ids": np.asarray(self.ids),
            "weights": np.asarray(self.weights),
            "notes": np.frombuffer(json.dumps(notes).encode(), dtype=np.uint8),
            **{name: np.asarray(column) for name, column in self.columns.items()},
        }
        np.savez(path, **arrays)

    @staticmethod
    def load(path: Path) -> "Part":
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as data:
            notes = json.loads(data["notes"].tobytes())
            return Part(
                ids=array("i", data["ids"].tobytes()),
                weights=array("f", data["weights"].tobytes()),
                columns={name: array(code, data[name].tobytes()) for name, code in _COLUMNS.items()},
                quarantined=[
                    Quarantined(line, reason, bytes.fromhex(raw)) for line, reason, raw in notes["quarantined"]
                ],
                parsed=notes["parsed"],
                usable=notes["usable"],
                counts=Counter(notes["counts"]),
                untrained=notes["untrained"],
            )


def collect(
    records: Iterable[Record | Quarantined], encoder: Encoder, shapes: tuple[str, ...], part_tokens: int = _PART_TOKENS
) -> Iterator[Part]:
    """Encodes records, in parts; a row that cannot be encoded, for whatever reason, is quarantined with the reason.

    Raises:
        DataError: There are conversations, and the tokenizer has no chat template.
    """
    part, waiting = Part(), list[Record]()
    byte_lengths = token_byte_lengths(encoder.tokenizer)
    asks = encoder.settings.train_on == "prompt"

    def add(record: Record) -> None:
        try:
            samples = encoder.encode(record)
        except MemoryError:
            raise
        except Exception as error:  # rows come from anywhere: none of them may end the run
            reason = error.what if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
            part.quarantined.append(Quarantined(record.line, f"cannot be encoded: {reason}"[:500], b""))
        else:
            part.add(record, samples, byte_lengths, asks=asks or record.shape == "prompt")

    def flush() -> None:
        if not waiting:
            return
        try:
            texts = encoder.encode_texts([record.text for record in waiting], [record.row for record in waiting])
        except MemoryError:
            raise
        except Exception:  # one of them is bad: find it
            for record in waiting:
                add(record)
        else:
            for record, samples in zip(waiting, texts, strict=True):
                part.add(record, samples, byte_lengths)
        waiting.clear()

    for record in records:
        if isinstance(record, Quarantined):
            part.quarantined.append(record)
            continue
        part.parsed += 1
        if record.shape not in shapes:
            reason = f"a row of shape {record.shape}, not {' or '.join(shapes)}"
            part.quarantined.append(Quarantined(record.line, reason, b""))
        elif record.shape == "text":
            waiting.append(record)
        else:
            flush()  # samples keep the order of the file
            _ = encoder.renderer  # without a chat template no row can be encoded
            add(record)
        if len(waiting) >= _TEXT_BATCH or len(part.ids) >= part_tokens:
            flush()
        if len(part.ids) >= part_tokens:
            yield part
            part = Part()
    flush()
    yield part


def token_byte_lengths(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """Raw bytes each token stands for, shape (vocabulary,); 0 for control tokens, which are no text."""
    control = set(tokenizer.control_tokens.values())
    lengths = [0 if token in control else len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size)]
    return np.array(lengths, dtype=np.int64)


class SampleStore:
    """The samples of a file, memory-mapped.

    Attributes:
        lengths: Tokens of each sample, shape (samples,).
        columns: Per sample: lengths, rows, lines, keys (for the split), hashes (of the row's content), truncated
            (tokens cut), bytes (of trained text), trained (tokens with a weight).
        meta: Counts of the whole file, see `engine.text.audit`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        self.columns: dict[str, NDArray[Any]] = {
            name: np.fromfile(folder / name, dtype=code) for name, code in _COLUMNS.items()
        }
        self.lengths: NDArray[np.int64] = self.columns["lengths"]
        self._offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths)])
        total = int(self._offsets[-1])
        self._ids, self._weights = (
            # Nothing can be mapped of an empty file.
            np.memmap(folder / name, dtype=code, mode="r", shape=(total,)) if total else np.zeros(0, code)
            for name, code in (("ids", self.meta["id_type"]), ("weights", "f"))
        )

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
    def write(folder: Path, parts: Iterable[Part], vocab_size: int) -> None:
        """Writes the parts, in order, as one store; each is needed only while it is written."""
        folder.mkdir()
        id_type = "H" if vocab_size <= 1 << 16 else "i"
        counts: Counter[str] = Counter()
        quarantined: list[Quarantined] = []
        untrained: list[int] = []
        usable = 0
        files = {name: (folder / name).open("wb") for name in ("ids", "weights", *_COLUMNS)}
        try:
            for part in parts:
                files["ids"].write(np.asarray(part.ids).astype(id_type).tobytes())
                files["weights"].write(part.weights)
                for name, column in part.columns.items():
                    files[name].write(column)
                counts.update(part.counts)
                quarantined += part.quarantined
                untrained += part.untrained
                usable += part.usable
            for file in files.values():
                file.flush()
                os.fsync(file.fileno())
        finally:
            for file in files.values():
                file.close()
        meta = {
            "id_type": id_type,
            "usable": usable,
            "quarantined": [
                {"line": entry.line, "reason": entry.reason, "raw": entry.raw.hex()}
                for entry in sorted(quarantined, key=lambda entry: entry.line)
            ],
            "untrained_lines": untrained,
            "counts": {name: count for name, count in sorted(counts.items()) if count},
        }
        with (folder / "meta.json").open("wb") as file:
            file.write(json.dumps(meta).encode())
            file.flush()
            os.fsync(file.fileno())
