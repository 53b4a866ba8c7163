"""What the app remembers from one start to the next, and what the user has chosen."""

import json
import os
import shutil
from pathlib import Path
from typing import Any, Literal, TypeVar

import platformdirs
import tomli
import tomli_w
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from engine.files import write_whole
from engine.settings.places import home

_APP = "minimind"
T = TypeVar("T")


def state_folder() -> Path:
    """Where the app's state and log live: beside the runs with MINIMIND_HOME, else the platform's state folder."""
    return home() / "state" if os.environ.get("MINIMIND_HOME") else Path(platformdirs.user_state_dir(_APP))


def config_folder() -> Path:
    """Where `settings.toml` and `keymap.toml` are looked for."""
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
            write_whole(state_folder() / "tui.json", json.dumps(self._values, indent=1))
        except OSError:
            return


class Preferences(BaseModel):
    """What the user has chosen for the app, in `settings.toml`; each setting's docstring is its help."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, validate_assignment=True)

    theme: str = "textual-dark"
    """Colours of everything; moving through the list shows them at once."""
    log_y: bool = False
    """Curves begin with a logarithmic y axis."""
    smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    """How much curves are smoothed at first: 0 not at all, 0.9 strongly (the weight of what came before)."""
    bell: bool = False
    """The terminal's bell rings when a run of this app ends."""
    language: Literal["en"] = "en"
    """Language of the interface; English is the only one so far."""

    _damaged: bool = PrivateAttr(default=False)

    @classmethod
    def load(cls) -> tuple["Preferences", list[str]]:
        """The user's choices, and what is wrong with their file; a bad value leaves the default in its place."""
        path = config_folder() / "settings.toml"
        raw, problems = _read_toml(path)
        good: dict[str, Any] = {}
        for name, value in raw.items():
            try:
                cls.model_validate({name: value})
            except ValidationError as error:
                said = error.errors()[0]["msg"]
                problems.append(f"{path.name}: {name} = {value!r}: {said}" if name in cls.model_fields else
                                f"{path.name}: there is no setting {name!r}")  # fmt: skip
            else:
                good[name] = value
        found = cls.model_validate(good)
        found._damaged = bool(problems)
        return found, problems

    def save(self) -> None:
        """Writes the file; one that could not be read wholly is kept beside it as `settings.toml.old`.

        Raises:
            OSError: The disk does not take it.
        """
        path = config_folder() / "settings.toml"
        if self._damaged and path.exists():
            shutil.copyfile(path, path.with_name("settings.toml.old"))
            self._damaged = False
        write_whole(path, tomli_w.dumps(self.model_dump()))


def read_keymap() -> tuple[dict[str, str], list[str]]:
    """The user's keys by binding id, from `keymap.toml`, and what is wrong with the file.

    A line an id: `quit = "ctrl+x"`, `train.pause = "space,P"`; several keys are parted by commas. The ids stand in the
    help of every screen.
    """
    raw, problems = _read_toml(config_folder() / "keymap.toml")
    keys: dict[str, str] = {}
    _flatten("", raw, keys, problems)
    return keys, problems


def save_keymap(keys: dict[str, str]) -> None:
    """Writes the user's keys by binding id; a file that could not be read wholly is kept as `keymap.toml.old`.

    Raises:
        OSError: The disk does not take it.
    """
    path = config_folder() / "keymap.toml"
    if read_keymap()[1]:
        shutil.copyfile(path, path.with_name("keymap.toml.old"))
    write_whole(path, tomli_w.dumps(dict(sorted(keys.items()))))


def _flatten(prefix: str, table: dict[str, Any], keys: dict[str, str], problems: list[str]) -> None:
    """`train.pause = "x"` is a table in TOML, `"train.pause" = "x"` is not: both mean the same here."""
    for name, value in table.items():
        if isinstance(value, dict):
            _flatten(f"{prefix}{name}.", value, keys, problems)
        elif isinstance(value, str):
            keys[prefix + name] = value
        else:
            problems.append(f'keymap.toml: {prefix}{name} = {value!r}: keys are text, such as "ctrl+x"')


def _read_toml(path: Path) -> tuple[dict[str, Any], list[str]]:
    """A file's table and what is wrong with the file; no file is an empty table."""
    try:
        return tomli.loads(path.read_text(encoding="utf-8")), []
    except FileNotFoundError:
        return {}, []
    except (OSError, UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        return {}, [f"{path} cannot be read and counts for nothing: {error}"]
