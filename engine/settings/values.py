"""Single values: read from text, written as text, checked by themselves."""

import json
from collections.abc import Mapping
from typing import Any

import tomli
from pydantic import ValidationError

from engine.errors import ProfileError
from engine.settings.fields import SettingInfo
from engine.settings.registry import StageInfo
from engine.settings.suggest import nearest

UNSET = "unset"
"""The word for a setting without a value of its own, in profiles (TOML has no null) and after `--set`."""


def find_setting(stage: StageInfo, name: str, where: str = "") -> SettingInfo:
    """The setting of that name, or of `section.name`, where the section's own name may be left out: `lora.rank`.

    Raises:
        ProfileError: The stage has none; the nearest name is suggested.
    """
    section, _, inner = name.rpartition(".")
    for known in (inner, f"{section}_{inner}") if section in stage.sections else (name,):
        if known in stage.settings and stage.settings[known].section in (section or stage.settings[known].section):
            return stage.settings[known]
    hint = nearest(inner, stage.settings) or f"engine profile show {stage.name} lists them"
    raise ProfileError(f"unknown setting {name!r} for stage {stage.name}", where=where, hint=hint)


def parse_value(text: str, info: SettingInfo) -> Any:
    """What a text means as the value of a setting: TOML; anything else is taken as text. Nothing is checked."""
    text = text.strip()
    if info.optional and text in ("", UNSET):
        return None
    if info.type in ("str", "choice"):
        return text.strip("\"'")
    try:
        return tomli.loads(f"value = {text}")["value"]
    except tomli.TOMLDecodeError:
        return text


def value_text(value: Any) -> str:
    """A value as `parse_value` reads it: a plain text for texts, TOML in one line for everything else."""
    return value if isinstance(value, str) else _toml(value)


def _toml(value: Any) -> str:
    match value:
        case None:
            return UNSET
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
        case list() | tuple():
            return f"[{', '.join(map(_toml, value))}]"
        case Mapping():
            pairs = ", ".join(f"{_toml(key)} = {_toml(inner)}" for key, inner in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case bool():
            return str(value).lower()
        case _:
            return repr(value).replace("e-0", "e-")


def validate_value(stage: StageInfo, name: str, text: str) -> Any:
    """Reads the text of one setting and checks it by itself: its type and its range, not how it fits to others.

    Raises:
        ProfileError: The stage has no such setting, or it cannot have this value.
    """
    value = parse_value(text, find_setting(stage, name))
    check_value(stage, name, value)
    return value


def check_value(stage: StageInfo, name: str, value: Any) -> None:
    """Checks one setting's value by itself.

    Raises:
        ProfileError: It cannot have this value.
    """
    section = find_setting(stage, name).section
    try:
        stage.sections[section].model_validate({name: value})
    except ValidationError as error:
        if error.errors()[0]["loc"]:  # without a place, it only does not fit to the defaults of others
            raise explained(error, section, {name: (value, "user")}, stage) from error


def wrong_with(stage: StageInfo, name: str, value: Any) -> str:
    """What is wrong with a value by itself, in a few words for a place that names setting and value; empty: nothing."""
    try:
        check_value(stage, name, value)
    except ProfileError as error:
        return error.what.removeprefix(f"{name} = {_shown(value)}: ").replace("Input should be", "must be")
    return ""


def explained(
    error: ValidationError, section: str, values: Mapping[str, tuple[Any, str]], stage: StageInfo
) -> ProfileError:
    """The first thing that is wrong with a section's values, and where it comes from."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    message = first["msg"].removeprefix("Value error, ")
    if name:
        message = f"{name} = {_shown(values[name][0])}: {message}"
    origin = values[name][1] if name in values else ""
    place = f"--set {name}" if origin == "user" else f"{origin}: {name}" if origin else f"[{section}]"
    hint = f"a value to begin with: {stage.settings[name].start}" if name in stage.settings else ""
    return ProfileError(message, where=place, hint=hint)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
