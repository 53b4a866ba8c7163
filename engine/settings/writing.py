"""Profiles as TOML files: only what differs from the parent or the defaults is written."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli
import tomli_w

from engine.errors import ProfileError
from engine.files import write_whole
from engine.settings.places import user_profiles
from engine.settings.profile import Profile, built_in_profiles, load_profile, read_profile
from engine.settings.registry import STAGES, StageInfo
from engine.settings.values import UNSET, value_text

_NAME = re.compile(r"(\w[\w.-]*/)*\w[\w.-]*")
_LONGEST_NAME = 200


def base_values(stage: StageInfo, extends: str = "") -> dict[str, Any]:
    """What a profile of this stage begins with: the defaults, and over them the values of what it extends.

    Raises:
        ProfileError: The parent cannot be read.
    """
    parent = load_profile(extends).values if extends else {}
    return {name: parent[name][0] if name in parent else info.default for name, info in stage.settings.items()}


def profile_toml(stage: StageInfo, title: str, values: Mapping[str, Any], extends: str = "") -> str:
    """A profile as TOML text, a table a section.

    Args:
        stage: Its stage.
        title: Its title, empty for none.
        values: Settings by name; those that are as in the parent, or as the defaults without one, are left out.
        extends: The parent, as `load_profile` takes it.

    Raises:
        ProfileError: The parent cannot be read.
    """
    base = base_values(stage, extends)
    head = {"stage": stage.name, "title": title, "extends": extends}
    document: dict[str, Any] = {key: text for key, text in head.items() if text}
    for section in stage.sections:
        table = {
            name: UNSET if values[name] is None else values[name]
            for name, info in stage.settings.items()
            if info.section == section and name in values and values[name] != base[name]
        }
        if table:
            document[section] = table
    return tomli_w.dumps(document)


def revised_toml(profile: Profile, values: Mapping[str, Any]) -> str:
    """The text of a profile with these values: its comments and its order stay wherever that can be done.

    Raises:
        ProfileError: What it extends cannot be read.
    """
    base = base_values(profile.stage, profile.extends)
    stood = base | {name: value for name, (value, _) in profile.values.items()}
    wanted = stood | dict(values)
    text = profile.source
    for name, value in values.items():
        if value != stood[name]:
            text = _with_line(text, profile.stage, name, "" if value == base[name] else _line(name, value))
    try:
        again = read_profile(text, profile.name, place=str(profile.path or ""))
    except ProfileError:
        again = None
    if again is not None and base | {name: value for name, (value, _) in again.values.items()} == wanted:
        return text
    return profile_toml(profile.stage, profile.title, wanted, profile.extends)


def _line(name: str, value: Any) -> str:
    # in a list a text has its quotes
    return f"{name} = {value_text([UNSET if value is None else value])[1:-1]}"


def _with_line(text: str, stage: StageInfo, name: str, line: str) -> str:
    """The text with a setting's line put in, replaced, or taken out where the new one is empty."""
    lines = text.splitlines()
    place = _lines_of(lines, name)
    if place:
        comment = _comment(lines[place.start]) if len(place) == 1 and line else ""
        lines[place.start : place.stop] = [line + comment] if line else []
    elif line:
        section = stage.settings[name].section
        at = _end_of_table(lines, section)
        if at:
            lines.insert(at, line)
        else:
            lines += ["", f"[{section}]", line]
    return "\n".join(lines) + "\n"


def _lines_of(lines: list[str], name: str) -> range:
    """The lines that give a setting its value; empty where none does."""
    begins = re.compile(rf"\s*[\"']?{re.escape(name)}[\"']?\s*=")
    for start, line in enumerate(lines):
        if begins.match(line):
            for stop in range(start + 1, len(lines) + 1):
                if _is_toml("\n".join(lines[start:stop])):
                    return range(start, stop)
    return range(0)


def _comment(line: str) -> str:
    """The comment at the end of a line, with the space before it."""
    for match in re.finditer(r"\s*#", line):
        if _is_toml(line[: match.start()]):
            return line[match.start() :]
    return ""


def _end_of_table(lines: list[str], section: str) -> int:
    """Where a table's next line goes; 0 where there is no such table."""
    header = re.compile(rf"\s*\[\s*{re.escape(section)}\s*\]\s*(#.*)?")
    for start, line in enumerate(lines):
        if header.fullmatch(line):
            inside = range(start + 1, len(lines))
            stop = next((index for index in inside if lines[index].lstrip().startswith("[")), len(lines))
            while not lines[stop - 1].strip():
                stop -= 1
            return stop
    return 0


def _is_toml(text: str) -> bool:
    try:
        tomli.loads(text)
    except tomli.TOMLDecodeError:
        return False
    return True


def check_profile_name(name: str) -> None:
    """Refuses what cannot name a profile of the user's.

    Raises:
        ProfileError: No plain name, or one that means something else already.
    """
    if not _NAME.fullmatch(name) or ".." in name or name.endswith(".toml") or len(name) > _LONGEST_NAME:
        hint = "letters, digits, '-', '_' and '.', with '/' between folders; without .toml"
        raise ProfileError(f"a profile cannot be named {name!r}" if name else "the profile has no name", hint=hint)
    if name in STAGES:
        raise ProfileError(f"{name!r} is a stage's name", hint=f"take another, such as my-{name}")
    if name in built_in_profiles():
        raise ProfileError(f"{name!r} is a built-in profile, which stays as it is", hint="take a name of your own")


def check_free_name(name: str) -> None:
    """Refuses what cannot name a new profile of the user's.

    Raises:
        ProfileError: As `check_profile_name`, or there is one of that name.
    """
    check_profile_name(name)
    path = user_profiles() / f"{name}.toml"
    if path.exists():
        raise ProfileError(f"there is a profile {name!r} already", where=str(path), hint="take another name")


def save_profile(name: str, text: str, *, overwrite: bool = False) -> Path:
    """Writes a profile of the user's, whole or not at all.

    Args:
        name: Its name below the user's profiles folder.
        text: The TOML text.
        overwrite: Replace one of that name.

    Raises:
        ProfileError: The name cannot be, is taken, or the file cannot be written.
    """
    (check_profile_name if overwrite else check_free_name)(name)
    path = user_profiles() / f"{name}.toml"
    write_profile(path, text)
    return path


def write_profile(path: Path, text: str) -> None:
    """Writes a profile's file, whole or not at all.

    Raises:
        ProfileError: It cannot be written.
    """
    try:
        write_whole(path, text)
    except OSError as error:
        raise ProfileError(f"the profile cannot be written: {error.strerror}", where=str(path)) from error
