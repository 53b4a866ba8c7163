"""A run's log file, its end. Without Textual."""

from pathlib import Path

from engine.clean import clean

_LAST_BYTES = 200_000


def log_tail(path: Path) -> str:
    """The last lines of a log, cleaned; how much was left out stands first.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _LAST_BYTES))
        text = file.read().decode("utf-8", errors="replace")
    if size <= _LAST_BYTES:
        return clean(text)
    return clean(f"({size - _LAST_BYTES:,} bytes before this)\n{text.partition(chr(10))[2]}")
