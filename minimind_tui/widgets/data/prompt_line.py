"""A line to type something into, shown when it is asked for."""

from dataclasses import dataclass

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Label


class PromptLine(Horizontal):
    """Asks for one thing at a time; it is there only while it asks."""

    HELP = "Type, then press enter; escape leaves."

    @dataclass
    class Answered(Message):
        """Something was typed."""

        purpose: str
        text: str

    def compose(self) -> ComposeResult:
        yield Label("")
        yield Input(id="answer", compact=True)

    def on_mount(self) -> None:
        self.display = False
        self._purpose = ""

    def ask(self, purpose: str, label: str, value: str = "", placeholder: str = "") -> None:
        """Asks; the answer comes as a message with the same purpose."""
        self._purpose = purpose
        self.query_one(Label).update(label)
        line = self.query_one(Input)
        line.value, line.placeholder = value, placeholder
        line.cursor_position = len(value)
        self.display = True
        line.focus()

    def close(self) -> None:
        """Asks no longer."""
        self.display = False

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.close()
        self.post_message(self.Answered(self._purpose, event.value))
