"""The terminal below the app: stray output is kept off the screen, texts are copied out, and its end is noticed."""

import asyncio
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.clean import clean

if TYPE_CHECKING:
    from textual.app import App

_NOTHING = b"\x1b[I"
"""A terminal's report that it has the focus."""
_END_SECONDS = 180.0
"""Longer than a run may take to save its last step."""
_guarded: list[tuple[int, int]] = []
"""Descriptors of the terminal itself (for 1 and 2) while they point at the log."""


class _PatientStream(io.TextIOWrapper):
    """A stream to the terminal on which writing never fails: Textual's writer thread must not die when the terminal is
    gone, or the app would wait for it for ever instead of saving its run.
    """

    def __init__(self, descriptor: int) -> None:
        raw = io.BufferedWriter(io.FileIO(descriptor, "w"))
        super().__init__(raw, encoding="utf-8", errors="replace", line_buffering=True)

    def write(self, text: str) -> int:
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def guarded_output(log: Path) -> Iterator[None]:
    """Points file descriptors 1 and 2 at the log while the app draws on the terminal itself.

    Textual draws on `sys.__stderr__`, and the size of the terminal is asked of `sys.__stdout__`: both get descriptors
    of their own for the terminal. Without a terminal, or with a log that cannot be written, nothing is changed.
    COLUMNS and LINES, which some programs export, would hide every change of the terminal's size: they are dropped.
    """
    sink = _open_log(log) if sys.stderr.isatty() else None
    if sink is None:
        yield
        return
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)
    kept = os.dup(1), os.dup(2)
    streams = sys.__stdout__, sys.__stderr__
    _flush()
    sys.__stderr__ = _PatientStream(os.dup(2))  # type: ignore[misc]
    sys.__stdout__ = _PatientStream(os.dup(2))  # type: ignore[misc]
    _point_at(sink, sink)
    os.close(sink)
    _guarded.append(kept)
    try:
        yield
    finally:
        _flush()
        _guarded.remove(kept)
        _point_at(*kept)
        for descriptor in kept:
            os.close(descriptor)
        sys.__stdout__, sys.__stderr__ = streams  # type: ignore[misc]


@contextmanager
def released_output() -> Iterator[None]:
    """Gives descriptors 1 and 2 back to the terminal, for a program such as an editor that the app makes room for."""
    if not _guarded:
        yield
        return
    with ExitStack() as stack:
        logs = os.dup(1), os.dup(2)
        for descriptor in logs:
            stack.callback(os.close, descriptor)
        _flush()
        _point_at(*_guarded[-1])
        try:
            yield
        finally:
            _flush()
            _point_at(*logs)


def _open_log(log: Path) -> int | None:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError:
        return None


def _point_at(out: int, error: int) -> None:
    os.dup2(out, 1)
    os.dup2(error, 2)


def _flush() -> None:
    """What Python still holds goes where it was meant to; the terminal may be gone."""
    for stream in (sys.__stdout__, sys.__stderr__, sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.flush()


def when_told_to_end(call: Callable[[], None]) -> None:
    """Calls back when the terminal is closed or the process is asked to end; from the running event loop.

    A signal that was ignored from the start, as under nohup, stays ignored. Windows has no such signals.
    """
    if sys.platform == "win32":
        return

    def asked() -> None:
        if _guarded:  # the process is this app's alone
            threading.Thread(target=_end_at_last, name="end-at-last", daemon=True).start()
        call()

    def closed() -> None:
        _quiet_input()
        asked()

    loop = asyncio.get_running_loop()
    for number, handler in ((signal.SIGTERM, asked), (signal.SIGHUP, closed)):
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, handler)
    resume = signal.getsignal(signal.SIGCONT)
    if callable(resume):
        # A terminal that goes sends SIGCONT after SIGHUP; Textual would begin anew on what is no terminal any more.
        signal.signal(signal.SIGCONT, lambda *arguments: resume(*arguments) if os.isatty(0) else None)


def _end_at_last() -> None:
    """Ends the process when its orderly end does not come."""
    time.sleep(_END_SECONDS)
    os._exit(1)


def _quiet_input() -> None:
    """Nothing comes from a terminal that is closed; without this, reading from it ends at once, again and again.

    The reader may have been told already that there is something to read: it finds a report that means nothing.
    """
    if not os.isatty(0):
        with suppress(OSError):
            silent, ours = os.pipe()
            os.write(ours, _NOTHING)
            os.dup2(silent, 0)


def copy(app: "App[Any]", text: str, what: str) -> None:
    """Copies a text to the terminal's clipboard, to tmux and to a file, and says in a toast where it has gone.

    Args:
        what: What it is, as the toast names it: `the command`.
    """
    from minimind_tui.core.clipboard import deliver, fits

    whole = text.encode("utf-8", errors="replace").decode("utf-8")
    if fits(whole):
        app.copy_to_clipboard(whole)

    def work() -> None:
        copied = deliver(whole)
        said = clean(f"{what}: {copied}", newlines=False)
        with suppress(RuntimeError):  # the app may have ended meanwhile
            app.call_from_thread(app.notify, said, severity="information" if copied.anywhere else "error", markup=False)

    threading.Thread(target=work, name="clipboard", daemon=True).start()
