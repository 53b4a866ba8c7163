"""What there is to say of a run whose memory does not suffice, and what can be chosen. Torch-free, without Textual."""

from dataclasses import dataclass

from engine.errors import OutOfMemory
from engine.memory.suggest import resumes
from engine.runs.events import MemoryPlanned, RanOutOfMemory, Step
from engine.runs.folder import RunFolder
from minimind_tui.core.figures import size
from minimind_tui.core.history import MEMORY
from minimind_tui.core.memory import Memory, read_plan

_PHASES = {
    "start": "before its first step",
    "rehearsal": "in the dry pass before its first step",
    "training": "in training",
    "rollout": "while it made answers",
    "evaluation": "in an evaluation",
    "unknown": "its process was ended from outside",
}


@dataclass(frozen=True)
class Shortage:
    """A run that ran out of memory, or that is expected to.

    Attributes:
        name: The run's name.
        what: What happened, and when.
        detail: What the allocator said, or nothing.
        facts: Pairs of a label and a text.
        plan: What it was expected to take, with changes that help; None where it was too early to know.
        barred: Numbers of the changes that a run which has begun to learn cannot go on with.
        predicted: Whether it was not even started.
        saved: The step of its newest checkpoint; None without any.
    """

    name: str
    what: str
    detail: str
    facts: tuple[tuple[str, str], ...]
    plan: Memory | None
    barred: frozenset[int]
    predicted: bool
    saved: int | None


def predicted(error: OutOfMemory, name: str, run: RunFolder | None = None) -> Shortage:
    """Of a run that was refused.

    Args:
        error: Why.
        name: What it would be called.
        run: Its folder, where it has begun to learn earlier.
    """
    plan = read_plan(error.plan)
    steps = run.checkpoint_steps() if run is not None else []
    return Shortage(name, error.what, "", (), plan, _barred(plan, begun=bool(steps)), True, _last(steps))


def suffered(run: RunFolder, event: RanOutOfMemory) -> Shortage:
    """Of a run that ran out; it reads the run's events, so call it from a thread."""
    history, steps = run.history(), run.checkpoint_steps()
    planned = next((each for each in reversed(history) if isinstance(each, MemoryPlanned)), None)
    before = read_plan(planned.plan) if planned else None
    held = [each.metrics[MEMORY] for each in history if isinstance(each, Step) and MEMORY in each.metrics]
    facts = [("expected", before.range)] if before else []
    if planned is not None and planned.measured_bytes:
        facts.append(("measured", f"{size(planned.measured_bytes)} allocated in the dry pass"))
    if held:
        facts.append(("held", f"{size(max(held))} at most, as far as it was looked at"))
    more = before is not None and event.limit_bytes < before.limit
    facts.append(("limit", size(event.limit_bytes) + (", since more was taken than expected" if more else "")))
    if event.wanted_bytes:
        facts.append(("asked for", f"{size(event.wanted_bytes)} more"))
    when = _PHASES.get(event.phase, event.phase)
    what = f"out of memory on {event.device} {when}" + (f", step {event.step:,}" if event.step else "")
    facts.append(("saved", f"up to step {steps[-1]:,}" if steps else "nothing yet: it begins again"))
    plan = read_plan(event.plan)
    return Shortage(
        run.name, what, event.what, tuple(facts), plan, _barred(plan, begun=bool(steps)), False, _last(steps)
    )


def _barred(plan: Memory | None, *, begun: bool) -> frozenset[int]:
    if plan is None or not begun:
        return frozenset()
    return frozenset(change.number for change in plan.changes if not resumes(change.values))


def _last(steps: list[int]) -> int | None:
    return steps[-1] if steps else None
