"""A plain text to look at, such as a row as it stands in the file."""

from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual.binding import BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from minimind_tui.core.plain import wrap
from minimind_tui.widgets.vim import VimScroll

LONGEST = 20_000
"""Characters that are shown: wrapping them takes less than a frame. Copying gives the whole."""


class TextView(ScrollView, can_focus=True):
    """A cleaned text, wrapped by cells and painted line by line."""

    HELP = "The row as it stands in the file, or as the chat template writes it. Nothing in it can steer the terminal."
    BINDINGS: ClassVar[list[BindingType]] = [*VimScroll.BINDINGS]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._text = ""
        self._lines: list[str] = []

    def show(self, text: str) -> None:
        """Shows a cleaned text from its beginning."""
        more = len(text) - LONGEST
        self._text = text if more <= 0 else f"{text[:LONGEST]}\n… and {more:,} characters more: y copies the whole row"
        self.scroll_to(y=0, animate=False)
        self._wrap()

    def on_resize(self) -> None:
        self._wrap()

    def _wrap(self) -> None:
        width = self.scrollable_content_region.width
        self._lines = wrap(self._text, width)
        self.virtual_size = Size(width, len(self._lines))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        place = self.scroll_offset.y + y
        text = self._lines[place] if place < len(self._lines) else ""
        return Strip([Segment(text, self.rich_style)], cell_len(text)).adjust_cell_length(width, self.rich_style)
