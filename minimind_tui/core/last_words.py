"""What a run said last, read from the end of its events. Torch-free and without Textual."""

import threading
from contextlib import suppress
from pathlib import Path

from engine.errors import EngineError
from engine.runs.events import Adjusted, Progress, RanOutOfMemory, Resumed, RunStarted, Step, from_line
from engine.runs.folder import RunFolder

OUT_OF_MEMORY = "out of memory"
"""What is said of a failed run whose memory ran out."""
_TAIL_BYTES = 1 << 18
_diagnosing = threading.Lock()
_WENT_ON = (Adjusted, Progress, Resumed, RunStarted, Step)
"""What a run says that goes on."""


def last_lines(path: Path, count: int = _TAIL_BYTES) -> list[bytes]:
    """The last lines of a file, the first of them perhaps torn; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - count))
            return file.read().splitlines()
    except OSError:
        return []


def ran_out(run: RunFolder) -> RanOutOfMemory | None:
    """How a run's memory ran out, if nothing has happened since but its end."""
    for line in reversed(last_lines(run.events)):
        event = from_line(line)
        if isinstance(event, RanOutOfMemory):
            return event
        if isinstance(event, _WENT_ON):
            return None
    return None


def diagnose(run: RunFolder) -> RanOutOfMemory | None:
    """As `ran_out`; a run whose process is gone without a word is looked into first, and its events then say why."""
    from engine.session.aftermath import explain_kill

    with _diagnosing, suppress(EngineError, OSError):  # one at a time: what two find out would stand there twice
        explain_kill(run)
    return ran_out(run)
