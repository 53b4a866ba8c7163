"""What goes when runs are deleted. Torch-free and without Textual."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from engine.errors import EngineError
from engine.runs.delete import delete_run, disk_use
from engine.runs.folder import RunFolder
from engine.runs.lineage import started_from
from engine.runs.summary import RunSummary
from minimind_tui.core.figures import size


@dataclass(frozen=True)
class Going:
    """A run that is to be deleted.

    Attributes:
        bytes: What it takes on disk.
        stranded: Runs that stay, were started from it, and cannot go on without it.
        children: Runs that stay, were started from it, and are done.
    """

    summary: RunSummary
    bytes: int
    stranded: tuple[str, ...]
    children: tuple[str, ...]

    def __str__(self) -> str:
        count = len(self.summary.checkpoints)
        saved = f"{count} checkpoint{'s' * (count != 1)}" if count else "no checkpoint"
        return f"{self.summary.name}: {size(self.bytes)}, {saved}"


def going(chosen: Collection[RunSummary], runs: Sequence[RunSummary]) -> list[Going]:
    """What goes with each of the chosen runs; it measures folders, so call it from a thread."""
    gone = {summary.run for summary in chosen}
    staying = [summary for summary in runs if summary.run not in gone]
    found = []
    for summary in chosen:
        made = started_from(staying, summary.run)
        found.append(
            Going(
                summary,
                disk_use(summary.run),
                stranded=tuple(one.name for one in made if one.state != "done"),
                children=tuple(one.name for one in made if one.state == "done"),
            )
        )
    return found


def delete_all(chosen: Sequence[Going]) -> tuple[list[RunFolder], EngineError | None]:
    """Deletes one run after the other, up to the first that cannot be; those that are gone, and what went wrong."""
    gone: list[RunFolder] = []
    for one in chosen:
        try:
            delete_run(one.summary.run)
        except EngineError as error:
            return gone, error
        gone.append(one.summary.run)
    return gone, None
