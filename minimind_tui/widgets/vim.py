"""Movement keys that lists and panes share."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import DataTable

WIDEST = 26
"""Cells that a column takes at most."""

_ROW_KEYS: list[BindingType] = [
    Binding("enter", "select_cursor", "Open", id="list.open"),
    Binding("j", "cursor_down", "Down", show=False, id="list.down"),
    Binding("k", "cursor_up", "Up", show=False, id="list.up"),
    Binding("g", "scroll_top", "First", show=False, id="list.first"),
    Binding("G", "scroll_bottom", "Last", show=False, id="list.last"),
    Binding("ctrl+d", "page_down", "Page down", show=False, id="list.page_down"),
    Binding("ctrl+u", "page_up", "Page up", show=False, id="list.page_up"),
]
_SCROLL_KEYS: list[BindingType] = [
    Binding("j", "scroll_down", "Down", show=False, id="pane.down"),
    Binding("k", "scroll_up", "Up", show=False, id="pane.up"),
    Binding("g", "scroll_home", "Top", show=False, id="pane.top"),
    Binding("G", "scroll_end", "Bottom", show=False, id="pane.bottom"),
    Binding("ctrl+d", "page_down", "Page down", show=False, id="pane.page_down"),
    Binding("ctrl+u", "page_up", "Page up", show=False, id="pane.page_up"),
]


class VimTable(DataTable[Text]):
    """A table of rows that is walked with arrows or j, k, g, G."""

    BINDINGS = _ROW_KEYS

    def fill(self, labels: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
        """Replaces everything; columns are as wide as their longest cell, at most `WIDEST`.

        The widths are given, not left to the table: it may paint before it has measured.
        """
        self.clear(columns=True)
        for index, label in enumerate(labels):
            width = max([cell_len(label), *[row[index].cell_len for row in rows]])
            self.add_column(label, width=min(width, WIDEST))
        for row in rows:
            self.add_row(*row)


class VimScroll(VerticalScroll, can_focus=True):
    """A pane that is scrolled with arrows or j, k, g, G."""

    BINDINGS = _SCROLL_KEYS


class FollowScroll(VimScroll):
    """A pane that stays at its end as it grows, until it is scrolled up, and again once its end is reached."""

    following = True

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if new_value < old_value or self.is_vertical_scroll_end:
            self.following = self.is_vertical_scroll_end

    def follow(self) -> None:
        """Call it after the content has grown."""
        if self.following:
            self.call_after_refresh(self.scroll_end, animate=False)
