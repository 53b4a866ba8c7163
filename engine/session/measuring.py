"""A few real steps of a request, for its speed; nothing of it is kept."""

import secrets
import threading
import time
from dataclasses import dataclass, replace
from itertools import pairwise

from engine.errors import UserError
from engine.runs.delete import delete_run
from engine.runs.events import Event, Step
from engine.runs.folder import list_runs
from engine.session.carry import train
from engine.session.report import Listener
from engine.session.request import TrainRequest

_STEPS, _WARM_UP = 8, 2
_QUICKLY = ("eval_interval=0", "eval_rows=1", "save_interval=0", "sample_tokens=0", "log_interval=1")


@dataclass(frozen=True)
class Speed:
    """How fast a few steps went, answers and rewards included.

    Attributes:
        tokens_per_second: Tokens read.
        seconds_per_step: The mean.
        fastest, slowest: Seconds of single steps.
    """

    tokens_per_second: float
    seconds_per_step: float
    fastest: float
    slowest: float


def measure_speed(
    request: TrainRequest, *, interrupt: threading.Event | None = None, listener: Listener | None = None
) -> Speed:
    """Takes a few steps as a run of its own, and deletes it.

    Raises:
        EngineError: The request cannot be carried out, or does not fit.
    """
    name = f"measured-{secrets.token_hex(4)}"
    assignments = (*request.assignments, f"max_steps={_STEPS}", *_QUICKLY)
    seen: list[tuple[float, int]] = []

    def heard(event: Event) -> None:
        if isinstance(event, Step):
            seen.append((time.perf_counter(), event.tokens))
        if listener:
            listener(event)

    try:
        train(
            replace(request, name=name, overwrite=False, assignments=assignments), interrupt=interrupt, listener=heard
        )
    finally:
        for run in list_runs():
            if run.name == name:
                delete_run(run)
    kept = seen[min(_WARM_UP, len(seen) - 2) :] if len(seen) > 1 else []
    if not kept:
        raise UserError("the run is too short for its speed to be measured", where=request.profile)
    laps = [(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(kept)]
    seconds = [lap for lap, _ in laps]
    tokens = sum(read for _, read in laps)
    return Speed(tokens / sum(seconds), sum(seconds) / len(laps), min(seconds), max(seconds))
