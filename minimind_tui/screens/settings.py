"""Settings of the app: what the user has chosen, and the keys. Every change takes effect, and is written, at once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from pydantic import ValidationError
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.events import Key as KeyPress
from textual.screen import ModalScreen
from textual.widgets import DataTable, Input, OptionList, Static
from textual.widgets.option_list import Option

from engine.clean import clean
from minimind_tui.keymap import effective, known_keys, objections, show_key, split_keys
from minimind_tui.state import Preferences, read_keymap, save_keymap
from minimind_tui.widgets.vim import VimTable

_COLUMNS = {"setting": 24, "now": 16, "what it does": 90}
"""Heads and widths; what does not fit is said below the table."""
_CHANGED = "● "


@dataclass(frozen=True)
class _Line:
    """A row of the table: a preference, or a binding with an id."""

    name: str
    is_key: bool


class SettingsScreen(ModalScreen[None]):
    """A table of everything that can be chosen: preferences first, then a row for each binding.

    Args:
        preferences: Changed in place.
        changed: Called with a preference's name after it has changed.
    """

    HELP = (
        "Enter changes the row under the cursor. A key that would clash with another is refused by name. Everything "
        "is written at once, to settings.toml and keymap.toml in the configuration folder; backspace takes a row back "
        "to its default."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,f2", "back", "Close", id="settings.back"),
        Binding("slash", "search", "Search", tooltip="Search settings and keys", id="settings.search"),
        Binding("backspace,delete", "reset", "Default", tooltip="Back to the default", id="settings.reset"),
    ]

    def __init__(self, preferences: Preferences, changed: Callable[[str], None]) -> None:
        super().__init__()
        self._preferences, self._changed = preferences, changed
        self._overrides, self._problems = read_keymap()
        self._lines: list[_Line] = []

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -settings") as dialog:
            dialog.border_title = "Settings"
            dialog.border_subtitle = "enter changes · backspace default · / searches · escape closes"
            yield Input(placeholder="search settings and keys", id="search", compact=True)
            yield VimTable(cursor_type="row", id="settings")
            yield Static("", id="said")

    def on_mount(self) -> None:
        self.query_one("#search").display = False
        self._fill()
        self.query_one(VimTable).focus()
        self._say("\n".join(self._problems))

    def _fill(self, wanted: str = "") -> None:
        """All rows that a search hits; the cursor stays where it was."""
        table = self.query_one(VimTable)
        at = table.cursor_row
        rows: list[tuple[_Line, list[Text]]] = []
        for name, info in Preferences.model_fields.items():
            value, default = getattr(self._preferences, name), info.default
            cells = [name.replace("_", " "), _CHANGED * (value != default) + _shown(value), info.description or ""]
            rows.append((_Line(name, False), [Text(clean(cell, newlines=False)) for cell in cells]))
        for key in known_keys().values():
            changed = key.id in self._overrides
            keys = split_keys(self._overrides[key.id]) if changed else key.keys
            cells = [f"key {key.id}", _CHANGED * changed + " ".join(map(show_key, keys)), f"{key.group}: {key.text}"]
            rows.append((_Line(key.id, True), [Text(clean(cell, newlines=False)) for cell in cells]))
        words = wanted.casefold().split()
        hits = [(line, row) for line, row in rows if all(word in " ".join(map(str, row)).casefold() for word in words)]
        self._lines = [line for line, _ in hits]
        table.clear(columns=True)
        for head, width in _COLUMNS.items():
            table.add_column(head, width=width)
        table.add_rows([row for _, row in hits])
        table.move_cursor(row=min(at, max(0, len(hits) - 1)))

    def _refill(self) -> None:
        self._fill(self.query_one("#search", Input).value)

    def _say(self, text: str) -> None:
        self.query_one("#said", Static).update(Content(clean(text)))

    @property
    def _line(self) -> _Line | None:
        row = self.query_one(VimTable).cursor_row
        return self._lines[row] if row < len(self._lines) else None

    @on(DataTable.RowHighlighted)
    def _explain(self) -> None:
        """The whole description of the row under the cursor: the table's last column may be cut."""
        if (line := self._line) is None:
            return
        if line.is_key:
            key = known_keys()[line.name]
            self._say(f"{key.group}: {key.text}. Default: {' '.join(map(show_key, key.keys))}")
        else:
            self._say(Preferences.model_fields[line.name].description or "")

    # Changing

    @on(DataTable.RowSelected)
    def _change(self) -> None:
        if (line := self._line) is None:
            return
        if line.is_key:
            self.app.push_screen(KeyDialog(line.name, self._overrides), lambda key: self._set_key(line.name, key))
            return
        value = getattr(self._preferences, line.name)
        if line.name == "theme":
            self.app.push_screen(ThemeDialog(), self._set_theme)
        elif isinstance(value, bool):
            self._set(line.name, not value)
        elif isinstance(value, float):
            self.app.push_screen(NumberDialog(line.name, value), lambda text: self._set(line.name, text))
        else:
            self._say(f"{line.name} = {value}: there is no other yet")

    def _set_theme(self, name: str | None) -> None:
        if name:
            self._set("theme", name)

    def _set(self, name: str, value: object) -> None:
        """Takes a value on and writes it; a bad one is refused with the reason."""
        if value is None:
            return
        try:
            setattr(self._preferences, name, value)
            self._preferences.save()
        except ValidationError as error:
            self._say(f"{name}: {error.errors()[0]['msg']}")
            return
        except OSError as error:
            self.notify(clean(f"The settings could not be written: {error}"), severity="error", markup=False)
        self._changed(name)
        self._refill()

    def _set_key(self, id: str, keys: str | None) -> None:
        if keys:
            self._overrides[id] = keys
            self._keep_keys()

    def _keep_keys(self) -> None:
        try:
            save_keymap(self._overrides)
        except OSError as error:
            self.notify(clean(f"The keys could not be written: {error}"), severity="error", markup=False)
        self.app.set_keymap(effective(self._overrides))
        self._refill()

    def action_reset(self) -> None:
        """Back to the default, for the row under the cursor."""
        if (line := self._line) is None:
            return
        if not line.is_key:
            self._set(line.name, Preferences.model_fields[line.name].default)
        elif self._overrides.pop(line.name, None) is not None:
            self._keep_keys()

    # Searching

    def action_search(self) -> None:
        """Opens the line to search in."""
        search = self.query_one("#search", Input)
        search.display = True
        search.focus()

    @on(Input.Changed, "#search")
    def _searched(self, event: Input.Changed) -> None:
        self._fill(event.value)

    @on(Input.Submitted, "#search")
    def _walk(self) -> None:
        self.query_one(VimTable).focus()

    def action_back(self) -> None:
        """Out of the search, then out of the settings."""
        search = self.query_one("#search", Input)
        if not search.display:
            self.dismiss()
            return
        search.value, search.display = "", False
        self.query_one(VimTable).focus()


def _shown(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


class ThemeDialog(ModalScreen[str | None]):
    """All themes; the one under the cursor is shown at once, escape brings back the one before."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "back", "Cancel", id="dialog.theme_back"),
        Binding("j", "move('down')", "Next theme", show=False, id="dialog.theme_next"),
        Binding("k", "move('up')", "Previous theme", show=False, id="dialog.theme_previous"),
    ]

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -theme") as dialog:
            dialog.border_title = "Theme"
            dialog.border_subtitle = "enter takes it · escape cancels"
            names = sorted(self.app.available_themes)
            yield OptionList(*[Option(Content(clean(name)), id=name) for name in names], id="themes", compact=True)

    def on_mount(self) -> None:
        self._before = self.app.theme
        themes = self.query_one(OptionList)
        themes.highlighted = themes.get_option_index(self._before)

    def on_screen_resume(self) -> None:
        self.query_one(OptionList).focus()

    def action_move(self, way: str) -> None:
        """One theme on or back."""
        themes = self.query_one(OptionList)
        if way == "down":
            themes.action_cursor_down()
        else:
            themes.action_cursor_up()

    @on(OptionList.OptionHighlighted)
    def _preview(self, event: OptionList.OptionHighlighted) -> None:
        if event.option.id:
            self.app.theme = event.option.id

    @on(OptionList.OptionSelected)
    def _take(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id)

    def action_back(self) -> None:
        """The theme from before."""
        self.app.theme = self._before
        self.dismiss(None)


class NumberDialog(ModalScreen[str | None]):
    """Asks for a number."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Cancel", id="dialog.number_back")]

    def __init__(self, name: str, value: float) -> None:
        super().__init__()
        self._of, self._value = name, value

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -number") as dialog:
            dialog.border_title = self._of.replace("_", " ")
            dialog.border_subtitle = "enter takes it · escape cancels"
            yield Input(format(self._value, "g"), type="number", compact=True)

    @on(Input.Submitted)
    def _take(self, event: Input.Submitted) -> None:
        self.dismiss(event.value)


class KeyDialog(ModalScreen[str | None]):
    """Takes the next key that is pressed; one that clashes is refused by name, and the dialog waits for another."""

    def __init__(self, id: str, overrides: dict[str, str]) -> None:
        super().__init__()
        self._binding, self._overrides = id, overrides

    def compose(self) -> ComposeResult:
        key = known_keys()[self._binding]
        with Vertical(classes="dialog -key") as dialog:
            dialog.border_title = "Press the new key"
            dialog.border_subtitle = "escape cancels"
            yield Static(Content(f"{key.text} (now {' '.join(map(show_key, self._now))})"))
            yield Static("", id="clash")

    @property
    def _now(self) -> list[str]:
        given = self._overrides.get(self._binding, "")
        return split_keys(given) or list(known_keys()[self._binding].keys)

    def on_key(self, event: KeyPress) -> None:
        """Takes the key; nothing else hears of it."""
        event.stop()
        event.prevent_default()
        if event.key == "escape":
            self.dismiss(None)
        elif said := objections(self._binding, event.key, self._overrides):
            self.query_one("#clash", Static).update(Content.styled(clean("\n".join(said)), "$text-error"))
        else:
            self.dismiss(event.key)
