"""Profiles: settings in TOML, with the origin of every value.

A profile has a `stage`, a `title`, perhaps an `extends`, and settings. A setting's name is unique within its stage, so
it may stand at the top or in the table of its section; `--set name=value` uses the same bare names. `"unset"` takes a
parent's value back where a setting may be left open.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, cast

import tomli
from pydantic import ValidationError

from engine.errors import ProfileError
from engine.settings.data import DataSettings
from engine.settings.fields import Section
from engine.settings.model import ModelSettings
from engine.settings.places import user_profiles
from engine.settings.registry import StageInfo, find_stage
from engine.settings.suggest import nearest
from engine.settings.tokenizer import TokenizerSettings
from engine.settings.training import TrainingSettings
from engine.settings.values import UNSET, explained, find_setting, parse_value

S = TypeVar("S", bound=Section)

_HEAD = ("stage", "title", "extends")


@dataclass(frozen=True)
class Profile:
    """A named set of values for a stage; `values` maps a setting to its value and where it comes from."""

    name: str
    stage: StageInfo
    title: str
    values: dict[str, tuple[Any, str]]
    source: str
    """The TOML text as it was given."""
    extends: str = ""
    """The profile whose values it begins with, as `load_profile` takes it."""
    path: Path | None = None
    """Where it can be changed; None: it came with the program."""


@dataclass(frozen=True)
class Settings:
    """All settings of a run, checked, each with its origin."""

    stage: StageInfo
    sections: dict[str, Section]
    origins: dict[str, str]

    @property
    def model(self) -> ModelSettings:
        return cast(ModelSettings, self.sections["model"])

    @property
    def data(self) -> DataSettings:
        return cast(DataSettings, self.sections["data"])

    @property
    def training(self) -> TrainingSettings:
        return cast(TrainingSettings, self.sections["training"])

    @property
    def tokenizer(self) -> TokenizerSettings:
        return cast(TokenizerSettings, self.sections["tokenizer"])

    def part(self, kind: type[S]) -> S:
        """The section of that kind; what a stage needs of its own."""
        return next(section for section in self.sections.values() if isinstance(section, kind))

    def values(self) -> dict[str, Any]:
        """Every setting's value by its profile name."""
        return {
            key: value for section in self.sections.values() for key, value in section.model_dump(by_alias=True).items()
        }

    def replace(self, changes: Mapping[str, Any], origin: str) -> "Settings":
        """The same settings with some values changed, their origin noted; checked again."""
        values = {name: (value, self.origins[name]) for name, value in self.values().items()}
        return build(self.stage, values | {name: (value, origin) for name, value in changes.items()})

    def to_json(self) -> dict[str, Any]:
        """What `resolved.json` holds."""
        where = self.stage.settings
        return {
            "stage": self.stage.name,
            "settings": {
                name: {"value": value, "origin": self.origins[name], "section": where[name].section}
                for name, value in self.values().items()
            },
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Settings":
        """Reads what `to_json` wrote.

        Raises:
            ProfileError: It was written by a program that knows other settings.
        """
        stage, saved = find_stage(str(data.get("stage"))), data.get("settings")
        if not isinstance(saved, Mapping) or saved.keys() != stage.settings.keys():
            differing = sorted(set(saved or ()) ^ stage.settings.keys())
            raise ProfileError(
                f"the run's settings are another version's: {', '.join(differing[:4])}",
                where="resolved.json",
                hint="start a new run with --from this one",
            )
        return build(stage, {name: (entry["value"], entry["origin"]) for name, entry in saved.items()})


def built_in_profiles() -> Iterator[str]:
    """Names of the profiles that come with the program; files whose name starts with `_` are bases to extend."""
    root = resources.files("profiles")
    for folder in sorted((entry for entry in root.iterdir() if entry.is_dir()), key=lambda entry: entry.name):
        for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
            if file.name.endswith(".toml") and not file.name.startswith("_"):
                yield f"{folder.name}/{file.name.removesuffix('.toml')}"


def list_profiles() -> list[str]:
    """All profile names: the built-in ones and the user's own."""
    own = user_profiles()
    mine = [path.relative_to(own).with_suffix("").as_posix() for path in sorted(own.rglob("*.toml"))]
    return [*dict.fromkeys((*built_in_profiles(), *mine))]


def load_profile(reference: str | Path) -> Profile:
    """Reads a profile by name (built-in or the user's) or by path, with what it extends.

    Raises:
        ProfileError: It does not exist, is no TOML, names no stage, or has an unknown key.
    """
    return _load(str(reference), ())


def _load(reference: str, seen: tuple[str, ...]) -> Profile:
    if reference in seen:
        raise ProfileError(f"profiles extend each other in a circle: {' → '.join((*seen, reference))}")
    name, text, place, path = _find(reference)
    return read_profile(text, name, place=place, path=path, seen=(*seen, reference))


def read_profile(
    text: str, name: str, *, place: str = "", path: Path | None = None, seen: tuple[str, ...] = ()
) -> Profile:
    """Reads a profile's TOML text, with what it extends.

    Args:
        text: The TOML text.
        name: The profile's name, for the origins of its values.
        place: Where the text stands: for errors, and for a parent that is named by a path beside it.
        path: The file, where it may be changed.
        seen: The profiles on the way here, each of which extends the next.

    Raises:
        ProfileError: As `load_profile`.
    """
    try:
        raw = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise ProfileError(f"not valid TOML: {error}", where=place) from error
    for key in _HEAD:
        if not isinstance(raw.get(key, ""), str):
            raise ProfileError(f"{key} must be a text", where=f"{place}: {key}")
    base: Profile | None = None
    parent = raw.get("extends", "")
    if parent:
        near = Path(place).parent / parent
        parent = str(near) if near.suffix == ".toml" and near.is_file() else parent
        base = _load(parent, seen)
    stage = find_stage(raw["stage"]) if "stage" in raw else (base.stage if base else None)
    if stage is None:
        raise ProfileError("the profile names no stage", where=place, hint='add a line such as stage = "sft"')
    values = {key: entry for key, entry in base.values.items() if key in stage.settings} if base else {}
    for key, value in _flatten(raw, stage, place):
        values[key] = (value, f"profile {name}")
    return Profile(name, stage, str(raw.get("title", "")), values, text, parent, path)


def _find(reference: str) -> tuple[str, str, str, Path | None]:
    """The name, the text and the place of a profile, and its file if it is the user's."""
    path, name = Path(reference).expanduser(), reference
    if path.suffix == ".toml" and not path.is_file():
        raise ProfileError(
            f"there is no profile file {reference!r}", hint="engine profile list shows the built-in ones"
        )
    if path.is_file():
        name = path.stem
    else:
        path = user_profiles() / f"{reference}.toml"
    own = path if path.is_file() else None
    candidate: Any = own or resources.files("profiles").joinpath(*f"{reference}.toml".split("/"))
    if not candidate.is_file():
        hint = nearest(reference, list_profiles()) or "engine profile list shows them"
        raise ProfileError(f"there is no profile {reference!r}", hint=hint)
    try:
        return name, candidate.read_text(encoding="utf-8"), str(candidate), own
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"the profile cannot be read: {error}", where=str(candidate)) from error


def _flatten(raw: Mapping[str, Any], stage: StageInfo, place: str) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for key, value in raw.items():
        if key in _HEAD:
            continue
        pairs = [(key, value, "")]
        if key in stage.sections and isinstance(value, dict):
            pairs = [(name, inner, key) for name, inner in value.items()]
        for name, inner, section in pairs:
            elsewhere = stage.settings.get(name) if section else None
            if elsewhere and elsewhere.section != section and f"{section}_{name}" not in stage.settings:
                raise ProfileError(f"{name!r} belongs in [{elsewhere.section}], not in [{section}]", where=place)
            info = find_setting(stage, f"{section}.{name}" if section else name, place)
            if info.name in seen:
                raise ProfileError(f"{info.name!r} stands twice", where=place)
            seen.add(info.name)
            yield info.name, None if inner == UNSET and info.optional else inner


def parse_assignments(assignments: tuple[str, ...], stage: StageInfo) -> dict[str, Any]:
    """Reads `name=value` arguments; values are TOML, anything else is taken as text.

    Raises:
        ProfileError: No `=`, or a name that the stage does not have.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip()
        if not equals:
            raise ProfileError(f"--set {assignment!r} has no '='", hint="write --set name=value")
        info = find_setting(stage, name, f"--set {name}")
        values[info.name] = parse_value(text, info)
    return values


def resolve(
    profile: Profile,
    user: Mapping[str, Any] | None = None,
    inherited: Mapping[str, Any] | None = None,
    inherited_from: str = "",
) -> Settings:
    """The settings of a run: defaults, then the profile, then what is inherited, then the user's own words.

    Raises:
        ProfileError: A wrong type, a value out of range, an impossible combination, or a user's value that
            contradicts what is inherited from a checkpoint.
    """
    values = dict(profile.values)
    for name, value in (inherited or {}).items():
        if user and name in user and user[name] != value:
            raise ProfileError(
                f"{name}={json.dumps(user[name])} contradicts the checkpoint, which has {json.dumps(value)}",
                where=f"--set {name}",
                hint=f"leave it out: the shape is inherited from {inherited_from}",
            )
        values[name] = (value, f"inherited {inherited_from}")
    for name, value in (user or {}).items():
        if not (inherited and name in inherited):
            values[name] = (value, "user")
    return build(profile.stage, values)


def build(stage: StageInfo, values: Mapping[str, tuple[Any, str]]) -> Settings:
    """Checks values and puts them into their sections.

    Raises:
        ProfileError: As `resolve`.
    """
    sections: dict[str, Section] = {}
    known = stage.settings
    for key, kind in stage.sections.items():
        given = {name: value for name, (value, _) in values.items() if known[name].section == key}
        try:
            sections[key] = kind.model_validate(given)
        except ValidationError as error:
            raise explained(error, key, values, stage) from error
    origins = {name: values[name][1] if name in values else "default" for name in known}
    return Settings(stage, sections, origins)
