"""Which rows a list shows: by role, by problem, by length."""

import threading
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.errors import UserError
from minimind_tui.core.encoded import ANY, DIFFERS, DUPLICATES, QUARANTINED, TITLES, TRUNCATED, UNTRAINED, Encoded
from minimind_tui.core.rows import ROLES, Hits, Rows

ALL, FOUND, LENGTH = "all", "found", "length"
_ROLE, _BETWEEN = "role:", "between:"
_LONGEST = 1 << 40


@dataclass(frozen=True)
class Filter:
    """A way to choose rows.

    Attributes:
        name: For `rows_of`; `LENGTH` asks for a range first, which `between` makes a name of.
        title: In words; uncleaned.
        count: How many rows, where it is known.
    """

    name: str
    title: str
    count: int | None = None

    @property
    def needs_encoding(self) -> bool:
        """Whether the whole file has to be encoded first."""
        return self.name not in (ALL, FOUND, QUARANTINED) and not self.name.startswith(_ROLE)


def filters(rows: Rows, encoded: Encoded | None, found: int) -> list[Filter]:
    """The filters that a file offers.

    Args:
        rows: The file.
        encoded: Its samples, if they were made.
        found: Hits of the search, 0 without one.
    """
    chosen = [Filter(ALL, "all rows", rows.known)]
    chosen += [Filter(FOUND, "hits of the search", found)] if found else []
    chosen += [Filter(_ROLE + role, f"rows in which {role} speaks") for role in ROLES if rows.has_role(role)]
    chosen.append(Filter(LENGTH, "rows of a length, in tokens …"))
    known = {problem.name: problem for problem in encoded.problems} if encoded else {}
    for name in (QUARANTINED, UNTRAINED, TRUNCATED, DUPLICATES, DIFFERS, ANY):
        count = known[name].count if name in known else 0 if encoded and name != ANY else None
        if name == QUARANTINED and not encoded:
            count = len(rows.quarantined)
        chosen.append(Filter(name, TITLES[name], count))
    own = [problem for name, problem in known.items() if name not in TITLES]
    return chosen + [Filter(problem.name, problem.title, problem.count) for problem in own]


def between(text: str) -> Filter:
    """The filter of a range of lengths, typed as `100-200`, `100-`, `-200` or `100`.

    Raises:
        UserError: It is no range.
    """
    least, dash, most = (part.strip() for part in text.partition("-"))
    if not all(part.isdigit() or (not part and dash) for part in (least, most or least)) or not (least or most):
        raise UserError(f"{text!r} is no range of lengths", hint="such as 100-200, 100- or -200, in tokens")
    first, last = int(least or 0), int(most) if most else _LONGEST if dash else int(least)
    shown = f"{first:,} to {last:,}" if last < _LONGEST else f"{first:,} and more"
    return Filter(f"{_BETWEEN}{first}-{last}", f"rows of {shown} tokens")


def rows_of(
    chosen: Filter, rows: Rows, encoded: Encoded | None, found: Sequence[int]
) -> Callable[[threading.Event], Hits]:
    """What finds the rows of a filter; those that need it are given the encoded file."""
    name = chosen.name

    def at_once(some: Sequence[int]) -> Callable[[threading.Event], Hits]:
        return lambda stop: iter([(some, 1.0)])

    if name == FOUND:
        return at_once(found)
    if name.startswith(_ROLE):
        return lambda stop: rows.with_role(name.removeprefix(_ROLE), stop)
    if encoded is None:
        return lambda stop: iter([(array("q", (~place for place in range(len(rows.quarantined)))), 1.0)])
    if name.startswith(_BETWEEN):
        first, last = map(int, name.removeprefix(_BETWEEN).split("-"))
        return at_once(encoded.rows_between(first, last))
    return lambda stop: encoded.rows_with(name, stop)
