"""The settings of a draft as lines: a heading a section, a line a setting, a line below what cannot be used."""

from collections.abc import Callable
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from engine.clean import clean
from engine.settings.fields import SettingInfo
from minimind_tui.core.forms import Draft
from minimind_tui.widgets.profiles.cells import Part, heading_parts, problem_parts, setting_parts

_ROLES = ("name", "value", "own", "muted", "heading", "changed", "wrong")


class SettingLines(ScrollView, can_focus=True):
    """All settings of a draft, one of them under the cursor.

    Args:
        type_text: Opens the editor over the setting under the cursor, at once: the next key may be for it already.

    Attributes:
        draft: What is shown and changed.
    """

    HELP = (
        "A line a setting: ● is not saved yet, ✗ cannot be used; to the right where the value comes from. Enter "
        "changes a number or a text in place, and turns to the next choice; space, left and right turn choices as "
        "well. What the setting controls stands below."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "edit", "Edit", tooltip="Change the value in place", id="profiles.edit"),
        Binding("j,down", "move(1)", "Down", show=False, id="list.down"),
        Binding("k,up", "move(-1)", "Up", show=False, id="list.up"),
        Binding("g,home", "move(-9999)", "First", show=False, id="list.first"),
        Binding("G,end", "move(9999)", "Last", show=False, id="list.last"),
        Binding("ctrl+d,pagedown", "page(1)", "Page down", show=False, id="list.page_down"),
        Binding("ctrl+u,pageup", "page(-1)", "Page up", show=False, id="list.page_up"),
        Binding("space,l,right", "turn(1)", "Next choice", show=False, id="profiles.next_choice"),
        Binding("h,left", "turn(-1)", "Previous choice", show=False, id="profiles.previous_choice"),
        Binding("u", "undo", "Undo the setting", show=False, id="profiles.undo",
                tooltip="The setting under the cursor back to its saved value"),
        Binding("U", "undo_all", "Undo everything", show=False, id="profiles.undo_all",
                tooltip="All settings back to what is saved"),
    ]  # fmt: skip
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"setting--{role}" for role in (*_ROLES, "cursor")}
    DEFAULT_CSS = """
    SettingLines {
        background: $background; scrollbar-size-vertical: 1;
        & > .setting--name { color: $foreground; }
        & > .setting--value { color: $foreground; }
        & > .setting--own { color: $foreground; text-style: bold; }
        & > .setting--muted { color: $foreground 60%; }
        & > .setting--heading { color: $accent; text-style: bold; }
        & > .setting--changed { color: $warning; text-style: bold; }
        & > .setting--wrong { color: $text-error; text-style: bold; }
        & > .setting--cursor { background: $surface-lighten-1; }
        &:focus > .setting--cursor { background: $primary-muted; }
    }
    """

    class Moved(Message):
        """The cursor stands on another setting."""

    class Edited(Message):
        """The draft has changed."""

    def __init__(self, type_text: Callable[[], None]) -> None:
        super().__init__()
        self._type_text = type_text
        self.draft: Draft | None = None
        self._infos: list[SettingInfo] = []
        self._lines: list[tuple[str, int]] = []
        """What each line shows: a section's heading (its name), or a setting (its place), or why one is wrong."""
        self._clashing: set[str] = set()
        self._cursor = 0
        self._styles: dict[tuple[str, bool], Style] = {}

    @property
    def setting(self) -> str:
        """The name of the setting under the cursor; empty without any."""
        return self._infos[self._cursor].name if self._infos else ""

    @property
    def line(self) -> int:
        """The line of the cursor, counted from the first one in sight."""
        return self._lines.index(("", self._cursor)) - self.scroll_offset.y

    def show(self, draft: Draft, setting: str = "") -> None:
        """Shows a draft; the cursor goes to the named setting, or stays where it stood."""
        name = setting or self.setting
        self.draft = draft
        self._infos = list(draft.stage.settings.values())
        self.update()
        self.go(next((place for place, info in enumerate(self._infos) if info.name == name), 0))

    def update(self) -> None:
        """Shows the draft as it stands now."""
        if (draft := self.draft) is None:
            return
        self._clashing = draft.concerned()
        self._lines = []
        for section in draft.stage.sections:
            self._lines += [("blank", -1)] if self._lines else []
            self._lines.append((section, -1))
            for place, info in enumerate(self._infos):
                if info.section == section:
                    self._lines.append(("", place))
                    self._lines += [("wrong", place)] if draft.problem(info.name) else []
        self.virtual_size = Size(0, len(self._lines))
        self.refresh()

    def text_of(self, setting: str) -> str:
        """What stands in a setting's line, and below it."""
        places = [place for place, info in enumerate(self._infos) if info.name == setting]
        return "\n".join("".join(text for text, _ in self._parts(line)) for line in self._lines if line[1] in places)

    def _parts(self, line: tuple[str, int]) -> list[Part]:
        assert self.draft is not None
        kind, place = line
        width = self.scrollable_content_region.width
        if kind == "blank":
            return []
        if place < 0:
            return heading_parts(self.draft, kind, width)
        info = self._infos[place]
        if kind == "wrong":
            return problem_parts(self.draft.problem(info.name), width)
        return setting_parts(self.draft, info, width, clashes=info.name in self._clashing)

    def render_line(self, y: int) -> Strip:
        width, index = self.size.width, y + self.scroll_offset.y
        if not 0 <= index < len(self._lines):
            return Strip.blank(width, self.rich_style)
        here = self._lines[index][1] == self._cursor
        styles = self._styles or self._read_styles()
        strip = Strip([Segment(text, styles[role, here]) for text, role in self._parts(self._lines[index])])
        return strip.adjust_cell_length(width, styles["name", here])

    def _read_styles(self) -> dict[tuple[str, bool], Style]:
        """The style of each role, elsewhere and under the cursor."""
        cursor = Style(bgcolor=self.get_component_rich_style("setting--cursor").bgcolor)
        for role in _ROLES:
            style = self.get_component_rich_style(f"setting--{role}")
            self._styles |= {(role, False): style, (role, True): style + cursor}
        return self._styles

    def notify_style_update(self) -> None:
        """The theme or the focus has changed."""
        super().notify_style_update()
        self._styles = {}

    # Moving

    def go(self, place: int) -> None:
        """Moves the cursor to a setting, counted from 0."""
        if not self._infos:
            return
        before, self._cursor = self._cursor, min(max(0, place), len(self._infos) - 1)
        line = self._lines.index(("", self._cursor))
        top = 0 if self._cursor == 0 else line  # the first one with its heading
        height = 2 if ("wrong", self._cursor) in self._lines else 1
        self.scroll_to_region(Region(0, top, 1, line - top + height), animate=False, force=True)
        for index, (_, of) in enumerate(self._lines):
            if of in (before, self._cursor):
                self.refresh_line(index)
        self._tell(self.Moved)

    def action_move(self, by: int) -> None:
        """Moves the cursor by settings."""
        self.go(self._cursor + by)

    def action_page(self, by: int) -> None:
        """Moves the cursor by half of what is visible."""
        self.go(self._cursor + by * max(1, self.size.height // 2))

    def find(self, words: str, *, by: int = 1, here: bool = False) -> bool:
        """Moves to the next setting whose name has the words, or else what it controls.

        Args:
            words: Looked for in any case.
            by: 1 forwards, -1 backwards.
            here: Whether the setting under the cursor counts too.
        """
        wanted = words.casefold()
        offsets = range(0 if here else 1, len(self._infos) + 1)
        order = [(self._cursor + by * offset) % len(self._infos) for offset in offsets]
        named = [place for place in order if wanted.replace(" ", "_") in self._infos[place].name]
        about = [place for place in order if wanted in self._infos[place].controls.casefold()]
        if found := named or about:
            self.go(found[0])
        return bool(found)

    def on_click(self, event: events.Click) -> None:
        """Chooses a setting; a click on the one under the cursor edits it."""
        index = event.y + self.scroll_offset.y
        place = self._lines[index][1] if 0 <= index < len(self._lines) else -1
        if place >= 0 and place == self._cursor:
            self.action_edit()
        elif place >= 0:
            self.go(place)

    # Changing

    def action_turn(self, by: int) -> None:
        """The next or the previous choice."""
        if self._may_change() and self.draft is not None and self.draft.step(self.setting, by):
            self.edited()

    def action_edit(self) -> None:
        """Asks for a text; a choice turns to the next."""
        if not self._may_change() or self.draft is None:
            return
        if self.draft.step(self.setting, 1):
            self.edited()
        else:
            self._type_text()

    def _may_change(self) -> bool:
        if self.draft is not None and self.draft.locked(self.setting):
            start = clean(self.draft.inherited_from, newlines=False)
            said = f"{self.setting} is inherited from {start}: a checkpoint's shape stays as it is."
            self.notify(said, markup=False)
            return False
        return self.draft is not None

    def action_undo(self) -> None:
        """The setting back to its saved value."""
        if self.draft is not None:
            self.draft.undo(self.setting)
            self.edited()

    def action_undo_all(self) -> None:
        """Everything back to what is saved."""
        if self.draft is not None and (count := self.draft.unsaved):
            self.draft.undo_all()
            self.notify(f"{count} change{'s' if count != 1 else ''} taken back")
            self.edited()

    def edited(self) -> None:
        """The draft has changed: shows it, and says so."""
        self.update()
        self._tell(self.Edited)

    def _tell(self, kind: type[Message]) -> None:
        """Posts a message as its own: one made in a handler of a parent's would not rise above that parent."""
        self.call_next(lambda: self.post_message(kind()))
