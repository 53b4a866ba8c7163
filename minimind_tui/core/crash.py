"""Whether the last start ended while a run was training, and what is known of why. Without Textual."""

import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from engine.errors import EngineError
from engine.runs.folder import RunFolder

_VMSTAT = Path("/proc/vmstat")


@dataclass(frozen=True)
class Crash:
    """A run that the app carried when it ended without a word.

    Attributes:
        step: The step of its newest checkpoint; 0 if it has none.
        hints: What is known, a sentence each.
    """

    run: RunFolder
    step: int
    hints: tuple[str, ...]


def crashed_run(carried: str) -> Crash | None:
    """The run that was left behind.

    It reads the run's events: call it from a thread.

    Args:
        carried: The folder that the app had noted as its own run's; empty if it had none.

    Returns:
        None if nothing was carried, or the run has ended in order, or goes on elsewhere, or is gone.
    """
    run = RunFolder(Path(carried))
    if not carried or not run.resolved.is_file():
        return None
    try:
        if run.state() != "interrupted":
            return None
        steps = run.checkpoint_steps()
        last = run.events.stat().st_mtime if run.events.exists() else run.resolved.stat().st_mtime
    except (EngineError, OSError):
        return None
    return Crash(run, steps[-1] if steps else 0, tuple(_hints(last)))


def _hints(last: float) -> list[str]:
    """What the machine tells about the time since the run's last word (seconds since 1970)."""
    hints = [f"Its last word was at {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(last))}."]
    if psutil.boot_time() > last:
        return [*hints, "The machine was started again after that."]
    if killed := oom_kills():
        times = "once" if killed == 1 else f"{killed} times"
        hints.append(
            f"The kernel has ended a process for lack of memory {times} since the machine was started; this may have "
            "been one. A smaller batch_size with more accumulation_steps needs less memory."
        )
    return hints


def oom_kills(vmstat: Path = _VMSTAT) -> int:
    """How many processes the kernel has killed for lack of memory since boot; 0 where it does not say."""
    try:
        lines = vmstat.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return 0
    found = [line.split()[1] for line in lines if line.startswith("oom_kill ")]
    return int(found[0]) if found else 0
