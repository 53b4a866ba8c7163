"""What a run is told: commands appended to `control.jsonl`, the only way in."""

import json
import time
import uuid
from pathlib import Path

from engine.errors import UserError
from engine.runs.folder import RunFolder

COMMANDS = ("pause", "continue", "stop", "stop_now", "save", "evaluate", "set_log_interval")
"""stop saves the last step boundary; stop_now does not wait for the step that is being computed."""


def send(run: RunFolder, command: str, value: int | None = None) -> str:
    """Tells a run something; it answers with a `control_acknowledged` event of the same id.

    Raises:
        UserError: There is no such command.
    """
    if command not in COMMANDS:
        raise UserError(f"there is no control command {command!r}", hint=", ".join(COMMANDS))
    identity = uuid.uuid4().hex[:12]
    line = json.dumps({"id": identity, "command": command, "value": value, "time": time.time()})
    with run.control.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    return identity


class ControlReader:
    """Reads commands that came since it was made; those for an earlier session of the run are not obeyed again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0

    def poll(self) -> list[tuple[str, str, int | None]]:
        """New commands as (id, command, value); lines that cannot be read are passed over."""
        if not self._path.exists() or self._path.stat().st_size <= self._offset:
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data.rfind(b"\n") + 1
        self._offset += whole
        commands: list[tuple[str, str, int | None]] = []
        for line in data[:whole].splitlines():
            try:
                raw = json.loads(line)
                if raw["command"] in COMMANDS:
                    commands.append((str(raw["id"]), str(raw["command"]), raw.get("value")))
            except (ValueError, KeyError, TypeError):
                continue
        return commands
