"""Applies a suggested change to a run that ran out of memory. Torch-free."""

import json
from typing import Any

from engine.errors import UserError
from engine.files import write_whole
from engine.memory.suggest import ORIGIN, resumes
from engine.runs.events import Adjusted, RanOutOfMemory
from engine.runs.folder import RunFolder
from engine.runs.history import EventWriter
from engine.settings.profile import Settings


def last_exhaustion(run: RunFolder) -> RanOutOfMemory | None:
    """What the run said when it last ran out of memory; None where it never did."""
    return next((event for event in reversed(run.history()) if isinstance(event, RanOutOfMemory)), None)


def apply_suggestion(run: RunFolder, number: int) -> dict[str, Any]:
    """Changes a run's settings by a suggestion of its last `ran_out_of_memory` event; a resume goes on with them.

    Args:
        run: It ran out of memory.
        number: The suggestion, from 1.

    Returns:
        The changes.

    Raises:
        UserError: There is no such suggestion, or a run that has begun to learn cannot go on with it.
    """
    event = last_exhaustion(run)
    offered = event.plan.get("suggestions", []) if event else []
    if event is None or not 1 <= number <= len(offered):
        had = f"there are {len(offered)}" if event else "it did not run out of memory"
        raise UserError(f"run {run.name} has no suggestion {number}: {had}", where="--apply")
    changes: dict[str, Any] = offered[number - 1]["changes"]
    if run.checkpoint_steps() and not resumes(changes):
        raise UserError(
            f"a run that has begun to learn cannot go on with {offered[number - 1]['title']}",
            where="--apply",
            hint="start a new run with it: engine train … --set …, perhaps --from this one",
        )
    change_settings(run, changes, step=event.step, reason=ORIGIN)
    return changes


def change_settings(run: RunFolder, changes: dict[str, Any], *, step: int, reason: str) -> None:
    """Writes changed settings into the run's folder with their origin, and says so in its events.

    Raises:
        ProfileError: They cannot be.
        UserError: The run is running.
    """
    resolved = run.read_json(run.resolved)
    settings = Settings.from_json(resolved).replace(changes, reason)
    with run.lock():
        write_whole(run.resolved, json.dumps(resolved | settings.to_json(), indent=1, ensure_ascii=False))
        emit = EventWriter(run)
        try:
            emit(Adjusted(step=step, changes=changes, reason=reason))
        finally:
            emit.close()
