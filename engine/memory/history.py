"""What runs were expected to take and what they took: how far plans are off on this machine. Torch-free."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from statistics import median
from typing import Any

from engine.allocator import can_be_tight
from engine.files import write_whole
from engine.memory.planning import CARD_MARGIN, Margin
from engine.settings.places import runs_folder

RECORD = "memory.json"
"""In a run's folder."""
_ENOUGH = 5
"""Runs from which a margin is learnt."""
_CAUTION = 1.15
_ALIKE = 1.5
"""How much larger or smaller a model may be for its speed to say something."""


@dataclass(frozen=True)
class Record:
    """A run's memory.

    Attributes:
        run: Its name.
        stage: Its stage.
        device: `cpu`, `cuda` or `mps`.
        parameters: Of what it trains, frozen parts included.
        predicted_bytes: The allocated peak in closed form.
        measured_bytes: The allocated peak of the largest micro-batch, measured before the first step; None where it
            could not be measured.
        phase: Where the planned peak lies; only an `update` is measured.
        allocator: How memory was given out, `fast` or `tight`.
        low_bytes, high_bytes: The range that the process was expected to stay in.
        resident_bytes: What it held at most; None while it runs.
        program_bytes: What it held before its model was made.
        tokens_per_second: Over the whole run; None while it runs.
        finished: Whether the run is done.
        kills: The kernel's counts when the run began, see `engine.memory.kills`.
    """

    run: str
    stage: str
    device: str
    parameters: int
    predicted_bytes: int
    measured_bytes: int | None
    phase: str
    allocator: str
    low_bytes: int
    high_bytes: int
    resident_bytes: int | None
    program_bytes: int
    tokens_per_second: float | None = None
    finished: bool = False
    kills: dict[str, Any] = field(default_factory=dict)

    @property
    def error(self) -> float | None:
        """How far the closed form was off, as a share of what was measured."""
        compared = self.measured_bytes if self.phase == "update" else None
        return self.predicted_bytes / compared - 1 if compared else None

    @property
    def within(self) -> bool | None:
        """Whether the process stayed in the stated range."""
        return None if self.resident_bytes is None else self.low_bytes <= self.resident_bytes <= self.high_bytes


def write_record(folder: Path, record: Record) -> None:
    """Keeps a run's record in its folder."""
    write_whole(folder / RECORD, json.dumps(asdict(record), indent=1) + "\n")


def records() -> Iterator[Record]:
    """Of all runs that have one; what cannot be read is passed over."""
    known = {entry.name for entry in fields(Record)}
    for path in sorted(runs_folder().glob(f"*/{RECORD}")):
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            yield Record(**{name: value for name, value in raw.items() if name in known})
        except (OSError, ValueError, TypeError, AttributeError):
            continue


def learned_margin(device: str) -> Margin:
    """What a process takes beside what is allocated on such a device, as far as runs have told."""
    default = (Margin() if can_be_tight() else Margin(tight=None)) if device == "cpu" else CARD_MARGIN
    found = [
        (each, max(each.measured_bytes, each.low_bytes - each.program_bytes))  # a rollout's peak is only planned
        for each in records()
        if each.device == device and each.finished and each.measured_bytes and each.resident_bytes is not None
        if each.phase != "evaluation"  # a bound, which may lie far above what was taken
    ]

    def times(allocator: str, otherwise: float) -> float:
        """The most that was seen, never below the peak itself; small runs say nothing of large ones."""
        seen = [
            ((each.resident_bytes or 0) - each.program_bytes - default.least) / peak
            for each, peak in found
            if each.allocator == allocator and peak >= default.least
        ]
        return max(1.0, _CAUTION * max(seen)) if len(seen) >= _ENOUGH else otherwise

    return replace(
        default,
        program=int(median(each.program_bytes for each, _ in found)) if len(found) >= _ENOUGH else default.program,
        fast=times("fast", default.fast),
        tight=None if default.tight is None else times("tight", default.tight),
        learned=len(found) if len(found) >= _ENOUGH else 0,
    )


def speeds(stage: str, device: str, parameters: int) -> list[float]:
    """Tokens a second of finished runs of the stage with models of like size."""
    return [
        each.tokens_per_second
        for each in records()
        if each.finished and each.tokens_per_second and (each.stage, each.device) == (stage, device)
        if 1 / _ALIKE <= each.parameters / max(parameters, 1) <= _ALIKE
    ]


def as_json(record: Record) -> dict[str, Any]:
    """A record with what follows from it."""
    return asdict(record) | {"error": record.error, "within": record.within}
