"""Want of memory in words: the error behind it recognised, the error that a run ends with, and what can be done."""

from collections.abc import Mapping
from typing import Any

from engine.clean import clean
from engine.errors import DoesNotFit, OutOfMemory
from engine.exhaustion import Exhausted, exhausted
from engine.figures import size
from engine.memory.limits import process_limits
from engine.memory.suggest import resumes
from engine.runs.events import RanOutOfMemory
from engine.runs.folder import RunFolder

_NOTHING = 32 << 20
"""With less than this left an error of a library is taken for want of memory."""


def unplanned(found: Exhausted, phase: str, step: int) -> RanOutOfMemory:
    """What happened where it was too early to know the run's memory, and so without suggestions."""
    return RanOutOfMemory(
        step=step, phase=phase, what=found.text, device=found.device, wanted_bytes=found.wanted_bytes,
        limit_bytes=process_limits().limit, plan={},
    )  # fmt: skip


def out_of_memory(run: RunFolder, event: RanOutOfMemory) -> OutOfMemory:
    """The error that a run ends with."""
    wanted = f" (it asked for {size(event.wanted_bytes)})" if event.wanted_bytes else ""
    return OutOfMemory(
        f"out of memory in {event.phase}, step {event.step}: {event.what}{wanted}",
        where=f"run {run.name}",
        hint=remedies(event.plan, run, otherwise=""),
        plan=event.plan,
        run=run.name,
    )


def exhaustion(error: BaseException) -> Exhausted | None:
    """What ran out, also where a run ended itself before it did."""
    if isinstance(error, DoesNotFit):
        return None
    if isinstance(error, OutOfMemory):
        return Exhausted("cpu", None, error.what)
    found = exhausted(error)
    if found is None and isinstance(error, SystemError | RuntimeError) and process_limits().left < _NOTHING:
        # libraries that are refused memory say all kinds of things
        return Exhausted("cpu", None, clean(str(error).splitlines()[0] if str(error) else "", newlines=False))
    return found


def remedies(plan: Mapping[str, Any], run: RunFolder | None, *, otherwise: str) -> str:
    """The suggestions for people, by the numbers that `--apply` takes, and which of them to take.

    Args:
        plan: Has them.
        run: Can go on with one; None where there is no run yet.
        otherwise: What else can be done.
    """
    begun, lines, first = run is not None and bool(run.checkpoint_steps()), [], 0
    for number, each in enumerate(plan.get("suggestions", []), start=1):
        goes_on = not begun or resumes(each["changes"])
        first = first or (number if each["fits"] and goes_on else 0)
        said = "" if each["fits"] else "not enough; "
        said += "" if goes_on else "in a new run; "
        title = each["title"] if run else "--set " + each["title"].replace(" ", " --set ")
        lines.append(f"{number}. {title}: {size(each['peak_bytes'])} at the peak ({said}{each['cost']})")
    if run and first:
        lines.append(f"engine resume {run.name} --apply {first} goes on with it")
    elif lines and not first:
        lines.append("none of these is enough, or only in a new run: a smaller model, or a larger machine")
    return "\n    ".join([*lines, *([otherwise] if otherwise else [])])
