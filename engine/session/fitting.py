"""Unattended runs: the change that is made without asking. Torch-free."""

from dataclasses import replace
from typing import Any

from engine.errors import OutOfMemory
from engine.memory.suggest import ORIGIN, resumes
from engine.runs.folder import find_run
from engine.session.adjust import change_settings
from engine.session.request import TrainRequest
from engine.settings.values import value_text


def fitting_request(request: TrainRequest, error: OutOfMemory) -> TrainRequest | None:
    """A request with the first suggestion that fits; None where nothing helps."""
    changes = _fitting(error, begun=False)
    chosen = tuple(f"{name}={value_text(value)}" for name, value in changes.items())
    return replace(request, fitted=(*request.fitted, *chosen)) if chosen else None


def adjust_to_fit(error: OutOfMemory) -> bool:
    """Changes the settings of the run that ran out of memory; whether anything helps."""
    run = find_run(error.run)
    steps = run.checkpoint_steps()
    changes = _fitting(error, begun=bool(steps))
    if changes:
        change_settings(run, changes, step=max(steps, default=0), reason=ORIGIN)
    return bool(changes)


def _fitting(error: OutOfMemory, *, begun: bool) -> dict[str, Any]:
    """The first suggestion that fits and that the run can go on with; where none fits, the first that helps."""
    offered = [each for each in error.plan.get("suggestions", []) if not begun or resumes(each["changes"])]
    fitting = [each for each in offered if each["fits"]] or offered
    found: dict[str, Any] = fitting[0]["changes"] if fitting else {}
    return found
