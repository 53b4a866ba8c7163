"""A long log, line by line: only what is visible is painted."""

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual.binding import BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from engine.clean import clean
from minimind_tui.widgets.vim import VimScroll

_WIDEST = 2000
"""Cells of a line that can be reached by scrolling; what is longer is cut."""


class LogLines(ScrollView, can_focus=True):
    """Lines of text as they are, the newest at the end; it follows until it is scrolled up, and again at its end.

    Attributes:
        following: It stays at its end as it grows.
    """

    BINDINGS: ClassVar[list[BindingType]] = VimScroll.BINDINGS

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.following = True
        self._lines: list[str] = []

    def show(self, lines: Sequence[str]) -> None:
        """Shows these lines, cleaned."""
        self._lines = [clean(line, newlines=False)[:_WIDEST] for line in lines]
        width = max((cell_len(line) for line in self._lines), default=0)
        self.virtual_size = Size(width, len(self._lines))
        self.refresh()
        self._follow()

    def _follow(self) -> None:
        if self.following:
            self.call_after_refresh(self.scroll_to, y=self.virtual_size.height, animate=False, force=True)

    def on_resize(self) -> None:
        self._follow()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if new_value < old_value or self.is_vertical_scroll_end:
            self.following = self.is_vertical_scroll_end

    def render_line(self, y: int) -> Strip:
        offset_x, offset_y = self.scroll_offset
        width, row = self.size.width, y + int(offset_y)
        text = self._lines[row] if row < len(self._lines) else ""
        size = max(cell_len(text), width + int(offset_x))
        strip = Strip([Segment(set_cell_size(text, size), self.rich_style)], size)
        return strip.crop(int(offset_x), int(offset_x) + width)
