"""In which settings two things differ: profiles, defaults, runs. Without Textual."""

from collections.abc import Mapping
from dataclasses import dataclass

from engine.runs.folder import RunFolder
from engine.settings.values import value_text
from minimind_tui.core.forms import Entries

ABSENT = "–"
"""What stands for a setting that the other stage does not have."""


@dataclass(frozen=True)
class Difference:
    """One setting that differs: its values as texts, and where they come from."""

    name: str
    one: str
    other: str
    one_origin: str
    other_origin: str


def differences(one: Entries, other: Entries) -> list[Difference]:
    """What differs, in the order of the first; a setting that one of them lacks differs as well."""
    names = [*one, *(name for name in other if name not in one)]
    return [
        Difference(name, _text(one, name), _text(other, name), _origin(one, name), _origin(other, name))
        for name in names
        if name not in one or name not in other or one[name][0] != other[name][0]
    ]


def _text(entries: Entries, name: str) -> str:
    return value_text(entries[name][0]) if name in entries else ABSENT


def _origin(entries: Entries, name: str) -> str:
    return entries[name][1] if name in entries else ""


def run_entries(run: RunFolder) -> Entries:
    """A run's settings as it saved them, also those that another version of the program knew.

    Raises:
        CheckpointError: They cannot be read.
    """
    saved = run.read_json(run.resolved).get("settings")
    if not isinstance(saved, Mapping):
        return {}
    return {
        str(name): (entry.get("value"), str(entry.get("origin", "")))
        for name, entry in saved.items()
        if isinstance(entry, Mapping)
    }
