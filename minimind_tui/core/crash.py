"""Whether the last start ended while a run was training, and what is known of why. Without Textual."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from engine.errors import EngineError
from engine.runs.folder import RunFolder
from minimind_tui.core.last_words import diagnose
from minimind_tui.state import state_folder

_VMSTAT = Path("/proc/vmstat")


@dataclass(frozen=True)
class Crash:
    """A run that the app carried when it ended without a word.

    Attributes:
        step: The step of its newest checkpoint; 0 if it has none.
        hints: What is known, a sentence each.
        starved: It ended for want of memory, as its events say.
    """

    run: RunFolder
    step: int
    hints: tuple[str, ...]
    starved: bool = False


def note_carried(run: RunFolder | None) -> None:
    """Writes down which run is in this process's hands, for the start after a crash; None: none any more.

    Every process has a note of its own, so that two apps at once do not lose each other's.
    """
    note = _notes() / str(os.getpid())
    try:
        if run is None:
            note.unlink(missing_ok=True)
        else:
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(str(run.path), encoding="utf-8")
    except OSError:
        return


def left_behind() -> Crash | None:
    """A run that an app left without a word; its note is gone then. It reads events, so call it from a thread."""
    try:
        for note in sorted(_notes().iterdir()):
            carried = note.read_text(encoding="utf-8")
            if RunFolder(Path(carried)).is_running():
                continue  # another app has it
            note.unlink(missing_ok=True)
            if (crash := crash_of(carried)) is not None:
                return crash
    except (OSError, UnicodeDecodeError):
        pass
    return None


def _notes() -> Path:
    return state_folder() / "carrying"


def crash_of(carried: str) -> Crash | None:
    """What there is to say of a run that was carried.

    Args:
        carried: Its folder; empty for none.

    Returns:
        None if the run has ended in order, or goes on elsewhere, or is gone.
    """
    run = RunFolder(Path(carried))
    if not carried or not run.resolved.is_file():
        return None
    try:
        if run.state() != "interrupted":
            return None
        steps = run.checkpoint_steps()
        if diagnose(run) is not None:
            return Crash(run, steps[-1] if steps else 0, (), starved=True)
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
