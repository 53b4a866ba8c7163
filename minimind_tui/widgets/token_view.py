"""Tokens with their roles and loss weights: what is underlined is trained."""

import re
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click, Resize
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from engine.clean import clean
from minimind_tui.core.tokens import PART, Layout, Line, TokenSheet
from minimind_tui.widgets.token_palette import COMPONENTS, LETTERS, Look, Palette, is_plain

_GUTTER = 3
"""Cells to the left: the sign of a line, its role, the cursor."""
_MARGIN = 2
"""Lines that stay in sight above and below the cursor."""
_BLANKS = re.compile(r"([ \t\n]+)")
_SHOWN_BLANKS = str.maketrans({" ": "·", "\t": "⇥", "\n": "⏎"})


class TokenView(ScrollView, can_focus=True):
    """Tokens to walk through: who says them, which are trained, where they begin and end.

    Neighbouring tokens differ in shade, trained ones are underlined, those with a weight above 1 bold as well, special
    ones reversed. Without colours the shade is a dim text. The gutter shows where documents begin, where a pair's sides
    part, whose lines they are, and the cursor's line.

    Attributes:
        cursor: The token under the cursor.
    """

    HELP = (
        "Underlined tokens are trained, bold ones more than once; the others are only read. Special tokens stand "
        "reversed, · is a space, ⏎ a newline, ┄ a token that holds a part of the character after it. "
        "[ and ] go to where training begins or ends."
    )
    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "step(-1)", "Token before", show=False, id="tokens.left"),
        Binding("right,l", "step(1)", "Token after", show=False, id="tokens.right"),
        Binding("down,j", "line(1)", "Line down", show=False, id="tokens.down"),
        Binding("up,k", "line(-1)", "Line up", show=False, id="tokens.up"),
        Binding("home", "line_end(-1)", "First of the line", show=False, id="tokens.home"),
        Binding("end", "line_end(1)", "Last of the line", show=False, id="tokens.end"),
        Binding("g,ctrl+home", "end(-1)", "First token", show=False, id="tokens.first"),
        Binding("G,ctrl+end", "end(1)", "Last token", show=False, id="tokens.last"),
        Binding("ctrl+d,pagedown", "page(1)", "Page down", show=False, id="tokens.page_down"),
        Binding("ctrl+u,pageup", "page(-1)", "Page up", show=False, id="tokens.page_up"),
        Binding("left_square_bracket", "border(-1)", "Mask border before", key_display="[", show=False,
                tooltip="Where training begins or ends, before the cursor", id="tokens.border_before"),
        Binding("right_square_bracket", "border(1)", "Mask border after", key_display="]", show=False,
                tooltip="Where training begins or ends, after the cursor", id="tokens.border_after"),
        Binding("y", "copy", "Copy token", show=False, tooltip="Copy the token's text", id="tokens.copy"),
    ]  # fmt: skip
    COMPONENT_CLASSES: ClassVar[set[str]] = COMPONENTS
    DEFAULT_CSS = """
    TokenView {
        border: round $foreground 30%; border-title-color: $text; border-subtitle-color: $foreground 60%;
        background: $background; scrollbar-size-vertical: 1; scrollbar-gutter: stable; overflow-x: hidden;
        &:focus { border: round $border; border-title-style: bold; }
        & > .token-view--system { color: $text-warning; }
        & > .token-view--user { color: $text-primary; }
        & > .token-view--assistant { color: $text-success; }
        & > .token-view--tool { color: $text-accent; }
        & > .token-view--text, & > .token-view--unknown { color: $foreground; }
        & > .token-view--pad { color: $foreground 40%; }
        & > .token-view--odd { background: $foreground 10%; }
        & > .token-view--heat-0 { background: $warning 4%; }
        & > .token-view--heat-1 { background: $warning 18%; }
        & > .token-view--heat-2 { background: $warning 38%; }
        & > .token-view--heat-3 { background: $warning 65%; }
        & > .token-view--heat-4 { background: $error 65%; }
        & > .token-view--heat-5 { background: $error; }
        & > .token-view--cursor { background: $foreground 35%; color: $foreground; }
        &:focus > .token-view--cursor { background: $block-cursor-background; color: $block-cursor-foreground; }
    }
    """

    cursor: reactive[int] = reactive(0, repaint=False, init=False)

    @dataclass
    class Moved(Message):
        """The cursor stands on another token, or on a token of another sheet."""

        view: "TokenView"
        index: int

        @property
        def control(self) -> "TokenView":
            """The view, for `on`."""
            return self.view

    @dataclass
    class Copy(Message):
        """A token's text is wanted elsewhere; it is not cleaned."""

        view: "TokenView"
        text: str

        @property
        def control(self) -> "TokenView":
            """The view, for `on`."""
            return self.view

    @dataclass
    class Edge(Message):
        """The cursor cannot go on: left (`step` -1) of the first token or right (1) of the last one."""

        view: "TokenView"
        step: int

        @property
        def control(self) -> "TokenView":
            """The view, for `on`."""
            return self.view

    def __init__(self, *, empty: str = "no tokens to show", id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._sheet: TokenSheet | None = None
        self._empty = empty
        self._wrapped: Layout | None = None
        self._wrapped_for = 0, False
        self._goal: int | None = None
        self._palette: Palette | None = None
        self._strips: dict[int, Strip] = {}

    @property
    def sheet(self) -> TokenSheet | None:
        """What is shown."""
        return self._sheet

    def show(self, sheet: TokenSheet | None, *, cursor: int = 0) -> None:
        """Shows other tokens, or none."""
        self._sheet = sheet
        self._goal = None
        self.set_reactive(TokenView.cursor, self.validate_cursor(cursor))
        self._lay_out()
        self.scroll_to(y=0, animate=False, force=True)
        self._scroll_to_cursor()
        if sheet:
            self.announce()

    def go_to(self, index: int) -> None:
        """Moves the cursor to a token."""
        self._goal = None
        self.cursor = index

    def announce(self) -> None:
        """Says where the cursor is, also to whoever moved it."""
        self.post_message(self.Moved(self, self.cursor).set_sender(self))

    def detail(self) -> list[str]:
        """What there is to say about the token under the cursor, cleaned, in lines."""
        return [clean(line, newlines=False) for line in self._sheet.detail(self.cursor)] if self._sheet else []

    def legend(self) -> Content:
        """What the styles and signs mean, in a line."""
        return self._colours().legend(self._sheet) if self._sheet else Content("")

    # Lines

    def _lay_out(self) -> None:
        """Wraps the tokens to the width there is."""
        self._wrapped_for = width, plain = self.scrollable_content_region.width, is_plain(self)
        self._strips.clear()
        shown = self._sheet if self._sheet and width else None
        self._wrapped = Layout(shown, width - _GUTTER, heat_signs=plain) if shown else None
        self.virtual_size = Size(width, len(self._wrapped.lines) if self._wrapped else 0)
        self.refresh()

    def on_resize(self, event: Resize) -> None:
        if self.scrollable_content_region.width != self._wrapped_for[0]:
            self._lay_out()
        self._scroll_to_cursor()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._palette = None
        self._strips.clear()
        if self.is_mounted and is_plain(self) != self._wrapped_for[1]:
            self._lay_out()

    def _colours(self) -> Palette:
        if self._palette is None:
            self._palette = Palette(self)
        return self._palette

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        if self._wrapped is None:
            said = self._empty.center(width) if y == self.content_size.height // 2 else " " * width
            return Strip([Segment(said[:width], self._colours().style(Look("text", mark=True)))], width)
        number = y + self.scroll_offset.y
        if number >= len(self._wrapped.lines):
            return Strip.blank(width, self._colours().base)
        if number not in self._strips:
            self._strips[number] = self._paint(self._wrapped.lines[number], width)
        return self._strips[number]

    def _paint(self, line: Line, width: int) -> Strip:
        sheet, palette, cursor = self._sheet, self._colours(), self.cursor
        assert sheet is not None
        here = any(token == cursor for token, _, _, _ in line.pieces)
        letter = LETTERS.get(line.role, " ") if line.begins else "│" if line.role in LETTERS else " "
        segments = [
            Segment(line.sign or " ", palette.style(Look("text", weight=0))),
            Segment(letter, palette.style(Look(line.role))),
            Segment("›" if here else " ", palette.style(Look("text"))),
        ]
        for token, text, _, _ in line.pieces:
            weight = sheet.weights[token]
            look = Look(
                sheet.roles[token],
                0 if weight <= 0 else 1 if weight <= 1 else 2,
                sheet.special[token],
                token % 2 == 1,
                token < sheet.dimmed,
                sheet.heat_step(token),
                token == cursor,
            )
            style = palette.style(look)
            if text.isalnum() or (text.isprintable() and " " not in text and text != PART):
                segments.append(Segment(text, style))
                continue
            mark = palette.style(look._replace(mark=True))
            for part in _BLANKS.split(text):
                if part:
                    blank = part.isspace() and part[0] in " \t\n"
                    shown = part.translate(_SHOWN_BLANKS) if blank else part
                    segments.append(Segment(shown, mark if blank or part == PART else style))
        return Strip(segments).adjust_cell_length(width, palette.base)

    # The cursor

    def validate_cursor(self, cursor: int) -> int:
        """Keeps the cursor on a token."""
        return min(max(cursor, 0), max(0, len(self._sheet) - 1)) if self._sheet else 0

    def watch_cursor(self, before: int, after: int) -> None:
        if self._wrapped is not None:
            for index in (before, after):
                lines = self._wrapped.lines_of(index)
                for number in lines:
                    self._strips.pop(number, None)
                self.refresh_lines(lines.start, len(lines))
            self._scroll_to_cursor()
        self.announce()

    def _scroll_to_cursor(self) -> None:
        height = self.scrollable_content_region.height
        if self._wrapped is None or not height:
            return
        line, top = self._wrapped.first_lines[self.cursor], self.scroll_offset.y
        margin = min(_MARGIN, (height - 1) // 2)
        wanted = min(max(top, line + margin - height + 1), line - margin)
        if wanted != top:
            self.scroll_to(y=wanted, animate=False, force=True)

    def on_click(self, event: Click) -> None:
        place = event.get_content_offset(self)
        if self._wrapped is not None and place is not None:
            line = place.y + self.scroll_offset.y
            if line < len(self._wrapped.lines):
                self.go_to(self._wrapped.token_at(line, place.x - _GUTTER))

    def action_step(self, step: int) -> None:
        """One token on or back."""
        if self._sheet:
            if self.validate_cursor(self.cursor + step) == self.cursor:
                self.post_message(self.Edge(self, step))
            self.go_to(self.cursor + step)

    def action_line(self, step: int) -> None:
        """Some lines down or up, in the same column."""
        if self._wrapped is None:
            return
        lines = self._wrapped.lines_of(self.cursor)
        line = lines.stop - 1 + step if step > 0 else lines.start + step
        if self._goal is None:
            self._goal = self._wrapped.column_of(self.cursor)
        self.cursor = self._wrapped.token_at(line, self._goal)

    def action_page(self, step: int) -> None:
        """A page down or up."""
        self.action_line(step * max(1, self.scrollable_content_region.height - 1))

    def action_line_end(self, step: int) -> None:
        """The first or the last token of the line."""
        if self._wrapped is not None:
            pieces = self._wrapped.lines[self._wrapped.lines_of(self.cursor)[0 if step < 0 else -1]].pieces
            self.go_to(pieces[0 if step < 0 else -1][0])

    def action_end(self, step: int) -> None:
        """The first or the last token of all."""
        self.go_to(len(self._sheet) - 1 if self._sheet and step > 0 else 0)

    def action_border(self, step: int) -> None:
        """Where training begins or ends."""
        if self._sheet:
            self.go_to(self._sheet.border(self.cursor, step))

    def action_copy(self) -> None:
        """The token's text, for the clipboard."""
        if self._sheet:
            self.post_message(self.Copy(self, self._sheet.character(self.cursor)))
