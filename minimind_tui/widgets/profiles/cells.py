"""Lines of a form as parts of text, each with the role that it is painted as; widths are counted in cells."""

from rich.cells import cell_len, set_cell_size

from engine.clean import clean
from engine.settings.fields import SettingInfo
from engine.settings.values import UNSET
from minimind_tui.core.forms import Draft

Part = tuple[str, str]
"""A text and its role: name, value, own (a value that is no default), muted, heading, changed, wrong."""

_MARK, _NAME = 2, 24
_LEAST_VALUE = 15
_WIDEST_ORIGIN = 22
VALUE_AT = _MARK + _NAME
"""The cell at which a value begins."""


def fit(text: str, cells: int) -> str:
    """The text in exactly so many cells: padded, or cut with an ellipsis."""
    if cells <= 0:
        return ""
    return set_cell_size(text, cells) if cell_len(text) <= cells else f"{set_cell_size(text, cells - 1)}…"


def columns(width: int) -> tuple[int, int]:
    """How many cells of a line its value (with the unit) and its origin have."""
    room = width - VALUE_AT
    origin = min(_WIDEST_ORIGIN, max(0, room - _LEAST_VALUE))
    return room - origin, origin


def setting_parts(draft: Draft, info: SettingInfo, width: int, *, clashes: bool) -> list[Part]:
    """Marker, name, value, unit and origin of a setting; `clashes`: it does not fit to others."""
    name, origin = info.name, draft.origin(info.name)
    wrong, changed = bool(draft.problem(name)) or clashes, draft.changed(name)
    value_room, origin_room = columns(width)
    text = clean(draft.text(name), newlines=False)
    value = fit(text or "–", min(cell_len(text or "–"), value_room - 1))
    unit = f" {info.unit}" if text not in ("", UNSET) else ""
    return [
        ("✗ " if wrong else "● " if changed else "  ", "wrong" if wrong else "changed"),
        (fit(name, _NAME), "name"),
        (value, "muted" if draft.locked(name) else "value" if origin == "default" else "own"),
        (fit(unit, value_room - cell_len(value) - 1) + " ", "muted"),
        (fit(clean(_short(origin, draft), newlines=False), origin_room), "muted"),
    ]


def problem_parts(problem: str, width: int) -> list[Part]:
    """Why the value in the line above cannot be used."""
    return [(" " * VALUE_AT, "muted"), (fit(f"↑ {clean(problem, newlines=False)}", width - VALUE_AT), "wrong")]


def heading_parts(draft: Draft, section: str, width: int) -> list[Part]:
    """A section's name, and what it is about or which checkpoint decides it."""
    about = (draft.stage.sections[section].__doc__ or "").partition("\n")[0]
    if any(draft.stage.settings[name].section == section for name in draft.inherited):
        about = f"inherited from {draft.inherited_from}"
    return [(f"{section}  ", "heading"), (fit(clean(about, newlines=False), width - len(section) - 2), "muted")]


def _short(origin: str, draft: Draft) -> str:
    """An origin in a narrow column."""
    if origin == "user":
        return "not saved"
    if origin == f"profile {draft.profile.name}":
        return "this profile"
    return "inherited" if draft.inherited_from and origin.startswith("inherited ") else origin.removeprefix("profile ")
