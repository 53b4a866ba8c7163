"""What the app remembers from one start to the next, and the user's own keys."""

import json
import os
from pathlib import Path
from typing import Any, TypeVar

import platformdirs
import tomli

from engine.settings.places import home

_APP = "minimind"
T = TypeVar("T")


def state_folder() -> Path:
    """Where the app's state and log live: beside the runs with MINIMIND_HOME, else the platform's state folder."""
    return home() / "state" if os.environ.get("MINIMIND_HOME") else Path(platformdirs.user_state_dir(_APP))


def config_folder() -> Path:
    """Where `keymap.toml` is looked for."""
    return home() if os.environ.get("MINIMIND_HOME") else Path(platformdirs.user_config_dir(_APP))


def log_path() -> Path:
    """The app's log: what other code writes to the terminal goes there."""
    return state_folder() / "tui.log"


class State:
    """Remembered between starts: JSON values by name, such as `data.file`; every area names its own."""

    def __init__(self, values: dict[str, Any] | None = None) -> None:
        self._values = values or {}

    @classmethod
    def load(cls) -> "State":
        """The state of the last start; empty where it is missing or unreadable."""
        try:
            raw = json.loads((state_folder() / "tui.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return cls()
        return cls(raw if isinstance(raw, dict) else None)

    def get(self, name: str, default: T) -> T:
        """What was kept under a name; the default where there is nothing of its type."""
        value = self._values.get(name)
        return value if type(value) is type(default) else default

    def keep(self, name: str, value: Any) -> None:
        """Keeps a JSON value; `save` writes it."""
        self._values[name] = value

    def save(self) -> None:
        """Writes the state, whole or not at all; a full or read-only disk is no reason to bother the user."""
        try:
            state_folder().mkdir(parents=True, exist_ok=True)
            partial = state_folder() / "tui.json.new"
            partial.write_text(json.dumps(self._values, indent=1), encoding="utf-8")
            partial.replace(state_folder() / "tui.json")
        except OSError:
            return


def load_keymap() -> dict[str, str]:
    """The user's keys by binding id, from `keymap.toml`: `quit = "ctrl+x"`, one line an id.

    The ids stand in the help of every screen.
    """
    try:
        raw = tomli.loads((config_folder() / "keymap.toml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomli.TOMLDecodeError):
        return {}
    return {name: keys for name, keys in raw.items() if isinstance(keys, str)}
