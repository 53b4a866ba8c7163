"""A run's events on disk: written line by line, followed as they come, and read as one clean line of history."""

import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from engine.runs.events import (
    VERSION,
    Adjusted,
    CheckpointSaved,
    Event,
    Finished,
    RanOutOfMemory,
    Resumed,
    Step,
    from_line,
    to_line,
)

if TYPE_CHECKING:
    from engine.runs.folder import RunFolder

_STEP = f'{{"v":{VERSION},"type":"{Step.type}"'.encode()


class EventWriter:
    """Appends events to a run's file; each line is whole before the next begins, whichever thread speaks."""

    def __init__(self, run: "RunFolder") -> None:
        self._lock = threading.Lock()
        self._file = run.events.open("ab+", buffering=0)
        size = self._file.seek(0, os.SEEK_END)
        self._torn = False
        if size:
            self._file.seek(size - 1)
            self._torn = self._file.read(1) != b"\n"

    def __call__(self, event: Event) -> None:
        line = (to_line(event) + "\n").encode("utf-8", errors="backslashreplace")
        with self._lock:
            data = b"\n" + line if self._torn else line
            self._torn = True
            while data:  # a disk that fills takes a part of a line and refuses the rest
                data = data[self._file.write(data) :]
            self._torn = False

    def close(self) -> None:
        self._file.close()


class EventTail:
    """Reads a run's events as they are written, from the beginning; call `drain` as often as you like."""

    def __init__(self, run: "RunFolder") -> None:
        self._path, self._offset = run.events, 0

    def drain(self) -> list[Event]:
        """The events that came since the last call."""
        return [event for line in self.lines() if (event := from_line(line)) is not None]

    def newest(self) -> list[Event]:
        """As `drain`, but of steps that follow each other only the last: what a list shows needs no more."""
        return [event for line in _last_steps(self.lines()) if (event := from_line(line)) is not None]

    def lines(self) -> Iterator[bytes]:
        """The whole lines that came since the last call, one at a time; a torn last one waits."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield line


def _last_steps(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines without those of steps that another step follows."""
    held = b""
    for line in lines:
        if held and not line.startswith(_STEP):
            yield held
        held = line if line.startswith(_STEP) else b""
        if not held:
            yield line
    if held:
        yield held


def read_events(path: Path) -> list[Event]:
    """Every readable event of a file, in order."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        return [event for line in file if (event := from_line(line)) is not None]


def clean_history(events: list[Event]) -> list[Event]:
    """Drops what a `resumed` took back: what was said after its checkpoint was saved, and ends that were not the end.

    Want of memory and what was changed for it stay: they tell why the run is as it is.

    A run that was killed between a checkpoint and its event has no such mark; the numbers of the steps decide then.
    """
    kept: list[Event] = []
    for event in events:
        if isinstance(event, Resumed):
            marks = [
                place
                for place, old in enumerate(kept)
                if isinstance(old, CheckpointSaved) and old.step == event.from_step
            ]
            taken_back = kept[marks[-1] + 1 :] if marks else []
            kept = kept[: marks[-1] + 1] if marks else kept
            kept = [old for old in kept if getattr(old, "step", 0) <= event.from_step and not isinstance(old, Finished)]
            kept += [old for old in taken_back if isinstance(old, RanOutOfMemory | Adjusted)]
        kept.append(event)
    return kept


def metrics_of(events: list[Event]) -> dict[str, list[tuple[int, float]]]:
    """Every metric's curve: (step, value) in order of steps."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for event in events:
        if isinstance(event, Step) or event.type == "evaluated":
            for name, value in event.metrics.items():  # type: ignore[attr-defined]
                curves.setdefault(name, []).append((event.step, value))  # type: ignore[attr-defined]
    return curves
