"""What the app remembers from one start to the next, and the user's own keys."""

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import platformdirs
import tomli

from engine.settings.places import home

_APP = "minimind"


def state_folder() -> Path:
    """Where the app's state and log live: beside the runs with MINIMIND_HOME, else the platform's state folder."""
    return home() / "state" if os.environ.get("MINIMIND_HOME") else Path(platformdirs.user_state_dir(_APP))


def config_folder() -> Path:
    """Where `keymap.toml` is looked for."""
    return home() if os.environ.get("MINIMIND_HOME") else Path(platformdirs.user_config_dir(_APP))


def log_path() -> Path:
    """The app's log: what other code writes to the terminal goes there."""
    return state_folder() / "tui.log"


@dataclass
class State:
    """Remembered between starts."""

    screen: str = "home"
    run: str = ""
    """The folder of the run that was shown."""
    theme: str = "textual-dark"
    log_y: bool = False
    whole: bool = True
    temperature: float = 0.7
    max_new_tokens: int = 256

    @classmethod
    def load(cls) -> "State":
        """The state of the last start; defaults for what is missing or unreadable."""
        try:
            raw = json.loads((state_folder() / "tui.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return cls()
        if not isinstance(raw, dict):
            return cls()
        state = cls()
        for entry in fields(cls):
            if type(raw.get(entry.name)) is type(entry.default):
                setattr(state, entry.name, raw[entry.name])
        return state

    def save(self) -> None:
        """Writes the state, whole or not at all; a full or read-only disk is no reason to bother the user."""
        try:
            state_folder().mkdir(parents=True, exist_ok=True)
            partial = state_folder() / "tui.json.new"
            partial.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
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
