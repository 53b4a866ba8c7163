"""The rows of a file as a list of any length; only what is in sight is read."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import set_cell_size
from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from minimind_tui.core.rows import Preview

_AHEAD = 2
"""Pages above and below that are asked for together with the one in sight."""
_KEPT = 4096


class RowList(ScrollView, can_focus=True):
    """A line a row: the sign of a problem, the number, the sign of its shape, its beginning.

    The list holds row numbers (and `~i` for quarantined lines), no texts: it asks for those it paints with `Wanted` and
    gets them by `fill`.

    Attributes:
        cursor: The place in the list.
    """

    HELP = (
        "The rows of the file: a number, the sign of the shape (≡ text, » conversation, ± pair, ? prompt, ✗ a line "
        "that cannot be used) and the beginning. ! marks a row with a problem, as far as it is known."
    )
    COMPONENT_CLASSES: ClassVar[set[str]] = {"rows--cursor", "rows--number", "rows--problem"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "move(1)", "Next row", show=False, id="rows.down"),
        Binding("up,k", "move(-1)", "Row before", show=False, id="rows.up"),
        Binding("pagedown,ctrl+d", "page(1)", "Page down", show=False, id="rows.page_down"),
        Binding("pageup,ctrl+u", "page(-1)", "Page up", show=False, id="rows.page_up"),
        Binding("home,g", "end(-1)", "First row", show=False, id="rows.first"),
        Binding("end,G", "end(1)", "Last row", show=False, id="rows.last"),
        Binding("enter,right,l", "choose", "Look at the row", show=False, id="rows.choose"),
    ]

    cursor: reactive[int] = reactive(0)

    @dataclass
    class Moved(Message):
        """The cursor stands on another row."""

        row: int

    @dataclass
    class Wanted(Message):
        """Previews of these rows are to be seen."""

        rows: list[int]

    class Chosen(Message):
        """The row under the cursor is to be looked at."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rows: Sequence[int] = ()
        self._previews: dict[int, Preview] = {}
        self._asked: set[int] = set()
        self._marked: set[int] = set()
        self._told: int | None = None
        self._strips: dict[int, Strip] = {}
        self._title = self._subtitle = Content("")
        self._flagged: Callable[[int], bool] | None = None

    @property
    def row(self) -> int | None:
        """The row under the cursor."""
        return self._rows[self.cursor] if self.cursor < len(self._rows) else None

    @property
    def rows(self) -> Sequence[int]:
        """What is listed."""
        return self._rows

    def show(self, rows: Sequence[int], row: int | None = None, *, fresh: bool = False) -> None:
        """Lists other rows; the cursor goes to `row`, or to the next that is listed.

        Args:
            rows: Ascending, or quarantined lines.
            row: Where the cursor goes.
            fresh: They are another file's: nothing that is known of rows holds any more.
        """
        self._asked.clear()
        if fresh:
            self._previews.clear()
            self._marked.clear()
        if fresh or not rows:
            self._told = None
        self._rows = rows
        self._resize()
        self.set_reactive(RowList.cursor, self._place(row))
        self._follow()
        self._repaint()
        self._say_moved()

    def grow(self, rows: Sequence[int]) -> None:
        """Lists more of the same: the rows so far stay where they are."""
        wider = len(f"{len(rows):,}") != len(f"{self.virtual_size.height:,}")
        seen = self.virtual_size.height < self.scroll_offset.y + self.size.height
        self._rows = rows
        self._resize()
        if seen or wider:
            self._repaint()
        self._say_moved()

    def fill(self, previews: Mapping[int, Preview]) -> None:
        """Takes the texts that were asked for."""
        if len(self._previews) > _KEPT:
            self._previews.clear()
        self._previews.update(previews)
        self._asked.difference_update(previews)
        self._repaint()

    def mark(self, rows: Sequence[int]) -> None:
        """These rows are known to have a problem."""
        if not self._marked.issuperset(rows):
            self._marked.update(rows)
            self._repaint()

    def flag(self, odd: Callable[[int], bool] | None) -> None:
        """What says whether a row has a problem, once that is known of all."""
        self._flagged = odd
        self._repaint()

    def go_to(self, row: int) -> None:
        """Moves the cursor to a row, or to the next that is listed."""
        self.cursor = self._place(row)

    def _place(self, row: int | None) -> int:
        if row is None or not self._rows:
            return 0
        place = min(bisect_left(self._rows, row), len(self._rows) - 1)
        if self._rows[place] != row and row in self._rows:  # quarantined lines stand in the file's order
            return self._rows.index(row)
        return place

    def _resize(self) -> None:
        self.virtual_size = Size(self.scrollable_content_region.width, len(self._rows))

    def on_resize(self) -> None:
        self._strips.clear()
        self._resize()
        self._follow()

    def validate_cursor(self, cursor: int) -> int:
        return max(0, min(cursor, len(self._rows) - 1))

    def watch_cursor(self, before: int, now: int) -> None:
        self._follow()
        for place in (before, now):
            self._strips.pop(place, None)
            self.refresh_line(place)
        self._say_moved()

    def _say_moved(self) -> None:
        row = self.row
        if row is not None and row != self._told:
            self._told = row
            self.post_message(self.Moved(row))

    def _follow(self) -> None:
        self.scroll_to_region(Region(0, self.cursor, 1, 1), animate=False, force=True, immediate=True)

    def render_line(self, y: int) -> Strip:
        place = self.scroll_offset.y + y
        if place >= len(self._rows):
            return Strip.blank(self.scrollable_content_region.width, self.rich_style)
        if place not in self._strips:
            self._strips[place] = self._paint(place)
        return self._strips[place]

    def _paint(self, place: int) -> Strip:
        width, base, row = self.scrollable_content_region.width, self.rich_style, self._rows[place]
        preview = self._previews.get(row)
        if preview is None:
            self._ask(place)
            preview = Preview(f"{row:,}" if row >= 0 else "", " ", "…")
        if place == self.cursor:
            base = base + self.get_component_rich_style("rows--cursor", partial=True)
        number = base + self.get_component_rich_style("rows--number", partial=True)
        problem = base + self.get_component_rich_style("rows--problem", partial=True)
        head = f"{preview.number:>{self._number_width}} "
        marked = row < 0 or row in self._marked or (self._flagged is not None and self._flagged(row))
        room = max(0, width - len(head) - 4)
        return Strip(
            [
                Segment("▸" if place == self.cursor else " ", base),
                Segment("!" if marked else " ", problem),
                Segment(head, number),
                Segment(preview.mark + " ", number),
                Segment(set_cell_size(preview.text, room), base),
            ]
        ).crop(0, width)

    def _repaint(self) -> None:
        self._strips.clear()
        self.refresh()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips.clear()

    @property
    def _number_width(self) -> int:
        last = self._rows[-1] if self._rows else 0
        return len(f"{last:,}") if last >= 0 else len("line 9,999")

    def _ask(self, place: int) -> None:
        """Asks for what is in sight, and a little around it."""
        height = max(1, self.size.height)
        first = max(0, place - _AHEAD * height)
        around = self._rows[first : place + (_AHEAD + 1) * height]
        wanted = [row for row in around if row not in self._previews and row not in self._asked]
        if wanted:
            self._asked.update(wanted)
            self.post_message(self.Wanted(wanted))

    def on_click(self, event: Click) -> None:
        if (offset := event.get_content_offset(self)) is not None and self._rows:
            self.cursor = self.scroll_offset.y + offset.y

    def action_move(self, step: int) -> None:
        """Moves the cursor by rows."""
        self.cursor += step

    def action_page(self, step: int) -> None:
        """Moves the cursor by pages."""
        self.cursor += step * max(1, self.scrollable_content_region.height - 1)

    def action_end(self, side: int) -> None:
        """Moves the cursor to the first or the last row."""
        self.cursor = 0 if side < 0 else len(self._rows) - 1

    def action_choose(self) -> None:
        """Says that the row under the cursor is to be looked at."""
        if self._rows:
            self.post_message(self.Chosen())

    def say(self, title: Content, subtitle: Content) -> None:
        """What is listed, and how many."""
        if (title, subtitle) != (self._title, self._subtitle):
            self._title, self._subtitle = title, subtitle
            self.border_title, self.border_subtitle = title, subtitle
