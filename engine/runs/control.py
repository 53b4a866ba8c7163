"""What a run is told: commands appended to `control.jsonl`, the only way in."""

import json
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.errors import UserError
from engine.runs.folder import RunFolder

COMMANDS = ("pause", "continue", "stop", "stop_now", "save", "evaluate", "set_log_interval")
"""stop saves the last step boundary; stop_now does not wait for the step that is being computed."""


@dataclass(frozen=True)
class Command:
    """One line of the control file."""

    id: str
    name: str
    value: int | None = None


class StopNow(Exception):
    """The run is to end at once: what is being computed is given up, the last boundary is what counts."""


def send(run: RunFolder, command: str, value: int | None = None) -> str:
    """Tells a run something; it answers with a `control_acknowledged` event of the same id.

    Raises:
        UserError: There is no such command, or its value does not fit.
    """
    if command not in COMMANDS:
        raise UserError(f"there is no control command {command!r}", hint=", ".join(COMMANDS))
    if command == "set_log_interval" and (value is None or value < 1):
        raise UserError("set_log_interval needs a number of steps, 1 or more", where=command)
    identity = uuid.uuid4().hex[:12]
    line = json.dumps({"id": identity, "command": command, "value": value, "time": time.time()})
    with run.control.open("ab", buffering=0) as file:
        file.write(f"{line}\n".encode())
    return identity


def _nothing() -> None:
    """No other reason."""


class Inbox:
    """What a run is told while it goes on: commands, and the interrupt of a signal or a closing app.

    Args:
        path: The control file.
        interrupt: Set from outside; the same as `stop_now`.
        fresh: A new run, which obeys everything in the file. A resumed run passes over what is there already: it was
            meant for an earlier session.
    """

    def __init__(self, path: Path, interrupt: threading.Event, *, fresh: bool) -> None:
        self._path, self.interrupt = path, interrupt
        self._offset = path.stat().st_size if not fresh and path.exists() else 0
        self._waiting: list[Command] = []
        self.look: Callable[[], None] = _nothing
        """Called with `hurry`: another reason to give work up, such as want of memory."""

    def take(self) -> list[Command]:
        """The commands that came since the last call, in order."""
        self._read()
        taken, self._waiting = self._waiting, []
        return taken

    def hurry(self) -> None:
        """Called now and then in long work, where no step has begun to change the weights.

        Raises:
            StopNow: The work is to be given up.
        """
        self._read()
        self.look()
        if self.interrupt.is_set() or any(command.name == "stop_now" for command in self._waiting):
            raise StopNow

    def _read(self) -> None:
        """Lines that cannot be read are passed over."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data.rfind(b"\n") + 1
        self._offset += whole
        for line in data[:whole].split(b"\n"):
            try:
                raw = json.loads(line)
                name, value = raw["command"], raw.get("value")
                if name in COMMANDS and (value is None or type(value) is int):
                    self._waiting.append(Command(str(raw["id"]), name, value))
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
