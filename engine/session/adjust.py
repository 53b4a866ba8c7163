"""Applies a suggested change to a run that ran out of memory. Torch-free."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from engine.errors import UserError
from engine.files import write_whole
from engine.memory.suggest import ORIGIN, resumes
from engine.runs.events import Adjusted
from engine.runs.folder import RunFolder
from engine.runs.history import EventWriter
from engine.settings.profile import Settings

_OFFER = "suggestions.json"
"""In a run's folder: what was last offered, numbered as it was shown."""


def offer(run: RunFolder, suggestions: Sequence[Mapping[str, Any]]) -> None:
    """Keeps what a run's last plan suggests, for `apply_suggestion`."""
    write_whole(run.path / _OFFER, json.dumps(list(suggestions), indent=1) + "\n")


def apply_suggestion(run: RunFolder, number: int) -> dict[str, Any]:
    """Changes a run's settings by a suggestion that was last offered for it; a resume goes on with them.

    Args:
        run: It ran out of memory, or was refused because it would.
        number: The suggestion, from 1.

    Returns:
        The changes.

    Raises:
        UserError: There is no such suggestion, or a run that has begun to learn cannot go on with it.
    """
    offered = _offered(run)
    if not 1 <= number <= len(offered):
        what = f"there are {len(offered)}" if offered else "nothing is offered: it did not run out of memory since"
        raise UserError(
            f"run {run.name} has no suggestion {number}: {what}",
            where="--apply",
            hint=f"engine resume {run.name} says what would fit now",
        )
    changes: dict[str, Any] = offered[number - 1]["changes"]
    if run.checkpoint_steps() and not resumes(changes):
        raise UserError(
            f"a run that has begun to learn cannot go on with {offered[number - 1]['title']}",
            where="--apply",
            hint="start a new run with it: engine train … --set …, perhaps --from this one",
        )
    change_settings(run, changes, step=max(run.checkpoint_steps(), default=0), reason=ORIGIN)
    return changes


def _offered(run: RunFolder) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads((run.path / _OFFER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return found


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
        (run.path / _OFFER).unlink(missing_ok=True)  # it was for the settings before
        emit = EventWriter(run)
        try:
            emit(Adjusted(step=step, changes=changes, reason=reason))
        finally:
            emit.close()
