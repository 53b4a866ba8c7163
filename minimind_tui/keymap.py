"""All keys of the app by the ids of their bindings: the user's own, what clashes, and the table for the documentation.

`python -m minimind_tui.keymap` prints the table as Markdown.
"""

import pkgutil
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module

from textual.binding import Binding
from textual.dom import DOMNode
from textual.keys import KEY_NAME_REPLACEMENTS, Keys, format_key, key_to_character
from textual.keys import _character_to_key as key_of_character
from textual.screen import ModalScreen, Screen

import minimind_tui
from minimind_tui.widgets.area_bar import AREAS

_MODIFIERS = {"ctrl", "shift", "alt", "super", "hyper", "meta"}
_TWINS = {"ctrl+i": "tab", "ctrl+m": "enter", "ctrl+h": "backspace", "ctrl+left_square_bracket": "escape"}
_TAKEN = {
    "ctrl+b": "tmux", "ctrl+a": "screen", "ctrl+s": "the terminal (it stops output)",
    "ctrl+z": "the shell (it stops programs)", "ctrl+c": "copying", "ctrl+p": "the command palette",
    "tab": "walking through the panes", "shift+tab": "walking through the panes", "escape": "going back",
    **dict.fromkeys(("up", "down", "left", "right"), "moving about"),
}  # fmt: skip
_EVERYWHERE = "Everywhere"
_TITLES = {
    "": _EVERYWHERE, "area": _EVERYWHERE, "help": _EVERYWHERE, "quit": _EVERYWHERE, "app": _EVERYWHERE,
    **AREAS, "list": "In a list", "pane": "In a pane", "dialog": "In a dialog",
}  # fmt: skip


@dataclass(frozen=True)
class Key:
    """A binding that has an id.

    Attributes:
        keys: The keys that it has without a keymap.
        what: What it does, in a few words.
        detail: The same in a sentence, where there is one.
        priority: It works in dialogs and inputs too.
        classes: The widgets, screens or app that have it.
    """

    id: str
    keys: tuple[str, ...]
    what: str
    detail: str
    priority: bool
    classes: frozenset[type[DOMNode]] = field(repr=False)

    @property
    def group(self) -> str:
        """Where it works: the title of its area, or what kind of pane it is for."""
        return group_title(self.id)

    @property
    def in_dialog(self) -> bool:
        """Whether it works in dialogs only."""
        return all(issubclass(owner, ModalScreen) for owner in self.classes)

    @property
    def text(self) -> str:
        """The longest description there is."""
        return self.detail or self.what


def group_title(id: str) -> str:
    """The heading for a binding: from the first part of its id."""
    prefix = id.partition(".")[0] if "." in id else ""
    return _TITLES.get(prefix, prefix.replace("_", " ").capitalize())


@cache
def known_keys() -> Mapping[str, Key]:
    """Every binding that has an id and a description in the app's classes, by id, in the order of the table."""
    for package in ("screens", "widgets"):
        where = f"{minimind_tui.__name__}.{package}"
        for module in pkgutil.walk_packages(import_module(where).__path__, f"{where}."):
            import_module(module.name)
    import_module("minimind_tui.app")
    found: dict[str, Key] = {}
    for owner in _classes(DOMNode):
        for binding in Binding.make_bindings(owner.__dict__.get("BINDINGS", [])):
            if binding.id and binding.description:
                known = found.get(binding.id)
                keys, classes = (known.keys, known.classes) if known else ((), frozenset())
                found[binding.id] = Key(
                    binding.id, tuple(dict.fromkeys([*keys, binding.key])), binding.description, binding.tooltip,
                    binding.priority, classes | {owner},
                )  # fmt: skip
    order = list(dict.fromkeys(_TITLES.values()))
    places = {title: place for place, title in enumerate(order)}
    ranked = sorted(found.values(), key=lambda key: (places.get(key.group, len(places)), key.group))
    return {key.id: key for key in ranked}


def _classes(root: type[DOMNode]) -> Iterator[type[DOMNode]]:
    """The project's classes below a class, each once."""
    seen: set[type[DOMNode]] = set()
    waiting = [root]
    while waiting:
        for child in waiting.pop().__subclasses__():
            if child not in seen:
                seen.add(child)
                waiting.append(child)
    own = [one for one in seen if one.__module__.split(".")[0] == minimind_tui.__name__]
    return iter(sorted(own, key=lambda one: (one.__module__, one.__qualname__)))


def split_keys(text: str) -> list[str]:
    """`?, ctrl+x` as Textual names the keys: `question_mark`, `ctrl+x`."""
    parts = [part.strip() for part in text.split(",")]
    return [key_of_character(part) if len(part) == 1 else part for part in parts if part]


def show_key(key: str) -> str:
    """A key as people write it: `ctrl+p`, `?`, `↑`."""
    *modifiers, name = key.split("+")
    return "+".join([*modifiers, format_key(name)])


def is_key(key: str) -> bool:
    """Whether a terminal could ever send it."""
    *modifiers, name = key.split("+")
    if not set(modifiers) <= _MODIFIERS:
        return False
    if len(name) == 1 or name in _names():
        return True
    try:
        unicodedata.lookup(name.replace("_", " "))
    except KeyError:
        return False
    return True


@cache
def _names() -> frozenset[str]:
    plain = {key.value for key in Keys if "<" not in key.value and "+" not in key.value}
    return frozenset(plain | set(KEY_NAME_REPLACEMENTS.values()))


def problems(overrides: Mapping[str, str]) -> list[str]:
    """What is wrong with the user's keys: unknown ids, keys that do not exist, and clashes by name."""
    keys, found = known_keys(), []
    for id in overrides:
        if id not in keys:
            found.append(f"there is no binding {id!r}")
        else:
            found += objections(id, overrides[id], overrides)
    return list(dict.fromkeys(found))


def objections(id: str, wanted: str, overrides: Mapping[str, str]) -> list[str]:
    """Why a binding cannot have these keys beside the user's other ones; nothing if it can."""
    keys = known_keys()
    mine, found = keys[id], []
    if not split_keys(wanted):
        return [f"{id} has no key left"]
    for key in split_keys(wanted):
        if not is_key(key):
            found.append(f"{id}: there is no key {key!r}")
        elif key in _TWINS:
            found.append(f"{id}: {show_key(key)} is the same as {_TWINS[key]} in many terminals")
        elif key in _TAKEN and key not in mine.keys:
            found.append(f"{id}: {show_key(key)} belongs to {_TAKEN[key]}")
        elif mine.priority and key_to_character(key) is not None:
            found.append(f"{id}: it works while you type, so {show_key(key)} cannot be its key")
        found += [
            f"{' and '.join(sorted((f'{id} ({mine.what})', f'{other.id} ({other.what})')))}: both on {show_key(key)}"
            for other in keys.values()
            if other.id != id and key in _keys_of(other, overrides) and _meet(mine, other)
        ]
    return found


def _keys_of(key: Key, overrides: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(split_keys(overrides[key.id])) if overrides.get(key.id) else key.keys


def _meet(one: Key, other: Key) -> bool:
    """Whether two bindings can be wanted at the same time.

    Bindings that share a key by default were made not to: only one of them is active.
    """
    if set(one.keys) & set(other.keys):
        return False
    if one.classes & other.classes or one.priority or other.priority:
        return True
    if one.in_dialog or other.in_dialog:
        return False
    places = {key.id.partition(".")[0] for key in (one, other)}
    return len(places) == 1 or not places <= _screens()


@cache
def _screens() -> frozenset[str]:
    """First parts of the ids that belong to one screen; all others, such as those of a list, may stand on any."""
    keys = known_keys().values()
    owned = {key.id.partition(".")[0] for key in keys if any(issubclass(owner, Screen) for owner in key.classes)}
    return frozenset(owned | set(AREAS)) - {"list", "pane"}


def effective(overrides: Mapping[str, str]) -> dict[str, str]:
    """The keymap for Textual: what can be used of the user's keys.

    Textual takes a key from every binding of a class when one of them is moved away; those that shared it get it back.
    """
    if not overrides:
        return {}
    keys = known_keys()
    used = {id: wanted for id, wanted in overrides.items() if id in keys and not objections(id, wanted, overrides)}
    moved = {key for id in used for key in keys[id].keys}
    left = {
        other.id: ",".join(other.keys)
        for other in keys.values()
        if other.id not in used and moved & set(other.keys) and any(other.classes & keys[id].classes for id in used)
    }
    return {**left, **{id: ",".join(split_keys(wanted)) for id, wanted in used.items()}}


def table(keys: Iterable[Key] | None = None) -> str:
    """The keys as Markdown: where they work, what they do, and the id for `keymap.toml`."""
    lines, group = [_HEAD], ""
    for key in known_keys().values() if keys is None else keys:
        if key.group != group:
            group = key.group
            lines += ["", f"## {group}", "", "| key | what it does | id |", "| --- | --- | --- |"]
        shown = " ".join(f"`{show_key(one)}`" if one != "vertical_line" else "`\\|`" for one in key.keys)
        lines.append(f"| {shown} | {key.text.replace('|', chr(92) + '|')} | `{key.id}` |")
    return "\n".join(lines) + "\n"


_HEAD = """# Keys of minimind-tui

Made from the bindings by `python -m minimind_tui.keymap`. Everything can be done without a mouse; `?` (or `F1`, also in
dialogs and inputs) shows what works where you are, `ctrl+p` finds every action by name. Escape goes back one step.

Other keys: in the settings (`F2`), or by hand in `keymap.toml` in the configuration folder, a line an id:

```toml
"train.pause" = "space"
"quit" = "ctrl+x,ctrl+q"
```

A key that would clash is refused by name."""


if __name__ == "__main__":
    print(table(), end="")
