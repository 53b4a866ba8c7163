"""A form made from the engine's settings, and the input that changes one of them in its place."""

from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from minimind_tui.core.forms import Draft, Edit
from minimind_tui.widgets.profiles.cells import VALUE_AT
from minimind_tui.widgets.profiles.setting_lines import SettingLines


class Editor(Input):
    """The input that stands over a value while it is changed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Keep", id="profiles.keep"),
        Binding("escape", "cancel", "Cancel", tooltip="Leave the value as it was", id="profiles.cancel"),
    ]

    class Left(Message):
        """Editing is over; `kept` is false where the value goes back to what it was."""

        def __init__(self, kept: bool) -> None:
            super().__init__()
            self.kept = kept

    def action_cancel(self) -> None:
        """Back to the value before."""
        self.post_message(self.Left(kept=False))

    def on_blur(self, event: events.Blur) -> None:
        """What was typed is kept when the focus goes elsewhere."""
        self.post_message(self.Left(kept=True))


class SettingsForm(Widget):
    """The lines of a draft, and over one of them the editor."""

    DEFAULT_CSS = """
    SettingsForm {
        layers: lines editor;
        border: round $foreground 30%; border-title-color: $text; border-subtitle-color: $foreground 60%; padding: 0 1;
        &:focus-within { border: round $border; border-title-style: bold; }
        & > SettingLines { layer: lines; width: 1fr; height: 1fr; }
        & > Editor { layer: editor; height: 1; background: $surface-lighten-2; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._editor: Editor | None = None
        self._before: Edit | None = None

    def compose(self) -> ComposeResult:
        yield SettingLines(self.open_editor)

    def on_mount(self) -> None:
        self.watch(self.lines, "scroll_y", self._place, init=False)

    @property
    def lines(self) -> SettingLines:
        """The lines."""
        return self.query_one(SettingLines)

    def show(self, draft: Draft, setting: str = "") -> None:
        """Shows a draft, with the cursor on the named setting."""
        self._close()
        self.lines.show(draft, setting)

    def open_editor(self) -> None:
        """Puts an input over the value of the setting under the cursor."""
        lines, draft = self.lines, self.lines.draft
        if draft is not None and self._editor is None:
            self._before = draft.remember(lines.setting)
            self._editor = Editor(draft.text(lines.setting), compact=True)
            self._place()
            self.mount(self._editor)
            self.screen.set_focus(self._editor, scroll_visible=False)

    def _place(self) -> None:
        """Puts the editor over the value, also after a scroll."""
        if self._editor is not None:
            line = self.lines.line
            self._editor.styles.offset = (VALUE_AT, line)
            self._editor.styles.width = max(8, self.lines.scrollable_content_region.width - VALUE_AT)
            self._editor.styles.visibility = "visible" if 0 <= line < self.lines.size.height else "hidden"

    def on_resize(self) -> None:
        self.call_after_refresh(self._place)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        lines, draft = self.lines, self.lines.draft
        if self._editor is event.input and draft is not None and event.value != draft.text(lines.setting):
            wrong = bool(draft.problem(lines.setting))
            draft.enter(lines.setting, event.value)
            lines.edited()
            if bool(draft.problem(lines.setting)) != wrong:
                lines.action_move(0)  # the line below it in sight

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if self.lines.draft is not None and self.lines.draft.problem(self.lines.setting):
            self.app.bell()
        else:
            self._close(refocus=True)

    @on(Editor.Left)
    def _left(self, event: Editor.Left) -> None:
        event.stop()
        if self._editor is None:
            return
        if not event.kept and self.lines.draft is not None and self._before is not None:
            self.lines.draft.restore(self.lines.setting, self._before)
            self.lines.edited()
        self._close(refocus=not event.kept)

    def _close(self, *, refocus: bool = False) -> None:
        editor, self._editor = self._editor, None
        if editor is not None:
            if refocus:
                self.screen.set_focus(self.lines, scroll_visible=False)
            editor.remove()
