"""A profile that is being edited: what is changed, what cannot be, and what would be written. Without Textual."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import ProfileError
from engine.settings.fields import SettingInfo
from engine.settings.profile import Profile, Settings, build
from engine.settings.registry import StageInfo
from engine.settings.values import parse_value, value_text, wrong_with
from engine.settings.writing import profile_toml, revised_toml

Entries = dict[str, tuple[Any, str]]
"""Settings by name: the value and where it comes from."""


@dataclass(frozen=True)
class Edit:
    """How one setting stands in a draft, to be given back to `Draft.restore`."""

    changed: tuple[Any, ...]
    typed: tuple[str, str] | None


class Draft:
    """A profile with the changes that are not saved yet.

    Args:
        profile: What is saved; a new one has no name.
        reference: How it is opened again: its name or its path.

    Attributes:
        saved: Every setting of the stage as it is saved.
        inherited: What a start checkpoint decides, whatever stands here.
        inherited_from: The reference of that checkpoint; set also while it is not there yet.
    """

    def __init__(self, profile: Profile, reference: str = "") -> None:
        self.profile, self.stage, self.reference = profile, profile.stage, reference
        self.saved, self._bad = self._read(profile)
        self.inherited: dict[str, Any] = {}
        self.inherited_from = ""
        self._changes: dict[str, Any] = {}
        self._typed: dict[str, tuple[str, str]] = {}

    def _read(self, profile: Profile) -> tuple[Entries, dict[str, str]]:
        """What is saved, and what of it cannot be used."""
        saved = entries_of(profile)
        return saved, {
            name: wrong for name, (value, _) in saved.items() if (wrong := wrong_with(self.stage, name, value))
        }

    @property
    def is_new(self) -> bool:
        """Whether it was never saved."""
        return not self.profile.name

    @property
    def title(self) -> str:
        """What it is called on the screen."""
        return f"new {self.stage.name} profile" if self.is_new else self.reference

    # One setting

    def value(self, name: str) -> Any:
        """The value that a run would have, as far as what was typed can be used."""
        if name in self.inherited:
            return self.inherited[name]
        return self._changes.get(name, self.saved[name][0])

    def text(self, name: str) -> str:
        """The value as it is typed, also where it cannot be used."""
        return self._typed[name][0] if name in self._typed else value_text(self.value(name))

    def origin(self, name: str) -> str:
        """Where the value comes from, in the engine's words."""
        if name in self.inherited:
            return f"inherited {self.inherited_from}"
        return "user" if self.changed(name) else self.saved[name][1]

    def changed(self, name: str) -> bool:
        """Whether it is not as it is saved."""
        return name in self._changes or name in self._typed

    def problem(self, name: str) -> str:
        """Why the value cannot be used; empty where it can."""
        if name in self.inherited:
            return ""
        if name in self._typed:
            return self._typed[name][1]
        return "" if name in self._changes else self._bad.get(name, "")

    def locked(self, name: str) -> bool:
        """Whether a checkpoint decides it."""
        return name in self.inherited

    def enter(self, name: str, text: str) -> str:
        """Takes in a typed text; one that cannot be used is kept as it is.

        Returns:
            Why it cannot be used, or nothing.
        """
        value = parse_value(text, self.stage.settings[name])
        if problem := wrong_with(self.stage, name, value):
            self._typed[name] = text, problem
        else:
            self._set(name, value)
        return problem

    def _set(self, name: str, value: Any) -> None:
        self._typed.pop(name, None)
        self._changes.pop(name, None)
        if value != self.saved[name][0]:
            self._changes[name] = value

    def step(self, name: str, by: int) -> bool:
        """The next or the previous choice; False where the setting is no choice."""
        info = self.stage.settings[name]
        if info.type == "bool":
            self._set(name, not self.value(name))
        elif info.choices:
            now = info.choices.index(self.value(name)) if self.value(name) in info.choices else 0
            self._set(name, info.choices[(now + by) % len(info.choices)])
        else:
            return False
        return True

    def undo(self, name: str) -> None:
        """Back to what is saved."""
        self._typed.pop(name, None)
        self._changes.pop(name, None)

    def undo_all(self) -> None:
        """Everything back to what is saved."""
        self._typed.clear()
        self._changes.clear()

    def mark_saved(self, written: Entries) -> None:
        """Takes for saved what was written, as `asked` gave it; what was changed since stays a change."""
        asked, self.saved, self._bad = self.asked, written, {}
        self._changes = {name: value for name, (value, _) in asked.items() if value != written[name][0]}
        for name in self.inherited:
            self._typed.pop(name, None)

    def rebase(self, profile: Profile) -> None:
        """Puts the changes over what was read again, a profile of the same stage."""
        self.profile, (self.saved, self._bad) = profile, self._read(profile)
        self._changes = {name: value for name, value in self._changes.items() if value != self.saved[name][0]}

    def remember(self, name: str) -> Edit:
        """How a setting stands, for `restore`."""
        return Edit((self._changes[name],) if name in self._changes else (), self._typed.get(name))

    def restore(self, name: str, edit: Edit) -> None:
        """Puts a setting back to how it stood."""
        self.undo(name)
        if edit.changed:
            self._changes[name] = edit.changed[0]
        if edit.typed:
            self._typed[name] = edit.typed

    # The whole

    @property
    def unsaved(self) -> int:
        """How many settings are not as they are saved."""
        return len(self._changes.keys() | self._typed.keys())

    @property
    def asked(self) -> Entries:
        """Every setting as the profile and the user have it, whatever a checkpoint decides."""
        return self.saved | {name: (value, "user") for name, value in self._changes.items()}

    @property
    def entries(self) -> Entries:
        """Every setting as a run would have it."""
        return self.asked | {name: (value, self.origin(name)) for name, value in self.inherited.items()}

    @property
    def unusable(self) -> list[str]:
        """Settings whose value cannot be used."""
        return [name for name in self.stage.settings if self.problem(name)]

    def settings(self) -> Settings:
        """All settings, checked together.

        Raises:
            ProfileError: A value that cannot be used, or values that do not fit together.
        """
        return build(self.stage, self.entries)

    def mismatch(self) -> str:
        """What does not fit together, where every value by itself could be used."""
        try:
            self.settings()
        except ProfileError as error:
            return "" if self.unusable else error.what
        return ""

    def concerned(self) -> set[str]:
        """The settings that `mismatch` speaks of."""
        return set(re.findall(r"\w+", self.mismatch())) & self.stage.settings.keys()

    def assignments(self) -> tuple[str, ...]:
        """What is changed as `name=value`; what a checkpoint decides is left out."""
        return tuple(
            f"{name}={value_text(value)}" for name, value in self._changes.items() if name not in self.inherited
        )

    def command(self) -> str:
        """The command line that trains this profile as it stands; empty while it has no name."""
        if self.is_new:
            return ""
        parts = ["engine", "train", self.reference]
        for assignment in self.assignments():
            parts += ["--set", assignment]
        return shlex.join(parts)

    def _values(self) -> dict[str, Any]:
        """What would be written; a checkpoint's values are not the profile's."""
        return {name: value for name, (value, _) in self.asked.items()}

    def revised(self) -> str:
        """The text of the profile's own file with the changes.

        Raises:
            ProfileError: What it extends cannot be read.
        """
        return revised_toml(self.profile, self._values())

    def copied(self, title: str) -> str:
        """The text of a copy under another name.

        Raises:
            ProfileError: What it extends cannot be read.
        """
        return profile_toml(self.stage, title, self._values(), self.base_of_copy)

    @property
    def base_of_copy(self) -> str:
        """What a copy extends: a built-in profile itself, of others their parent if it can be named from elsewhere."""
        if self.profile.path is None:
            return self.reference
        return "" if Path(self.profile.extends).suffix == ".toml" else self.profile.extends


def entries_of(profile: Profile) -> Entries:
    """Every setting of a profile's stage, its own or the default; nothing is checked."""
    return default_entries(profile.stage) | profile.values


def default_entries(stage: StageInfo) -> Entries:
    """Every setting of a stage with its default."""
    return {name: (info.default, "default") for name, info in stage.settings.items()}


def new_draft(stage: StageInfo) -> Draft:
    """A draft of the stage's defaults."""
    return Draft(Profile("", stage, "", {}, ""))


_KINDS = {
    "int": "whole number",
    "float": "number",
    "bool": "true | false",
    "str": "text",
    "list[str]": 'texts: ["a", "b"]',
    "dict[str, str]": '{ name = "text" }',
    "dict[str, float]": "{ name = 1.0 }",
}


def range_text(info: SettingInfo) -> str:
    """What a setting may be: its choices, or its type and its range."""
    said = [" | ".join(info.choices) or _KINDS.get(info.type, info.type)]
    if info.minimum is not None:
        said.append(f"{'above' if info.above else 'from'} {value_text(info.minimum)}")
    if info.maximum is not None:
        said.append(f"{'below' if info.below else 'to'} {value_text(info.maximum)}")
    return " ".join(said) + (", or unset" if info.optional else "")
