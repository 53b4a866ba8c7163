"""What the keys do where one is: for the help, from the active bindings."""

from dataclasses import dataclass

from textual.dom import DOMNode
from textual.screen import Screen


@dataclass(frozen=True)
class Row:
    """An action: its keys, what it does, and its id for the keymap."""

    keys: str
    text: str
    id: str

    @property
    def searched(self) -> str:
        """What a search looks at."""
        return f"{self.keys} {self.text} {self.id}".casefold()


@dataclass(frozen=True)
class Section:
    """Actions that belong to one place."""

    title: str
    rows: tuple[Row, ...]


_PLACES = ("In this pane", "On this screen", "Everywhere")


def sections(screen: Screen[object]) -> list[Section]:
    """The actions of the focused pane, of the screen, and of everywhere, with all keys of each on one line.

    The app's own keys, which have ids, stand before the toolkit's.
    """
    found: dict[str, dict[str, tuple[list[str], str, str]]] = {place: {} for place in _PLACES}
    active = sorted(screen.active_bindings.items(), key=lambda entry: not entry[1].binding.id)
    for key, one in active:
        binding = one.binding
        if not binding.description or binding.system:
            continue
        toolkit = one.node is screen and not binding.id
        place = _PLACES[2 if one.node is screen.app or toolkit else 1 if one.node is screen else 0]
        text = one.tooltip or binding.description
        keys = found[place].setdefault(binding.action, ([], text, binding.id or ""))[0]
        if (shown := screen.app.get_key_display(binding.with_key(key))) not in keys:
            keys.append(shown)
    return [
        Section(place, tuple(Row(" ".join(keys), text, id) for keys, text, id in rows.values()))
        for place, rows in found.items()
        if rows
    ]


def help_paragraphs(screen: Screen[object]) -> list[str]:
    """What the focused pane and those around it say of themselves (`HELP`), the innermost first."""
    node: DOMNode | None = screen.focused
    found = []
    while node is not None and node is not screen.app:
        if node.HELP:
            found.append(node.HELP.strip())
        node = node.parent if isinstance(node.parent, DOMNode) else None
    return found if screen.focused is not None else [screen.HELP.strip()] if screen.HELP else []
