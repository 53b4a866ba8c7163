"""Movement keys that lists and panes share."""

from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.widgets import DataTable

_ROW_KEYS = [
    Binding("j", "cursor_down", "Down", show=False, id="list.down"),
    Binding("k", "cursor_up", "Up", show=False, id="list.up"),
    Binding("g", "scroll_top", "First", show=False, id="list.first"),
    Binding("G", "scroll_bottom", "Last", show=False, id="list.last"),
    Binding("ctrl+d", "page_down", "Page down", show=False, id="list.page_down"),
    Binding("ctrl+u", "page_up", "Page up", show=False, id="list.page_up"),
]
_SCROLL_KEYS = [
    Binding("j", "scroll_down", "Down", show=False, id="pane.down"),
    Binding("k", "scroll_up", "Up", show=False, id="pane.up"),
    Binding("g", "scroll_home", "Top", show=False, id="pane.top"),
    Binding("G", "scroll_end", "Bottom", show=False, id="pane.bottom"),
    Binding("ctrl+d", "page_down", "Page down", show=False, id="pane.page_down"),
    Binding("ctrl+u", "page_up", "Page up", show=False, id="pane.page_up"),
]


class VimTable(DataTable[str]):
    """A table of rows that is walked with arrows or j, k, g, G."""

    BINDINGS = _ROW_KEYS


class VimScroll(VerticalScroll, can_focus=True):
    """A pane that is scrolled with arrows or j, k, g, G."""

    BINDINGS = _SCROLL_KEYS
