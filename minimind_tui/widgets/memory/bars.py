"""A plan drawn in cells: all of it against the limit in one bar, and a bar for each part.

Parts differ in their pattern as well as in their colour, and whether it fits is said in words too.
"""

from collections.abc import Iterator
from itertools import cycle

from textual.content import Content

from minimind_tui.core.figures import size
from minimind_tui.core.memory import PARTS, Memory
from minimind_tui.widgets.states import MUTED

LIMIT = "┃"
_BESIDE, _FREE = "┄", "·"
_COLOURS = ("$secondary", "$accent", "$success", "$primary", "$warning")
_LOOKS = dict(zip(PARTS, zip(cycle("▓▒▚█"), cycle(_COLOURS), strict=False), strict=False))
_NAME, _SIZE = 14, 9
_LONGEST = 40


def verdict(plan: Memory) -> Content:
    """Whether it fits, and by how much."""
    sign, style = ("✓", "$text-success") if plan.fits else ("✗", "$text-error")
    return Content.styled(f"{sign} {plan.verdict}", style)


def plan_bar(plan: Memory, width: int) -> Content:
    """What is allocated, part by part, then what the program takes beside it at most; the limit is a line."""
    end = max(plan.limit, plan.high, 1)
    cells = [(_BESIDE, MUTED) if place * end < plan.high * width else (_FREE, MUTED) for place in range(width)]
    taken, place = 0, 0
    for name, count in plan.parts:
        taken += count
        while place < width and (place + 0.5) * end < taken * width:
            cells[place] = _LOOKS[name]
            place += 1
    cells[min(width - 1, plan.limit * width // end)] = (LIMIT, "bold" if plan.fits else "$text-error bold")
    return Content.assemble(*cells)


def part_bars(plan: Memory, width: int) -> Iterator[Content]:
    """A line a part: its name, its size, and a bar; the largest one has all the room."""
    room = min(_LONGEST, width - _NAME - _SIZE - 1)
    largest = max((count for _, count in plan.parts), default=1)
    for name, count in plan.parts:
        pattern, colour = _LOOKS[name]
        bar = pattern * max(1, round(room * count / largest))
        yield Content.assemble(f"{name.replace('_', ' '):<{_NAME}}", (f"{size(count):>{_SIZE}} ", MUTED), (bar, colour))


def legend() -> Content:
    """What the bar's other signs mean."""
    return Content.styled(f"{_BESIDE} the program and what is not counted, at most · {LIMIT} the limit", MUTED)
