"""Chat: talk with any checkpoint while runs go on."""

from collections.abc import Iterator
from typing import ClassVar

from textual.widget import Widget

from minimind_tui.screens.area import Area
from minimind_tui.widgets.chat.pane import ChatPane


class ChatScreen(Area):
    """A conversation with a checkpoint, or with two beside each other."""

    MODE = "chat"
    AUTO_FOCUS: ClassVar[str | None] = "#prompt"

    def compose_body(self) -> Iterator[Widget]:
        yield ChatPane(id="chat")

    def on_screen_resume(self) -> None:
        self.query_one(ChatPane).look()

    def talk_with(self, run: str) -> None:
        """Talks with a run's newest checkpoint; empty: the newest of all."""
        self.query_one(ChatPane).talk_with(run)
