"""What a run says: typed, versioned events, one JSON line each in `events.jsonl`, the only way out of a run.

`docs/events.md` is the table of these types, made by `event_table()`.
"""

import json
import math
import time
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, ClassVar

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Event:
    """Anything a run says. `time` is seconds since 1970."""

    type: ClassVar[str]
    time: float = field(default_factory=time.time)


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """The run begins: its stage, its planned length and what it runs on."""

    type = "run_started"
    stage: str
    total_steps: int
    parameters: int
    trainable_parameters: int
    device: str
    dtype: str
    threads: int


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """Work before the first step goes on: what is being done, and how much of it is done (0 to 1)."""

    type = "progress"
    what: str
    done: float


@dataclass(frozen=True, kw_only=True)
class Audited(Event):
    """What the data turned out to be, before training."""

    type = "audited"
    audit: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Step(Event):
    """One optimizer step, reported every `log_interval` steps; `metrics` holds the numbers of the stage's registry."""

    type = "step"
    step: int
    epoch: float
    tokens: int
    """Tokens read since the run began (weight or not)."""
    metrics: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Evaluated(Event):
    """Validation numbers at a step."""

    type = "evaluated"
    step: int
    metrics: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Sampled(Event):
    """What the model said to a fixed prompt at a step."""

    type = "sampled"
    step: int
    prompt: str
    text: str
    stop_reason: str


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved(Event):
    """A checkpoint is whole on disk."""

    type = "checkpoint_saved"
    step: int
    path: str
    best: bool
    seconds: float


@dataclass(frozen=True, kw_only=True)
class NonFiniteStep(Event):
    """A step was left out because its loss or gradient was not finite; `rows` are the rows of the data in it."""

    type = "non_finite_step"
    step: int
    """The step's number, as its `step` event has it."""
    what: str
    rows: list[int]


@dataclass(frozen=True, kw_only=True)
class Warned(Event):
    """Something is off; `name` is stable, for programs."""

    type = "warned"
    name: str
    message: str
    step: int = 0


@dataclass(frozen=True, kw_only=True)
class MemoryPlanned(Event):
    """What the run is expected to take, before its first step: `plan` as `engine plan --json` prints it."""

    type = "memory_planned"
    plan: dict[str, Any]
    measured_bytes: int | None = None
    """The allocated peak of the largest micro-batch, measured; None where it could not be."""


@dataclass(frozen=True, kw_only=True)
class RanOutOfMemory(Event):
    """There was no memory left: when, for what, and which changes would fit, the best first.

    `phase` is `start` (before the first step: reading, loading), `rehearsal` (the first, dry pass), `training`,
    `rollout`, `evaluation`, or `unknown` where the process was ended from outside.
    """

    type = "ran_out_of_memory"
    step: int
    phase: str
    what: str
    """What the allocator said, or how the end was recognised."""
    device: str
    wanted_bytes: int | None
    limit_bytes: int
    plan: dict[str, Any]
    """As `engine plan --json`, with the suggestions that `engine resume --apply` takes by number."""


@dataclass(frozen=True, kw_only=True)
class Adjusted(Event):
    """Settings were changed so that the run fits; they hold from here on."""

    type = "adjusted"
    step: int
    changes: dict[str, Any]
    reason: str


@dataclass(frozen=True, kw_only=True)
class ControlAcknowledged(Event):
    """A control command was read and is being followed."""

    type = "control_acknowledged"
    id: str
    command: str
    step: int


@dataclass(frozen=True, kw_only=True)
class Resumed(Event):
    """The run goes on from a checkpoint (0: from the beginning); readers drop what was said after that was saved."""

    type = "resumed"
    from_step: int


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """The run ended: `done`, `stopped` (asked to, saved), or `failed` (with the reason)."""

    type = "finished"
    status: str
    step: int
    summary: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    exit_code: int = 0


EVENTS: dict[str, type[Event]] = {
    kind.type: kind
    for kind in (
        RunStarted, Progress, Audited, MemoryPlanned, Step, Evaluated, Sampled, CheckpointSaved, NonFiniteStep, Warned,
        RanOutOfMemory, Adjusted, ControlAcknowledged, Resumed, Finished,
    )
}  # fmt: skip


def to_line(event: Event) -> str:
    """One line of JSON, no newline. Non-finite numbers become the texts `NaN`, `Infinity`, `-Infinity`."""
    payload = {"v": VERSION, "type": event.type, **asdict(event)}
    return json.dumps(to_json_value(payload), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def from_line(line: str | bytes) -> Event | None:
    """The event of a line; None for a torn line, and for types and versions that this program does not know."""
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(raw, dict) or raw.pop("v", None) != VERSION:
        return None
    kind = EVENTS.get(str(raw.pop("type", "")))
    if kind is None:
        return None
    known = {entry.name for entry in fields(kind)}
    try:
        return kind(**{name: _number(value) for name, value in raw.items() if name in known})
    except TypeError:
        return None


def to_json_value(value: Any) -> Any:
    """The value with non-finite numbers as texts, which plain JSON can hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: to_json_value(inner) for key, inner in value.items()}
    return [to_json_value(inner) for inner in value] if isinstance(value, list | tuple) else value


def _number(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: float(inner) if inner in ("NaN", "Infinity", "-Infinity") else inner for key, inner in value.items()
        }
    return value


def event_table() -> str:
    """The documentation of all event types as a Markdown table."""
    rows = ["| type | what it says | fields |", "| --- | --- | --- |"]
    for name, kind in EVENTS.items():
        names = [
            f"`{entry.name}`: {_type(entry.type)}" + ("" if entry.default is MISSING else f" = {entry.default!r}")
            for entry in fields(kind)
            if entry.name != "time"
        ]
        rows.append(f"| `{name}` | {' '.join((kind.__doc__ or '').split())} | {', '.join(names)} |")
    return "\n".join(rows) + "\n"


def _type(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
