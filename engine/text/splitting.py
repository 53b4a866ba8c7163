"""One file in two: rows to train on and rows held out."""

from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from engine.errors import DataError, UserError
from engine.randomness import derive_seed
from engine.text.batching import split_rows
from engine.text.fingerprints import split_key
from engine.text.records import Quarantined, Record, open_records
from engine.text.row_files import changed, new_files, stored_rows


def split_file(
    path: Path,
    folder: Path,
    *,
    fraction: float = 0.1,
    seed: int = 0,
    by: Literal["prompt", "row"] = "prompt",
    mapping: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes `NAME.train.jsonl` and `NAME.val.jsonl`; rows keep their order and, in JSON lines files, their bytes.

    Args:
        path: The file.
        folder: Where the two go.
        fraction: Share held out, between 0 and 1.
        seed: Another seed holds out other rows; with 0 and by prompt, those that a training run with this
            `val_fraction` holds out.
        by: `prompt`: rows with equal prompts stay on one side. `row`: every row by itself.
        mapping: Our field names → the file's columns.
        overwrite: Whether the two may be replaced.

    Returns:
        The two files with their rows, how many prompts stand on both sides, and the `quarantined` lines.

    Raises:
        UserError: A file is there already, or the fraction is none.
        DataError: One side would be empty.
    """
    if not 0 < fraction < 1:
        raise UserError(f"the fraction is {fraction:g}", hint="give a number between 0 and 1")
    file = open_records(path, mapping=mapping)
    name = path.name.removesuffix(".gz").removesuffix(Path(path.name.removesuffix(".gz")).suffix)
    outputs = [folder / f"{name}.{side}.jsonl" for side in ("train", "val")]
    with new_files(*outputs, sources=[path], overwrite=overwrite) as targets:
        prompts, keys = array("d"), array("d")
        quarantined: list[dict[str, Any]] = []
        for item, _ in stored_rows(file):
            if isinstance(item, Quarantined):
                quarantined.append({"line": item.line, "reason": item.reason})
                continue
            prompts.append(split_key(item))
            keys.append(_key(prompts[-1], len(keys), seed, by))
        train, val = split_rows(np.asarray(keys), fraction)
        if not len(val):
            hint = "--by row splits rows of one prompt, too" if by == "prompt" and len(keys) > 1 else ""
            raise DataError(f"one side of the split would be empty: {len(keys)} rows", where=str(path), hint=hint)
        held_out = np.zeros(len(keys), dtype=bool)
        held_out[val] = True
        row = 0
        for item, line in stored_rows(file):
            if isinstance(item, Record):
                if row == len(keys):
                    raise changed(path)
                targets[int(held_out[row])].write(line)
                row += 1
        if row < len(keys):
            raise changed(path)
    known = np.asarray(prompts)
    return {
        "file": str(path), "train": str(outputs[0]), "val": str(outputs[1]), "rows": len(keys),
        "train_rows": len(train), "val_rows": len(val),
        "prompts_on_both_sides": len(np.intersect1d(known[train], known[val])), "quarantined": quarantined,
    }  # fmt: skip


def _key(prompt: float, row: int, seed: int, by: str) -> float:
    """The number in [0, 1) by which a row is split."""
    if by == "prompt" and seed == 0:
        return prompt
    return derive_seed(seed, "split", prompt if by == "prompt" else row) / 2**63
