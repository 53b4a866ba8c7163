"""All runs at a glance, and what the ladder says to do next. Torch-free and without Textual."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine.errors import EngineError
from engine.runs.events import Finished, RunStarted
from engine.runs.folder import RunFolder, list_runs
from engine.settings.registry import STAGES, Metric, StageInfo
from minimind_tui.core.history import RunHistory


@dataclass(frozen=True)
class RunSummary:
    """One run of the list.

    Attributes:
        stage: The name of its stage.
        metric, best: The stage's leading metric and its best value, None while there is none.
        checkpoints: Steps that have a whole checkpoint.
        best_step: The step of the best checkpoint.
    """

    run: RunFolder
    stage: str
    profile: str
    state: str
    step: int
    total: int
    metric: Metric | None
    best: float | None
    checkpoints: tuple[int, ...]
    best_step: int | None

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def can_resume(self) -> bool:
        """Whether it ended before its last step and nobody runs it."""
        return self.state in ("stopped", "failed", "interrupted")


@dataclass(frozen=True)
class Rung:
    """A stage of the ladder with its newest run; `advice` says what could be done here, in a word."""

    stage: StageInfo
    newest: RunSummary | None
    advice: str


class Library:
    """Reads the runs' folders; a run whose events have not grown is not read again."""

    def __init__(self) -> None:
        self._known: dict[RunFolder, tuple[int, RunSummary]] = {}

    def runs(self) -> list[RunSummary]:
        """All runs, the newest first; folders that cannot be read are left out."""
        found = []
        for run in list_runs():
            try:
                found.append(self._summary(run))
            except (EngineError, OSError):
                continue
        return found

    def _summary(self, run: RunFolder) -> RunSummary:
        size = run.events.stat().st_size if run.events.exists() else 0
        known = self._known.get(run)
        if known and known[0] == size and known[1].state not in ("running", "interrupted"):
            return known[1]
        summary = summarise(run)
        self._known[run] = size, summary
        return summary


def summarise(run: RunFolder) -> RunSummary:
    """Reads a run's folder.

    Raises:
        EngineError: It cannot be read.
    """
    resolved = run.read_json(run.resolved)
    events = run.history()
    history = RunHistory()
    history.feed(events)
    stage = STAGES.get(str(resolved.get("stage", "")))
    metric, best = _leading(stage, history) if stage else (None, None)
    end = events[-1] if events else None
    state = end.status if isinstance(end, Finished) else "running" if run.is_running() else "interrupted"
    totals = [event.total_steps for event in events if isinstance(event, RunStarted)]
    return RunSummary(
        run=run,
        stage=str(resolved.get("stage", "")),
        profile=str(resolved.get("profile", "")),
        state=state,
        step=history.step,
        total=totals[-1] if totals else 0,
        metric=metric,
        best=best,
        checkpoints=tuple(run.checkpoint_steps()),
        best_step=run.best_step(),
    )


def _leading(stage: StageInfo, history: RunHistory) -> tuple[Metric | None, float | None]:
    """The first metric that has a direction and was reported, validation before training, and its best value."""
    directed = [metric for metric in stage.metrics if metric.direction]
    for metric in sorted(directed, key=lambda metric: not metric.name.startswith("val_")):
        if metric.name in history.curves:
            return metric, history.curves[metric.name].best(metric.direction)
        value = history.finished.summary.get(metric.name) if history.finished else None
        if isinstance(value, int | float):
            return metric, float(value)
    return None, None


def stage_of(summary: RunSummary) -> StageInfo | None:
    """The registry's entry of a run's stage."""
    return STAGES.get(summary.stage)


def ladder(runs: Sequence[RunSummary]) -> list[Rung]:
    """Every stage of the registry with its newest run and what to do there."""
    newest: dict[str, RunSummary] = {}
    for summary in reversed(runs):
        newest[summary.stage] = summary
    done = {summary.stage for summary in runs if summary.state == "done"}
    following = next_stage(done)
    running = {summary.stage for summary in runs if summary.state == "running"}
    return [
        Rung(stage, newest.get(stage.name), "" if stage.name in running else _advice(stage, done, following))
        for stage in STAGES.values()
    ]


def next_stage(done: Iterable[str]) -> StageInfo | None:
    """The first stage that is not done and can begin; one that a later stage can do without is passed over."""
    done = set(done)
    stages = list(STAGES.values())
    for index, stage in enumerate(stages):
        if stage.name in done or not _can_begin(stage, done):
            continue
        later = stages[index + 1 :]
        if not any(stage.name in other.starts_from and _can_begin(other, done) for other in later):
            return stage
    return None


def _can_begin(stage: StageInfo, done: set[str]) -> bool:
    return not stage.starts_from or bool(done.intersection(stage.starts_from))


def _advice(stage: StageInfo, done: set[str], following: StageInfo | None) -> str:
    if stage is following:
        return "next"
    if stage.name in done:
        return ""
    if not stage.starts_from:
        return ""
    return "possible" if _can_begin(stage, done) else f"after {stage.starts_from[-1]}"
