"""Runs beside each other: their curves, numbers, settings and samples. Torch-free and without Textual."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import EngineError
from engine.runs.events import Event, Sampled
from engine.runs.folder import RunFolder
from engine.runs.history import EventTail
from engine.runs.lineage import place_name
from engine.runs.summary import Digest, RunSummary
from engine.settings.registry import STAGES, Metric
from minimind_tui.core.figures import duration, number
from minimind_tui.core.figures import metric as metric_text
from minimind_tui.core.history import RunHistory
from minimind_tui.core.reported import VALIDATION
from minimind_tui.core.run_details import PLACES, value_text
from minimind_tui.core.run_list import steps_text
from minimind_tui.core.series import Series

LEAST, MOST = 2, 6
LETTERS = "ABCDEF"
"""The runs' short names, in their order."""
NONE = "–"
"""What stands where a run has nothing to say."""

News = tuple[RunSummary, list[Event]]
"""How a run stands, and what it has said since it was last asked."""


@dataclass(frozen=True)
class Cell:
    """What one run has in a row.

    Attributes:
        text: For a table.
        full: The same in full, by which cells are told apart; empty where the text is all.
        origin: Where a setting's value comes from.
        best: It is the best of its row.
    """

    text: str
    full: str = ""
    origin: str = ""
    best: bool = False

    def __str__(self) -> str:
        return self.full or self.text


@dataclass(frozen=True)
class Row:
    """A row of a table with a cell a run."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Answers:
    """What each run's model said last to a prompt; None where it was not asked."""

    prompt: str
    samples: tuple[Sampled | None, ...]


class Comparison:
    """Two to six runs beside each other.

    Args:
        runs: What is compared. Reading them takes its time: make it in a thread.

    Raises:
        EngineError: One of them cannot be read.
        OSError: One of them was deleted meanwhile.
    """

    def __init__(self, runs: Sequence[RunFolder]) -> None:
        self.runs = tuple(runs)
        self._digests, self._tails = [Digest(run) for run in runs], [EventTail(run) for run in runs]
        self.histories = [RunHistory() for _ in runs]
        self.summaries: list[RunSummary] = []
        self.feed([(digest.read(), tail.drain()) for digest, tail in zip(self._digests, self._tails, strict=True)])

    def poll(self) -> list[News]:
        """What came since the last call, for `feed`; call it from a thread, and again once that was fed.

        A run that cannot be read any more, as it was deleted, stays as it was.
        """
        return [self._news(*one) for one in zip(self._digests, self._tails, self.summaries, strict=True)]

    def _news(self, digest: Digest, tail: EventTail, last: RunSummary) -> News:
        try:
            return digest.read(), tail.drain()
        except (EngineError, OSError):
            return last, []

    def feed(self, news: Sequence[News]) -> bool:
        """Takes in what `poll` found, in the thread that reads the curves; whether there was anything."""
        changed = self.summaries != [summary for summary, _ in news]
        self.summaries = [summary for summary, _ in news]
        for history, (_, events) in zip(self.histories, news, strict=True):
            history.feed(events)
        return changed or any(events for _, events in news)

    @property
    def going_on(self) -> bool:
        """Whether one of the runs is running, or may be again: one that stopped can be resumed elsewhere."""
        return any(summary.state == "running" or summary.can_resume for summary in self.summaries)

    def names(self) -> list[tuple[str, str]]:
        """Letter and name of each run."""
        return list(zip(LETTERS, (run.name for run in self.runs), strict=False))

    def metrics(self) -> list[Metric]:
        """What any of the runs reports: what has a direction first, validation ahead of training."""
        found: dict[str, Metric] = {}
        for history in self.histories:
            for metric in history.metrics():
                found.setdefault(metric.name, metric)
        return sorted(found.values(), key=lambda metric: (not metric.direction, not metric.name.startswith(VALIDATION)))

    def curves(self, metric: Metric) -> list[Series | None]:
        """The metric's curve of each run."""
        return [history.curves.get(metric.name) for history in self.histories]

    def numbers(self) -> list[Row]:
        """How each run stands, then the last and the best value of each metric; the best of a row is marked."""
        rows = [
            Row("state", tuple(Cell(summary.state) for summary in self.summaries)),
            Row("step", tuple(Cell(steps_text(summary)) for summary in self.summaries)),
            Row("tokens", tuple(Cell(number(summary.tokens)) for summary in self.summaries)),
            Row("time worked", tuple(Cell(duration(seconds)) for seconds in self._worked())),
        ]
        for metric in self.metrics():
            curves = self.curves(metric)
            title = metric.title.replace("validation ", "val ")
            if metric.direction:
                best = [curve.best(metric.direction) if curve else None for curve in curves]
                rows.append(_measured(f"best {title}", metric, best))
            rows.append(_measured(f"last {title}", metric, [curve.last if curve else None for curve in curves]))
        return rows + self._told()

    def _worked(self) -> list[float]:
        """Seconds that each run has worked; one that is interrupted worked until its last word."""
        return [
            history.elapsed(None if summary.state == "running" else summary.said)
            for history, summary in zip(self.histories, self.summaries, strict=True)
        ]

    def _told(self) -> list[Row]:
        """Metrics that a stage without steps tells at its end."""
        curves = {metric.name for metric in self.metrics()}
        stages = [STAGES[summary.stage] for summary in self.summaries if summary.stage in STAGES]
        told = {metric.name: metric for stage in stages for metric in stage.metrics if metric.name not in curves}
        values = {name: [summary.metrics.get(name) for summary in self.summaries] for name in told}
        return [_measured(told[name].title, told[name], found) for name, found in values.items()
                if any(value is not None for value in found)]  # fmt: skip

    def settings(self) -> list[Row]:
        """The settings in which the runs differ, with the origin of each value."""
        names = dict.fromkeys(name for summary in self.summaries for name in summary.settings)
        rows = [Row(name, tuple(_setting(summary, name) for summary in self.summaries)) for name in names]
        rows.insert(0, Row("profile", tuple(Cell(summary.profile) for summary in self.summaries)))
        rows.insert(0, Row("stage", tuple(Cell(summary.stage) for summary in self.summaries)))
        return [row for row in rows if len({str(cell) for cell in row.cells}) > 1]

    def answers(self) -> list[Answers]:
        """The newest sample of each prompt; prompts that several runs were given come first."""
        newest = [{sample.prompt: sample for sample in history.samples} for history in self.histories]
        prompts = dict.fromkeys(prompt for said in newest for prompt in said)
        found = [Answers(prompt, tuple(said.get(prompt) for said in newest)) for prompt in prompts]
        return sorted(found, key=lambda answers: -sum(sample is not None for sample in answers.samples))


def _measured(title: str, metric: Metric, values: Sequence[float | None]) -> Row:
    """The best is marked, unless all are the same as far as one can see."""
    texts = [NONE if value is None else metric_text(value, metric.unit) for value in values]
    there = [(value * metric.direction, text) for value, text in zip(values, texts, strict=True)
             if value is not None and math.isfinite(value)]  # fmt: skip
    best = max(there)[1] if metric.direction and len({text for _, text in there}) > 1 else None
    return Row(title, tuple(Cell(text, best=text == best) for text in texts))


def _setting(summary: RunSummary, name: str) -> Cell:
    entry = summary.settings.get(name)
    if entry is None:
        return Cell(NONE)
    full = value_text(entry.get("value"))
    return Cell(place_name(full) if name in PLACES else full, full, str(entry.get("origin", "")))
