"""Movement keys that lists and panes share."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.coordinate import Coordinate
from textual.widgets import DataTable

WIDEST = 26
"""Cells that a column takes at most."""
_NARROWEST = 8
_FEW = 100
"""So many cells are changed in their place; where more have changed, all rows are made anew."""
_GIVE = 2
"""Cells that columns rather lose than that one of them is left out."""

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
BETWEEN_BUTTONS: list[BindingType] = [
    Binding("left,h,up,k", "app.focus_previous", "Previous button", show=False, id="dialog.previous"),
    Binding("right,l,down,j", "app.focus_next", "Next button", show=False, id="dialog.next"),
]
"""For the buttons of a dialog."""


class VimTable(DataTable[Text]):
    """A table of rows that is walked with arrows or j, k, g, G."""

    BINDINGS = _ROW_KEYS

    _labels: Sequence[str] = ()
    _rows_filled: Sequence[Sequence[Text]] = ()
    _spare: Sequence[str] = ()
    _heads: Sequence[str] = ()
    _fitted: tuple[tuple[int, ...], list[int], int] = ((), [], 1)

    def fill(self, labels: Sequence[str], rows: Sequence[Sequence[Text]], *, spare: Sequence[str] = ()) -> None:
        """Replaces everything; columns are as wide as their longest cell, at most `WIDEST`.

        The widths are given, not left to the table: it may paint before it has measured.

        Args:
            labels: The columns' heads.
            rows: A cell a column.
            spare: Labels of columns that are left out where the room is short, the first of them first.
        """
        before, heads = self._rows_filled, self._heads
        self._labels, self._rows_filled, self._spare = labels, rows, spare
        self._heads = [self.heading(label) for label in labels]
        if heads == self._heads and len(before) == len(rows) and self._fitting() == self._fitted:
            shown, widths, _ = self._fitted
            changed = [
                (row, column, _cut(rows[row][index], width))
                for row in range(len(rows))
                for column, (index, width) in enumerate(zip(shown, widths, strict=True))
                if rows[row][index] != before[row][index]
            ]
            if len(changed) <= _FEW:
                for row, column, cell in changed:
                    self.update_cell_at(Coordinate(row, column), cell)
                return
        self._lay_out()

    def label_at(self, column: int) -> str:
        """The label of a column in sight."""
        return self._labels[self._fitted[0][column]]

    def heading(self, label: str) -> str:
        """How a column's label is written."""
        return label

    def _lay_out(self) -> None:
        self._fitted = shown, widths, gap = self._fitting()
        self.cell_padding = 0
        self.clear(columns=True)
        for index, width in zip(shown, widths, strict=True):
            head = Text(self._heads[index], no_wrap=True, overflow="ellipsis")
            self.add_column(head, width=width + gap)
        for row in self._rows_filled:
            self.add_row(*[_cut(row[index], width) for index, width in zip(shown, widths, strict=True)])

    def _fitting(self) -> tuple[tuple[int, ...], list[int], int]:
        """The columns that fit, their widths, and the gap between them."""
        rows = self._rows_filled
        room = (self.size.width or self.app.size.width - 2) - 1  # the scroll bar
        wide = {
            index: min(WIDEST, max([cell_len(head), *[row[index].cell_len for row in rows]]))
            for index, head in enumerate(self._heads)
        }
        for label in self._spare:
            if sum(wide.values()) + len(wide) <= room + _GIVE:
                break
            wide.pop(self._labels.index(label))
        while sum(wide.values()) + len(wide) > room and max(wide.values()) > _NARROWEST:
            widest = max(wide, key=lambda index: wide[index])
            wide[widest] -= 1
        gap = 2 if sum(wide.values()) + 2 * len(wide) <= room else 1
        return tuple(wide), list(wide.values()), gap

    def on_resize(self) -> None:
        """Another width has room for other columns."""
        if self._labels and self._fitting() != self._fitted:
            row = self.cursor_row
            self._lay_out()
            self.move_cursor(row=row)


def _cut(cell: Text, width: int) -> Text:
    if cell.cell_len > width:
        cell = cell.copy()
        cell.truncate(width, overflow="ellipsis")
    return cell


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
