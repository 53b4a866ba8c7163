"""A dialog that chooses one of a few things."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from engine.clean import clean
from minimind_tui.widgets.states import MUTED


@dataclass(frozen=True)
class Item:
    """Something to choose: its name for the program, what is shown of it, and a note."""

    name: str
    title: str
    note: str = ""


class _Choices(OptionList):
    """Options that are walked with arrows or j, k, g, G."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", "Down", show=False, id="choose.down"),
        Binding("k", "cursor_up", "Up", show=False, id="choose.up"),
        Binding("g", "first", "First", show=False, id="choose.first"),
        Binding("G", "last", "Last", show=False, id="choose.last"),
        Binding("ctrl+d", "page_down", "Page down", show=False, id="choose.page_down"),
        Binding("ctrl+u", "page_up", "Page up", show=False, id="choose.page_up"),
    ]


class ListDialog(ModalScreen[str | None]):
    """Chooses an item; the answer is its name, or None.

    Args:
        title: What is chosen.
        items: To choose from.
        current: The name under the cursor at first.
    """

    AUTO_FOCUS = "#items"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "cancel", "Cancel", id="choose.cancel"),
    ]
    DEFAULT_CSS = """
    ListDialog {
        #items { height: auto; max-height: 16; background: $surface; border: none; padding: 0; }
        #items:focus { border: none; }
    }
    """

    def __init__(self, title: str, items: Sequence[Item], current: str = "") -> None:
        super().__init__()
        self._title, self._items, self._current = title, items, current

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = self._title
            dialog.border_subtitle = "enter chooses · escape cancels"
            yield _Choices(*[Option(_line(item)) for item in self._items], id="items", compact=True)

    def on_mount(self) -> None:
        names = [item.name for item in self._items]
        self.query_one(OptionList).highlighted = names.index(self._current) if self._current in names else 0

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._items[event.option_index].name)

    def action_cancel(self) -> None:
        """Chooses nothing."""
        self.dismiss(None)


def _line(item: Item) -> Content:
    return Content.assemble(
        clean(item.title, newlines=False), (f"  {clean(item.note, newlines=False)}" if item.note else "", MUTED)
    )
