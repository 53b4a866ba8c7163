"""How a list of runs is sorted, filtered and written down. Torch-free and without Textual."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.runs.folder import RunFolder
from engine.runs.summary import RunSummary
from minimind_tui.core.figures import metric as metric_text
from minimind_tui.core.figures import size

Sizes = Mapping[RunFolder, int]

_AGES = ((60, "m"), (3600, "h"), (86400, "d"), (7 * 86400, "w"), (365 * 86400, "y"))
_STATES = ("running", "interrupted", "failed", "stopped", "done")


@dataclass(frozen=True)
class Column:
    """A column of the table: its sort key, which way it is sorted first, and what stands in it."""

    name: str
    key: Callable[[RunSummary, Sizes], Any]
    text: Callable[[RunSummary, Sizes], str]
    falling: bool = False
    short: Callable[[RunSummary, Sizes], str] | None = None
    """What stands in it where the room is short."""

    def said(self, summary: RunSummary, sizes: Sizes, *, short: bool) -> str:
        """What stands in a run's row."""
        return (self.short if short and self.short else self.text)(summary, sizes)


def _best_key(summary: RunSummary, sizes: Sizes) -> tuple[object, ...]:
    """Runs of one metric stand together, the best first; those without any come last."""
    if summary.metric is None or summary.best is None:
        return True, "", 0.0
    return False, summary.metric.name, -summary.best * summary.metric.direction


COLUMNS = {
    column.name: column
    for column in (
        Column("name", lambda one, _: one.name.casefold(), lambda one, _: one.name),
        Column("stage", lambda one, _: one.stage, lambda one, _: one.stage),
        Column("state", lambda one, _: rank(one.state), lambda one, _: one.state),
        Column("step", lambda one, _: one.step, lambda one, _: steps_text(one), falling=True),
        Column("best", _best_key, lambda one, _: best_text(one), short=lambda one, _: best_value(one)),
        Column("when", lambda one, _: one.said, lambda one, _: age(one.said), falling=True),
        Column("size", lambda one, sizes: sizes.get(one.run, -1), lambda one, sizes: size(sizes.get(one.run)),
               falling=True),
        Column("profile", lambda one, _: one.profile, lambda one, _: one.profile),
    )
}  # fmt: skip
"""All columns by name, in the order in which they stand."""


def rank(state: str) -> int:
    """Where a state stands among the others: what wants attention first."""
    return _STATES.index(state) if state in _STATES else len(_STATES)


@dataclass(frozen=True)
class Order:
    """How the runs are sorted; `flipped` turns a column's usual order around."""

    by: str = "when"
    flipped: bool = False

    @property
    def falling(self) -> bool:
        """Whether the largest stands first."""
        return COLUMNS[self.by].falling != self.flipped

    def following(self) -> "Order":
        """The next column."""
        names = list(COLUMNS)
        return Order(names[(names.index(self.by) + 1) % len(names)])

    def clicked(self, by: str) -> "Order":
        """By that column; where it is so already, the other way around."""
        return Order(by, not self.flipped) if by == self.by else Order(by)

    def sort(self, runs: Sequence[RunSummary], sizes: Sizes) -> list[RunSummary]:
        """The runs in this order; those that are equal keep theirs."""
        key = COLUMNS[self.by].key
        return sorted(runs, key=lambda one: key(one, sizes), reverse=self.falling)


@dataclass(frozen=True)
class Filter:
    """Which runs are shown: all words of `text` stand in name, stage, state, profile or data; state and stage fit."""

    text: str = ""
    state: str = ""
    stage: str = ""

    def __bool__(self) -> bool:
        return bool(self.text.strip() or self.state or self.stage)

    def __str__(self) -> str:
        words = self.text.strip()
        return " ".join(part for part in (self.state, self.stage, f"“{words}”" if words else "") if part)

    def fits(self, run: RunSummary) -> bool:
        """Whether a run is shown."""
        if (self.state and run.state != self.state) or (self.stage and run.stage != self.stage):
            return False
        said = " ".join((run.name, run.stage, run.state, run.profile, run.place("data"))).casefold()
        return all(word in said for word in self.text.casefold().split())


def choices(runs: Sequence[RunSummary]) -> list[tuple[str, str, int]]:
    """What a list can be narrowed to: (`state` or `stage`, its name, how many runs)."""
    states, stages = Counter(run.state for run in runs), Counter(run.stage for run in runs)
    return [
        *(("state", state, states[state]) for state in sorted(states, key=rank)),
        *(("stage", stage, count) for stage, count in stages.items()),
    ]


def age(then: float, now: float | None = None) -> str:
    """How long ago, in a word: `now`, `5m`, `3h`, `2d`, `7w`."""
    seconds = max(0.0, (time.time() if now is None else now) - then)
    fitting = [(length, unit) for length, unit in _AGES if seconds >= length]
    if not fitting:
        return "now"
    length, unit = fitting[-1]
    return f"{int(seconds // length)}{unit}"


def steps_text(summary: RunSummary) -> str:
    """How far it is: `300/1,200`."""
    return f"{summary.step:,}" + (f"/{summary.total:,}" if summary.total else "")


def best_text(summary: RunSummary) -> str:
    """The leading metric's best value with its title, the value first: it stays in sight where the title does not."""
    title = summary.metric.title.replace("validation ", "val ") if summary.metric and summary.best is not None else ""
    return f"{best_value(summary)} {title}".rstrip()


def best_value(summary: RunSummary) -> str:
    """The leading metric's best value."""
    return metric_text(summary.best, summary.metric.unit) if summary.metric else "–"
