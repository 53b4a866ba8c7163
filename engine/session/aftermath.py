"""What became of a run whose process ended without a word: killed for want of memory, or otherwise. Torch-free."""

import json
from dataclasses import replace
from typing import Any

from engine.errors import EngineError
from engine.memory.history import RECORD
from engine.memory.kills import BY_KERNEL, LIKELY_BY_KERNEL, Kills, killed, oom_kills
from engine.memory.limits import Target, device_limit
from engine.memory.plan import MemoryPlan
from engine.memory.planning import limit_found
from engine.runs.events import Finished, RanOutOfMemory, Step
from engine.runs.folder import RunFolder
from engine.runs.history import EventWriter
from engine.session.adjust import offer
from engine.session.planning import draft_settings, plan_draft
from engine.settings.profile import Settings


def explain_kill(run: RunFolder, returncode: int | None = None) -> RanOutOfMemory | None:
    """Finds out whether the kernel ended a run for want of memory; then its events say so, with what would fit.

    Args:
        run: It ended without saying so.
        returncode: How its process ended; None where nobody saw it.

    Returns:
        What was written; None where the run said how it ended, still runs, or was ended by something else.
    """
    try:
        record = json.loads((run.path / RECORD).read_text(encoding="utf-8"))
        before, high_bytes = Kills.from_json(record["kills"]), int(record["high_bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if run.state() != "interrupted":
        return None
    said = killed(before, oom_kills(before), returncode)
    if said not in (BY_KERNEL, LIKELY_BY_KERNEL):
        return None
    step = next((event.step for event in reversed(run.history()) if isinstance(event, Step)), 0)
    device = str(record.get("device", "cpu"))
    plan = _plan(run, device, high_bytes)
    event = RanOutOfMemory(
        step=step, phase="unknown", what=said, device=device, wanted_bytes=None,
        limit_bytes=plan.get("limit_bytes", 0), plan=plan,
    )  # fmt: skip
    with run.lock():
        if any(isinstance(last, Finished) for last in run.history()[-1:]):  # another was faster
            return None
        offer(run, plan.get("suggestions", []))
        emit = EventWriter(run)
        try:
            emit(event)
            emit(Finished(status="failed", step=step, error=f"out of memory: {said}", exit_code=3))
        finally:
            emit.close()
    return event


def _plan(run: RunFolder, device: str, high_bytes: int) -> dict[str, Any]:
    """The run's plan with suggestions; empty where its settings cannot be read."""
    try:
        settings = Settings.from_json(run.read_json(run.resolved))
        draft = draft_settings(settings, Target(device, device, None), [])
        target = replace(draft.target, limit_bytes=limit_found(device_limit(draft.target), high_bytes))
        plan: MemoryPlan = plan_draft(replace(draft, target=target))
    except EngineError:
        return {}
    return plan.to_json()
