"""The profiles by hardware."""

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from engine.clean import clean
from minimind_tui.core.profiles import Entry
from minimind_tui.widgets.states import MUTED

_NAME_CELLS = 22
_ROOM_FOR_TITLES = 50
"""Cells from which on titles stand beside the names."""


class ProfileList(OptionList):
    """A heading a family, below it a line a profile."""

    HELP = (
        "Every profile, by the hardware it was made for; your own stand last. The one under the cursor is shown in the "
        "form; enter goes there. / filters by words, f by stage."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "Open", id="list.open"),
        Binding("l,right", "select", "Open", show=False, id="profiles.open"),
        Binding("j", "cursor_down", "Down", show=False, id="list.down"),
        Binding("k", "cursor_up", "Up", show=False, id="list.up"),
        Binding("g", "first", "First", show=False, id="list.first"),
        Binding("G", "last", "Last", show=False, id="list.last"),
        Binding("ctrl+d", "page_down", "Page down", show=False, id="list.page_down"),
        Binding("ctrl+u", "page_up", "Page up", show=False, id="list.page_up"),
    ]

    _groups: Sequence[tuple[str, Sequence[Entry]]] = ()
    _titled = False

    def show(self, groups: Sequence[tuple[str, Sequence[Entry]]], chosen: str, *, first: bool = False) -> None:
        """Fills the list; the cursor stands on the chosen profile, else on none, or with `first` on the first."""
        self._groups, self._titled = groups, self.size.width >= _ROOM_FOR_TITLES
        options = []
        for family, entries in groups:
            heading = Content.styled(clean(family, newlines=False), f"{MUTED} bold")
            lines = [Option(_line(entry, titled=self._titled), id=entry.reference) for entry in entries]
            options += [Option(heading, disabled=True), *lines]
        self.clear_options()
        self.add_options(options)
        found = [index for index, option in enumerate(options) if option.id == chosen]
        if first and not found:
            found = [index for index, option in enumerate(options) if option.id]
        self.highlighted = found[0] if found else None

    def on_resize(self, event: events.Resize) -> None:
        """Titles stand where there is room."""
        if (event.size.width >= _ROOM_FOR_TITLES) != self._titled:
            self.show(self._groups, self.selected)

    @property
    def selected(self) -> str:
        """The reference of the profile under the cursor; empty without one."""
        option = self.highlighted_option
        return (option.id or "") if option else ""


def _line(entry: Entry, *, titled: bool) -> Content:
    name = clean(entry.label, newlines=False)
    title = clean(entry.title, newlines=False) if titled else ""
    space = " " * max(2, _NAME_CELLS - cell_len(name)) if title else ""
    if entry.profile is None:
        return Content.assemble(("✗ ", "$text-error"), name, space, (title, "$text-error"))
    return Content.assemble("  ", name, space, (title, MUTED))
