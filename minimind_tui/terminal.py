"""The terminal below the app: stray output is kept off the screen, and its end is noticed."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def guarded_output(log: Path) -> Iterator[None]:
    """Points file descriptors 1 and 2 at the log while the app draws on the terminal itself.

    Textual draws on `sys.__stderr__`, and the size of the terminal is asked of `sys.__stdout__`: both get descriptors
    of their own for the terminal. Without a terminal nothing is changed.
    """
    if not sys.stderr.isatty():
        yield
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    kept = os.dup(1), os.dup(2)
    streams = sys.__stdout__, sys.__stderr__
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in streams:
        if stream is not None:
            stream.flush()
    sys.__stderr__ = os.fdopen(os.dup(2), "w", encoding="utf-8", buffering=1)  # type: ignore[misc]
    sys.__stdout__ = os.fdopen(os.dup(2), "w", encoding="utf-8")  # type: ignore[misc]
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.close(sink)
    try:
        yield
    finally:
        with suppress(OSError):  # the terminal may be gone
            sys.__stderr__.flush()
        for target, descriptor in zip((1, 2), kept, strict=True):
            os.dup2(descriptor, target)
            os.close(descriptor)
        sys.__stdout__, sys.__stderr__ = streams  # type: ignore[misc]


def when_told_to_end(call: Callable[[], None]) -> None:
    """Calls back when the terminal is closed or the process is asked to end; from the running event loop.

    A signal that was ignored from the start, as under nohup, stays ignored. Windows has no such signals.
    """
    if sys.platform == "win32":
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, call)
