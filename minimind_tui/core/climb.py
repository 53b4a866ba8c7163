"""The way up the starter ladder: which rung comes next. Without Textual."""

from engine.cli.starter import LADDER
from engine.errors import CheckpointError
from engine.references import newest_run
from engine.runs.folder import RunFolder, list_runs


class Climb:
    """What is left of the starter ladder.

    Attributes:
        left: The profiles that are still to be trained, the next one first.
    """

    def __init__(self) -> None:
        self.left = list(LADDER)

    def __str__(self) -> str:
        return f"starter ladder {len(LADDER) - len(self.left) + 1} of {len(LADDER)}"

    @property
    def goal(self) -> RunFolder:
        """The run that the climb ends with, once nothing is left."""
        return newest_run(LADDER[-1])

    def advance(self) -> RunFolder | None:
        """Drops the rungs that are done; it reads the runs' folders, so call it from a thread.

        Returns:
            The run of the next rung that goes on elsewhere or has a checkpoint to go on from, if there is one.
        """
        while self.left:
            try:
                newest_run(self.left[0])
            except CheckpointError:
                return _unfinished(self.left[0])
            self.left.pop(0)
        return None


def _unfinished(profile: str) -> RunFolder | None:
    for run in list_runs():
        if run.read_json(run.resolved).get("profile") == profile:
            return run if run.is_running() or run.checkpoint_steps() else None
    return None
