"""The app's own log: stray output of other code, warnings, and what went wrong. Without Textual."""

import logging
import os
import time
import traceback
from pathlib import Path

from engine.errors import EngineError
from minimind_tui.state import log_path

LARGEST = 1_000_000
"""Bytes from which a log is put aside at the start of the app."""
_TAIL = 256_000


def open_log() -> Path:
    """Makes room in the log, and leads Python's warnings and logging there; call it once, before the app runs."""
    path = log_path()
    try:
        if path.exists() and path.stat().st_size > LARGEST:
            path.replace(path.with_name(path.name + ".1"))
        path.parent.mkdir(parents=True, exist_ok=True)
        logging.basicConfig(
            filename=path, level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        logging.captureWarnings(True)
    except OSError:
        pass
    return path


def note(text: str) -> None:
    """Writes a line with the time; a disk that does not take it is no reason to bother the user."""
    path = log_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text.rstrip()}\n")
    except OSError:
        return


def failure(error: BaseException, doing: str = "") -> EngineError:
    """What to show of an error that nobody expected: its traceback goes to the log; the engine's own errors pass.

    Args:
        doing: What was being done, such as a worker's name.
    """
    if isinstance(error, EngineError):
        return error
    said = f"{type(error).__name__}: {error}".strip(": ")
    note(f"ERROR {doing}: {said}\n" + "".join(traceback.format_exception(error)))
    return EngineError(said, where=doing, hint="the app and its run go on; the whole story is in the log (ctrl+l)")


def tail(path: Path, most: int = _TAIL) -> tuple[int, list[str]]:
    """The size of a log and its last lines; a line that was cut by the limit is left out."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - most))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return 0, []
    return size, lines[1:] if size > most else lines
