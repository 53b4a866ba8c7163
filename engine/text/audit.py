"""What a file turns out to be, before anything is trained on it."""

from typing import Any

import numpy as np

from engine.errors import DataError
from engine.text.batching import pack, split_rows
from engine.text.store import SampleStore

_BINS = 24


def audit(store: SampleStore, *, max_seq_len: int, val_fraction: float, vocab_size: int) -> dict[str, Any]:
    """Counts everything that a person should know of a file before training on it.

    `padding_share` is what padding every sample to `max_seq_len` would waste (MiniMind's way), `packed_padding_share`
    what packed rows leave empty, `bucketed_padding_share` what padding to the longest of 32 neighbours by length would.

    Returns:
        Counts by name; shares are of 1.
    """
    lengths, columns, counts = store.lengths, store.columns, store.meta["counts"]
    tokens, trained = int(lengths.sum()), int(columns["trained"].sum())
    slots = len(lengths) * max_seq_len
    train, held_out = split_rows(columns["keys"], val_fraction)
    packed = pack(lengths, np.arange(len(lengths)), max_seq_len) if len(lengths) else []
    _, first_samples = np.unique(columns["rows"], return_index=True)
    _, repeats = np.unique(columns["hashes"][first_samples], return_counts=True)
    crossing = np.intersect1d(columns["hashes"][train], columns["hashes"][held_out])
    problems = {name.removeprefix("problem: "): n for name, n in counts.items() if name.startswith("problem: ")}
    quarantined = [{"line": entry["line"], "reason": entry["reason"]} for entry in store.meta["quarantined"]]
    return {
        "rows": store.meta["usable"] + len(quarantined),
        "usable": store.meta["usable"],
        "quarantined": quarantined,
        "samples": len(lengths),
        "tokens": tokens,
        "trained_tokens": trained,
        "trained_share": trained / tokens if tokens else 0.0,
        "trained_bytes": int(columns["bytes"].sum()),
        "rows_without_trained_tokens": counts.get("without_trained", 0),
        "lines_without_trained_tokens": store.meta["untrained_lines"],
        "truncated_rows": counts.get("truncated", 0),
        "truncated_tokens": int(columns["truncated"].sum()),
        "one_string_differs": counts.get("one_string_differs", 0),
        "same_sides": counts.get("same_sides", 0),
        "missing_end_of_turn": counts.get("missing_end_of_turn", 0),
        "double_bos": counts.get("double_bos", 0),
        "duplicates": int((repeats - 1).sum()),
        "duplicates_across_split": len(crossing),
        "problems": problems,
        "train_samples": len(train),
        "val_samples": len(held_out),
        "max_seq_len": max_seq_len,
        "longest": int(lengths.max()) if len(lengths) else 0,
        "mean_length": tokens / len(lengths) if len(lengths) else 0.0,
        "length_histogram": _histogram(lengths),
        "padding_share": 1 - tokens / slots if slots else 0.0,
        "packed_padding_share": 1 - tokens / (len(packed) * max_seq_len) if packed else 0.0,
        "bucketed_padding_share": _bucketed(lengths),
        "vocab_size": vocab_size,
    }


def refuse_if_useless(result: dict[str, Any], where: str, *, asks: bool = False) -> None:
    """Stops a run that would train on nothing; one that only `asks` trains what the model says.

    Raises:
        DataError: Not one token is trained, or not one prompt is left; says what was found.
    """
    if (asks or result["trained_tokens"]) and result["train_samples"]:
        return
    found = [
        f"{result['usable']} usable rows",
        f"{result['rows_without_trained_tokens']} without a trained token",
        f"{len(result['quarantined'])} quarantined",
        *result["problems"],
    ]
    raise DataError(
        f"there is nothing to train on: {', '.join(found)}",
        where=where,
        hint="engine data inspect FILE --row 0 shows every token with its weight",
    )


def _histogram(lengths: np.ndarray[Any, np.dtype[np.int64]]) -> list[dict[str, int]]:
    if not len(lengths):
        return []
    first, last = int(lengths.min()), int(lengths.max())
    width = -(-(last - first + 1) // _BINS)
    counts = np.bincount((lengths - first) // width)
    starts = range(first, last + 1, width)
    return [
        {"from": start, "to": min(start + width - 1, last), "samples": int(count)}
        for start, count in zip(starts, counts, strict=True)
    ]


def _bucketed(lengths: np.ndarray[Any, np.dtype[np.int64]], rows: int = 32) -> float:
    if not len(lengths):
        return 0.0
    ordered = np.sort(lengths)
    slots = sum(int(ordered[start : start + rows].max()) * len(ordered[start : start + rows])
                for start in range(0, len(ordered), rows))  # fmt: skip
    return 1 - int(lengths.sum()) / slots
