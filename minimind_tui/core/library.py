"""All runs at a glance, and what the ladder says to do next. Torch-free and without Textual."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from engine.errors import EngineError
from engine.runs.delete import disk_use
from engine.runs.folder import RunFolder, list_runs
from engine.runs.summary import Digest, RunSummary
from engine.settings.registry import STAGES, StageInfo
from minimind_tui.core.last_words import ran_out

_ENDED_EARLY = ("failed", "interrupted")


@dataclass(frozen=True)
class Rung:
    """A stage of the ladder with its newest run; `advice` says what could be done here, in a word."""

    stage: StageInfo
    newest: RunSummary | None
    advice: str


class Library:
    """Reads the runs' folders; what has not changed is not read again. Any thread may ask."""

    def __init__(self) -> None:
        self._lock, self._measuring = threading.Lock(), threading.Lock()
        self._known: dict[RunFolder, Digest] = {}
        self._words: dict[RunFolder, tuple[float, bool]] = {}
        self.starved: frozenset[RunFolder] = frozenset()
        """The runs that ended because their memory ran out, as of the last reading."""
        self._sizes: dict[RunFolder, tuple[object, int]] = {}

    def runs(self) -> list[RunSummary]:
        """All runs, the one that spoke last first; folders that cannot be read are left out."""
        with self._lock:
            self._known = {run: self._known.get(run) or Digest(run) for run in list_runs()}
            found = []
            for digest in self._known.values():
                try:
                    found.append(digest.read())
                except (EngineError, OSError):
                    continue
            self._words = {each.run: self._last_words(each) for each in found if each.state in _ENDED_EARLY}
            self.starved = frozenset(run for run, (_, starved) in self._words.items() if starved)
        return sorted(found, key=lambda summary: summary.said, reverse=True)

    def _last_words(self, summary: RunSummary) -> tuple[float, bool]:
        """When a run spoke last, and whether it then ran out of memory; read again only when it has spoken again."""
        known = self._words.get(summary.run)
        if known is None or known[0] != summary.said:
            known = summary.said, ran_out(summary.run) is not None
        return known

    def sizes(self, runs: Iterable[RunSummary]) -> dict[RunFolder, int]:
        """Bytes on disk of each run; measured again when it has ended or has another checkpoint."""
        found = {}
        with self._measuring:  # a lock of its own: who asks for the runs need not wait for this
            for summary in runs:
                key = (summary.began, summary.state, summary.checkpoints)
                known = self._sizes.get(summary.run)
                if known is None or known[0] != key:
                    known = key, disk_use(summary.run)
                found[summary.run] = known
            self._sizes = found
        return {run: size for run, (_, size) in found.items()}


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
    """The first stage that is not done and can begin; one that the stage behind it can do without is passed over."""
    done = set(done)
    for stage, behind in zip_longest(STAGES.values(), list(STAGES.values())[1:]):
        if stage.name in done or not _can_begin(stage, done):
            continue
        if behind is None or stage.name not in behind.starts_from or not _can_begin(behind, done):
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
    return "possible" if _can_begin(stage, done) else f"after {min(stage.starts_from, key=[*STAGES].index)}"
