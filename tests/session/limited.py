"""`engine …` in child processes that may take only so much memory. They are forked from one that has torch loaded."""

import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

import psutil
import pytest

from engine.process import prepare

LOADED = ["engine.cli.train", "engine.session.carry", "engine.stages.ppo", "torch._dynamo"]
ROOM = 560 << 20
"""Bytes of address space beside what the program has at its start: of these a run leaves 256 MiB to its threads."""


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it said."""

    code: int
    out: str
    err: str


def engine(*arguments: object, room: int = ROOM, hog: str = "") -> Ended:
    """Runs the command line under a limit on address space.

    Args:
        arguments: As a user would write them.
        room: See `ROOM`.
        hog: A run; once it has saved a checkpoint, another part of the process takes almost all that is left.
    """
    home = Path(os.environ["MINIMIND_HOME"])
    texts = [str(argument) for argument in arguments]
    child = _forking().Process(target=_child, args=(texts, str(home), room, hog))
    child.start()
    child.join(120)
    assert child.exitcode is not None, f"{texts} hangs"
    return Ended(child.exitcode, (home / "out").read_text(), (home / "err").read_text())


def _forking() -> ForkServerContext:
    context = get_context("forkserver")
    prepare()
    context.set_forkserver_preload(LOADED)
    return context


def _child(arguments: list[str], home: str, room: int, hog: str) -> None:
    import resource

    os.environ["MINIMIND_HOME"] = home
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{home}/{name}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
    limit = psutil.Process().memory_info().vms + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    if hog:
        events = Path(home) / "runs" / hog / "events.jsonl"
        threading.Thread(target=_take_all, args=(events, limit), daemon=True).start()
    from engine.cli import main

    sys.argv = ["engine", *arguments]
    main()


def _take_all(events: Path, limit: int) -> None:
    """Waits for a checkpoint, then takes what is left but for a little."""
    while not events.exists() or "checkpoint_saved" not in events.read_text():
        time.sleep(0.01)
    kept = []
    while (left := limit - psutil.Process().memory_info().vms - (4 << 20)) > 0:
        with suppress(MemoryError):
            kept.append(bytearray(left))
    time.sleep(60)


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="address space can be limited on Linux alone")
