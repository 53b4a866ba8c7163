"""What a setting is: a typed field with its four answers, its unit and its range."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType, NoneType
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

_LIMITS = ("ge", "gt", "le", "lt")


def setting(
    default: Any,
    *,
    controls: str,
    high: str,
    low: str,
    start: str,
    unit: str = "",
    alias: str | None = None,
    **limits: Any,
) -> Any:
    """Declares a setting.

    Args:
        default: The value where nobody says otherwise.
        controls: What it controls.
        high: What happens when it is too high (or switched on where it should not be).
        low: What happens when it is too low (or left off).
        start: A value to start from on an 8 GB card.
        unit: The unit of the value, empty for plain numbers and words.
        alias: The name in profiles where it cannot be the Python name.
        **limits: `ge`, `gt`, `le`, `lt` as pydantic's.
    """
    answers = {"controls": controls, "high": high, "low": low, "start": start, "unit": unit}
    names = {"validation_alias": alias, "serialization_alias": alias} if alias else {}
    options: dict[str, Any] = {"description": controls, "json_schema_extra": {"answers": answers}, **names, **limits}
    return Field(default, **options)


class Section(BaseModel):
    """A group of settings; a table of a profile."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@dataclass(frozen=True)
class SettingInfo:
    """What is known of one setting, for help texts, forms and documents."""

    name: str
    section: str
    type: str
    default: Any
    controls: str
    high: str
    low: str
    start: str
    unit: str
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    optional: bool
    """Whether it may be left unset, so that it follows from others."""
    above: bool
    """Whether the minimum itself is excluded."""
    below: bool
    """Whether the maximum itself is excluded."""


@cache
def describe_section(name: str, section: type[Section]) -> Mapping[str, SettingInfo]:
    """The settings of a section by the name that profiles use."""
    described = (_describe(name, field, of) for field, of in section.model_fields.items())
    return MappingProxyType({info.name: info for info in described})


def _describe(section: str, field_name: str, field: FieldInfo) -> SettingInfo:
    extra = field.json_schema_extra
    assert isinstance(extra, Mapping)
    answers = extra["answers"]
    assert isinstance(answers, Mapping)
    limits = {key: value for of in field.metadata for key in _LIMITS if (value := getattr(of, key, None)) is not None}
    choices = getattr(field.annotation, "__args__", ()) if "Literal" in str(field.annotation) else ()
    return SettingInfo(
        name=str(field.serialization_alias or field_name),
        section=section,
        type=_type_name(field.annotation),
        default=field.get_default(call_default_factory=True),
        minimum=limits.get("gt", limits.get("ge")),
        maximum=limits.get("lt", limits.get("le")),
        choices=tuple(str(choice) for choice in choices if choice is not None),
        optional=NoneType in get_args(field.annotation),
        above="gt" in limits,
        below="lt" in limits,
        **{key: str(answers[key]) for key in ("controls", "high", "low", "start", "unit")},
    )


def _type_name(annotation: Any) -> str:
    text = getattr(annotation, "__name__", str(annotation)) if isinstance(annotation, type) else str(annotation)
    if "Literal" in text:
        return "choice"
    return text.replace("typing.", "").replace(" | None", "")
