"""Processes that the kernel ended for want of memory: its counts, and what they say of an end."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.memory.cgroup import ROOT, counter, memory_groups

_KILLED = (-9, 137)
"""SIGKILL as subprocess and as a shell give it."""

_EVENTS = ("memory.events", "memory.oom_control")
"""Files with a control group's count, of v2 and v1."""

BY_KERNEL = "the kernel ended it: out of memory"
LIKELY_BY_KERNEL = "the kernel likely ended it, out of memory: it ended a process of this machine meanwhile"
FROM_OUTSIDE = "killed from outside"
UNCOUNTED = "killed from outside, or by the system for want of memory: it keeps no count"


@dataclass(frozen=True)
class Kills:
    """How many processes the kernel has ended for want of memory so far, by its own count.

    Attributes:
        group: Those of the control group; None: no such group, or gone.
        machine: Those of the whole machine, the group's included; None: not Linux.
        file: Where the group's count is read, so that a process of another group can read it again.
        boot: Which start of the machine the counts belong to.
    """

    group: int | None
    machine: int | None
    file: str
    boot: str

    def to_json(self) -> dict[str, Any]:
        """For a file, to be compared with later."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Kills":
        """What `to_json` gave."""
        return cls(**data)


def oom_kills(again: Kills | None = None, root: Path = ROOT) -> Kills:
    """Reads the kernel's counts of processes that it ended for want of memory.

    A group's count rises for every process of it that is ended, whether the group or the whole machine ran out of
    memory (Linux, mm/oom_kill.c, __oom_kill_process).

    Args:
        again: An earlier reading, perhaps of another process: its control group is read, not this process's own.
        root: Where `proc` and `sys` are; for tests.
    """
    file = again.file if again else _events_file(root)
    boot = root / "proc/sys/kernel/random/boot_id"
    return Kills(
        group=counter(Path(file), "oom_kill") if Path(file).name in _EVENTS else None,  # a reading may be a stranger's
        machine=counter(root / "proc/vmstat", "oom_kill"),
        file=file,
        boot=boot.read_text().strip() if boot.exists() else "",
    )


def killed(before: Kills, after: Kills, returncode: int | None) -> str | None:
    """Who ended a process: `BY_KERNEL`, `LIKELY_BY_KERNEL`, `FROM_OUTSIDE` or `UNCOUNTED`; None: it was not killed.

    Args:
        before: Read while the process lived, by itself.
        after: Read after its end, `oom_kills(before)`.
        returncode: How it ended. None: not known, as for a process that only left its traces; then only a count that
            rose says anything.
    """
    if returncode not in (*_KILLED, None):
        return None
    if before.boot == after.boot:
        if _rose(before.group, after.group):
            return BY_KERNEL
        if _rose(before.machine, after.machine):
            return LIKELY_BY_KERNEL
    if returncode is None:
        return None
    return UNCOUNTED if after.machine is None and after.group is None else FROM_OUTSIDE


def _rose(before: int | None, after: int | None) -> bool:
    return before is not None and after is not None and after > before


def _events_file(root: Path) -> str:
    """The file with the count of the process's control group, or of the nearest one around it that has one."""
    files = (group / name for group in memory_groups(root) for name in _EVENTS)
    return next((str(file) for file in files if file.exists()), "")
