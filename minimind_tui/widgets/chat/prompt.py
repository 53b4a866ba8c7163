"""The line to type into: it grows with what is typed or pasted, and enter sends it."""

from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.events import Key
from textual.message import Message
from textual.widgets import TextArea

_NEW_LINE = ("ctrl+j", "shift+enter", "alt+enter")


class Prompt(TextArea):
    """A text of any number of lines; enter sends, ctrl+j begins a line, up in an empty one recalls the question."""

    HELP = (
        "Enter sends, ctrl+j begins a new line, and a paste keeps its lines. Up, or ctrl+e, brings back the last "
        "question to edit it. Escape leaves the input: letters are keys then, and numbers go to the other screens."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "up", "Edit last", show=False, tooltip="Edit the last question, from an empty input",
                id="chat.recall"),
        Binding("ctrl+e", "line_end", "Edit last/line end", show=False,
                tooltip="Edit the last question, from an empty input; else to the line's end", id="chat.recall_end"),
        # The chat's own keys, once more: with the focus here they stand in the footer, escape first.
        Binding("escape", "ask('stop')", "Stop", tooltip="Stop the answer, keep what was said", id="chat.stop"),
        Binding("escape", "ask('close')", "Back", tooltip="Close what is open here", id="chat.close"),
        Binding("escape", "ask('leave')", "Leave input", id="chat.leave",
                tooltip="Leave the input: letters are keys, 1-6 switch screens"),
        Binding("ctrl+o", "ask('choose')", "Checkpoint", tooltip="Choose the checkpoint", id="chat.choose"),
        Binding("ctrl+t", "ask('settings')", "Sampling", tooltip="Sampling, seed and system prompt",
                id="chat.settings"),
        Binding("ctrl+n", "ask('new')", "New chat", tooltip="Begin another conversation", id="chat.new"),
        Binding("f1", "app.keys", "Keys", tooltip="All keys of this screen", id="chat.help"),
        Binding("question_mark", "app.keys", show=False, id="chat.help_here"),
    ]  # fmt: skip

    @dataclass
    class Submitted(Message):
        """Enter was pressed."""

        text: str

    class Recall(Message):
        """The last question is wanted."""

    @dataclass
    class Asked(Message):
        """A key of the chat was pressed here."""

        action: str

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, soft_wrap=True, show_line_numbers=False, highlight_cursor_line=False, compact=True)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The chat says what makes sense now."""
        if action == "ask" and isinstance(self.parent, DOMNode):
            return self.parent.check_action(str(parameters[0]), ())
        return True

    async def _on_key(self, event: Key) -> None:
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self.post_message(self.Submitted(self.text))
        elif event.key in _NEW_LINE:
            event.stop()
            event.prevent_default()
            self.insert("\n")
        else:
            await super()._on_key(event)

    def watch_has_focus(self, has_focus: bool) -> None:
        super().watch_has_focus(has_focus)
        self.border_subtitle = "" if has_focus else "i types here"

    def put(self, text: str) -> None:
        """Replaces what stands here, with the cursor behind it."""
        self.text = text
        self.move_cursor(self.document.end)

    def action_up(self) -> None:
        """The line above; the last question from an empty input."""
        if self.text:
            self.action_cursor_up()
        else:
            self.post_message(self.Recall())

    def action_line_end(self) -> None:
        """The line's end; the last question from an empty input."""
        if self.text:
            self.action_cursor_line_end()
        else:
            self.post_message(self.Recall())

    def action_ask(self, action: str) -> None:
        """Passes a key on to the chat."""
        self.post_message(self.Asked(action))
