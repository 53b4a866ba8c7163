"""A memory plan as screens read it, whether the planner made it, an event tells it or an error. Without Textual."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from minimind_tui.core.figures import duration, number, size

PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "reference", "teacher", "critic",
         "rollout_cache", "runtime")  # fmt: skip
"""What memory is taken by, in the order in which it is drawn."""


@dataclass(frozen=True)
class Change:
    """A change of settings that helps.

    Attributes:
        number: Its place among all that are suggested, from 1.
        title: In words.
        values: Settings by name with their new values.
        saves, peak: Bytes that it saves, and that are allocated at the peak with it.
        fits: Whether the run then fits.
        cost: What it costs.
        keeps_batch: Whether a step still learns from as many rows.
        cut: Rows of this data that it would cut; None where that is not known.
    """

    number: int
    title: str
    values: dict[str, Any]
    saves: int
    peak: int
    fits: bool
    cost: str
    keeps_batch: bool
    cut: int | None

    def consequences(self, *, short: bool = False) -> str:
        """What comes with it: its cost, the effective batch, rows that are cut; `short`: only what is no matter of
        course.
        """
        said = [self.cost]
        if not self.keeps_batch:
            said.append("another effective batch")
        elif not short:
            said.append("the effective batch stays")
        if self.cut:
            said.append(f"cuts {self.cut:,} row{'s' if self.cut != 1 else ''} of this data")
        elif self.cut is None and not short:
            said.append("how many rows of this data it cuts is not known")
        return " · ".join(part for part in said if part)


@dataclass(frozen=True)
class Memory:
    """What a run is expected to take; sizes in bytes, see `engine.memory.plan.MemoryPlan`.

    Attributes:
        parts: What is allocated at the peak, by name; they add up to `peak`.
        tight: Whether memory is given out closely, which is slower.
    """

    device: str
    limit: int
    peak: int
    low: int
    high: int
    parts: tuple[tuple[str, int], ...]
    tight: bool
    method: str
    phase: str
    verified: bool = False
    changes: tuple[Change, ...] = ()
    largest_batch: int = 0
    longest: int = 0
    notes: tuple[str, ...] = ()
    time: dict[str, Any] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Whether the most that is expected stays within the limit."""
        return self.high <= self.limit

    @property
    def verdict(self) -> str:
        """Whether it fits, and by how much."""
        if self.fits:
            return f"fits, {size(self.limit - self.high)} to spare"
        return f"does not fit, {size(self.high - self.limit)} too much"

    @property
    def range(self) -> str:
        """What the process is expected to hold, of what there is."""
        low, high = size(self.low), size(self.high)
        same = low.partition(" ")[2] == high.partition(" ")[2]
        return f"{low.partition(' ')[0] if same else low} to {high} of {size(self.limit)}"

    @property
    def room(self) -> str:
        """How far the run could grow with all else as it is; empty while that is not looked for."""
        if not self.largest_batch:
            return ""
        return f"up to batch_size {self.largest_batch:,} or max_seq_len {self.longest:,}"

    @property
    def pace(self) -> str:
        """How long the run would take by what earlier ones took; empty where nothing is known."""
        if not self.time.get("tokens_per_second"):
            return ""
        speed = f"{number(self.time['tokens_per_second'])} tokens/s by {self.time['source']}"
        if not self.time.get("seconds"):
            return speed
        least, most = map(duration, self.time["seconds_range"])
        return f"about {duration(self.time['seconds'])} ({least} to {most}): {speed}"


def read_plan(raw: Mapping[str, Any]) -> Memory | None:
    """A plan as `engine plan --json` prints it; None where it is empty or damaged."""
    try:
        parts = {name: int(raw["breakdown"].get(name, 0)) for name in PARTS}
        return Memory(
            device=str(raw["device"]),
            limit=int(raw["limit_bytes"]),
            peak=int(raw["peak_bytes"]),
            low=int(raw["low_bytes"]),
            high=int(raw["high_bytes"]),
            parts=tuple((name, count) for name, count in parts.items() if count > 0),
            tight=raw.get("allocator") == "tight",
            method=str(raw["method"]),
            phase=str(raw["phase"]),
            verified=bool(raw.get("verified")),
            changes=tuple(_change(place, each) for place, each in enumerate(raw.get("suggestions", []), start=1)),
            largest_batch=int(raw.get("max_batch_size", 0)),
            longest=int(raw.get("longest_seq_len", 0)),
            notes=tuple(map(str, raw.get("notes", ()))),
            time=dict(raw.get("time", {})),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _change(place: int, raw: Mapping[str, Any]) -> Change:
    cut = raw.get("truncated_rows")
    return Change(
        number=place,
        title=str(raw["title"]),
        values=dict(raw["changes"]),
        saves=int(raw["saves_bytes"]),
        peak=int(raw["peak_bytes"]),
        fits=bool(raw["fits"]),
        cost=str(raw["cost"]),
        keeps_batch=bool(raw["keeps_effective_batch"]),
        cut=None if cut is None else int(cut),
    )
