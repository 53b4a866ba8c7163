"""Rows with a cell a run: their numbers, or the settings in which they differ."""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from engine.clean import clean
from engine.memory.suggest import ORIGIN as AFTER_OOM
from minimind_tui.core.compare import Row
from minimind_tui.widgets.vim import VimTable

_BEST = "★"
_ORIGINS = {"default": "·", "profile": "P", "inherited": "I", "user": "U", AFTER_OOM: "O"}
_OTHER = "*"
_FIRST = " what"

ORIGINS = "U set by the user · P profile · I inherited · O after OOM · · default · * the program"
"""What the letters behind settings mean."""


class CompareTable(VimTable):
    """A row a number or a setting; the better one of a row bears a star, a setting the letter of its origin."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Open", show=False, id="list.open")  # there is nothing to open
    ]

    def on_mount(self) -> None:
        self.cursor_type = "row"
        self._shown: list[Row] = []
        self._names: list[tuple[str, str]] = []

    @property
    def selected(self) -> Row | None:
        """The row under the cursor."""
        return self._shown[self.cursor_row] if 0 <= self.cursor_row < len(self._shown) else None

    def show(self, names: Sequence[tuple[str, str]], rows: Sequence[Row]) -> None:
        """Fills the table; `names` are the runs' letters and names."""
        if (list(names), list(rows)) == (self._names, self._shown):
            return
        row, top = self.cursor_row, self.scroll_y
        self._names, self._shown = list(names), list(rows)
        heads = [f"{letter} {clean(name, newlines=False)}" for letter, name in names]
        self.fill((_FIRST, *heads), [_cells(each) for each in rows])
        self.move_cursor(row=row)
        self.scroll_to(y=top, animate=False)


def _cells(row: Row) -> list[Text]:
    cells = [Text(f" {clean(row.name, newlines=False)}")]
    for cell in row.cells:
        if cell.origin:
            sign = _ORIGINS.get(cell.origin) or _ORIGINS.get(cell.origin.partition(" ")[0], _OTHER)
            cells.append(Text.assemble((f"{sign} ", "dim"), _end(clean(cell.text, newlines=False))))
        else:
            sign = _BEST if cell.best else ""
            cells.append(Text(f"{sign:<1} {clean(cell.text, newlines=False)}", "bold green" if cell.best else ""))
    return cells


def _end(text: str) -> str:
    """Of a path the end, which tells it from others."""
    return f"…{text[-22:]}" if "/" in text and len(text) > 23 else text
