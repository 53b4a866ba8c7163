"""Whether a run fits, by how much, and how far it could grow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from engine.memory.estimate import Step, peak
from engine.memory.plan import Breakdown, MemoryPlan
from engine.memory.steps import Facts, steps_of
from engine.memory.suggest import suggest
from engine.settings.profile import Settings

_MIB, _GIB = 1 << 20, 1 << 30
PROGRAM_BYTES = 320 * _MIB
"""What a process holds with torch loaded and nothing done; measured on Linux, torch 2.13 for CPUs."""
_CLOSER = 0.9
"""How far below the plan the limit is taken to lie where a run that was to fit ran out."""
_LARGEST_BATCH, _SHORTEST, _LONGEST = 1 << 16, 4, 1 << 20


@dataclass(frozen=True)
class Margin:
    """What a process takes beside what torch allocates.

    Attributes:
        program: Resident before the run: the program and its libraries.
        least: Bytes on top at most, whatever the peak.
        fast: Times the allocated peak at most, as memory is usually given out.
        tight: The same where it is given out closely, see `engine.allocator`; None where that cannot be.
        checkpointing: What comes on top then with gradient checkpointing, in blocks too small to be mapped; at most as
            much as is allocated.
        learned: From how many runs on this device this was learnt.
    """

    program: int = PROGRAM_BYTES
    least: int = 160 * _MIB
    fast: float = 3.5
    tight: float | None = 1.25
    checkpointing: int = 128 * _MIB
    learned: int = 0

    def range(self, peak_bytes: int, *, tight: bool, checkpointing: bool = False) -> tuple[int, int]:
        """The least and the most that the process will hold."""
        closely = tight and self.tight is not None
        times = self.tight if closely and self.tight else self.fast
        least = self.least + (min(self.checkpointing, peak_bytes) if closely and checkpointing else 0)
        return self.program + peak_bytes, self.program + least + int(times * peak_bytes)

    def choose(self, peak_bytes: int, limit_bytes: int, *, checkpointing: bool) -> tuple[bool, int, int]:
        """Whether memory is to be given out closely, and the range then: where it would not fit otherwise.

        Args:
            peak_bytes: What is allocated at most.
            limit_bytes: What there is.
            checkpointing: Gradient checkpointing, for which it is in any case: it saves nothing else.
        """
        chosen = self.tight is not None and (checkpointing or self.range(peak_bytes, tight=False)[1] > limit_bytes)
        return chosen, *self.range(peak_bytes, tight=chosen, checkpointing=checkpointing)


CARD_MARGIN = Margin(program=0, least=700 * _MIB, fast=1.08, tight=None)
"""Of a card: its context, the libraries' workspaces and fragmentation. No run here has checked it."""


def make_plan(
    settings: Settings,
    facts: Facts,
    *,
    device: str,
    limit_bytes: int,
    margin: Margin,
    found: tuple[Breakdown, str] | None = None,
    method: str = "formula",
    exact: bool = True,
    suggestions: bool = True,
) -> MemoryPlan:
    """What a run is expected to take.

    Args:
        settings: The run's; `dtype` is decided.
        facts: What they do not say.
        device: What it is called for people.
        limit_bytes: What there is.
        margin: What comes on top of what is allocated.
        found: The peak and its phase where a trace or a measurement knows better than the formula.
        method: Where they come from.
        exact: See `steps_of`.
        suggestions: Whether changes are looked for, and how far the run could grow.
    """

    def fits(changed: Settings, about: Facts) -> bool:
        peak_bytes, checkpointing = (
            peak_of(changed, about, exact=False)[0].total,
            changed.training.gradient_checkpointing,
        )
        return margin.range(peak_bytes, tight=True, checkpointing=checkpointing)[1] <= limit_bytes

    steps = steps_of(settings, facts, exact=exact)
    breakdown, phase = found or _worst(steps)
    checkpointing = settings.training.gradient_checkpointing
    tight, low, high = margin.choose(breakdown.total, limit_bytes, checkpointing=checkpointing)
    shape = steps[0].lengths
    plan = MemoryPlan(
        device=device,
        limit_bytes=limit_bytes,
        peak_bytes=breakdown.total,
        low_bytes=low,
        high_bytes=high,
        breakdown=breakdown,
        method=method,
        phase=phase,
        allocator="tight" if tight else "fast",
        shape={"documents": len(shape), "tokens": sum(shape), "longest": max(shape)},
        verified=bool(margin.learned),
    )
    if not suggestions:
        return plan
    unmeasured = replace(facts, measured=())
    there = _LARGEST_BATCH if facts.rows is None else len(facts.rows.lengths)
    most = max(settings.training.batch_size, min(_LARGEST_BATCH, there))  # more rows than there are mean nothing
    largest = replace(facts, measured=tuple((step.lengths, step.trained) for step in steps))
    return replace(
        plan,
        suggestions=suggest(settings, largest, plan, margin),
        max_batch_size=largest_that_fits(
            lambda size: fits(settings.replace({"batch_size": size}, ""), unmeasured), most
        ),
        longest_seq_len=largest_that_fits(
            lambda length: fits(
                settings.replace({"max_seq_len": max(_SHORTEST, length)}, ""), replace(unmeasured, rows=None)
            ),
            min(_LONGEST, settings.model.max_position_embeddings),
        ),
    )


def limit_found(limit_bytes: int, high_bytes: int, passing_bytes: int | None = None) -> int:
    """The limit once memory has run out: what was thought to fit takes more, so it is taken to lie below that.

    Args:
        limit_bytes: What there was thought to be.
        high_bytes: What was thought to be taken at most.
        passing_bytes: How much of that comes and goes: changes help with no more, so half of it is to remain possible.
    """
    below = int((1 - _CLOSER) * high_bytes)
    return min(limit_bytes, high_bytes - (below if passing_bytes is None else min(below, passing_bytes // 2)))


def peak_of(settings: Settings, facts: Facts, *, exact: bool = True) -> tuple[Breakdown, str]:
    """The allocated peak of a run in closed form, and its phase."""
    return _worst(steps_of(settings, facts, exact=exact))


def _worst(steps: Sequence[Step]) -> tuple[Breakdown, str]:
    return max((peak(step) for step in steps), key=lambda entry: entry[0].total)


def largest_that_fits(fits: Callable[[int], bool], most: int) -> int:
    """The largest number up to `most` that fits, by bisection; 0 if 1 does not."""
    low, high = 0, 1
    while high < most and fits(high):
        low, high = high, min(2 * high, most)
    if high == most and fits(most):
        return most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
