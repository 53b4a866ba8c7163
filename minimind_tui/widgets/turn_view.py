"""One turn of a conversation."""

import re

from textual.content import Content
from textual.widgets import Static

from engine.clean import clean
from minimind_tui.widgets.states import MUTED

_THOUGHT = re.compile(r"(<think>.*?(?:</think>|\Z))", re.DOTALL)


def said(text: str) -> Content:
    """A model's text, cleaned, its thoughts dimmed."""
    parts = _THOUGHT.split(clean(text))
    return Content.assemble(*[(part, f"{MUTED} italic") if index % 2 else part for index, part in enumerate(parts)])


class TurnView(Static):
    """What was said, by whom, and under it how it went."""

    def __init__(self, role: str, speaker: str) -> None:
        super().__init__(classes=f"-{role}")
        self.border_title = Content(clean(speaker, newlines=False))
        self.text = ""

    def show(self, text: str, *, note: str = "", prompt: str = "") -> None:
        """Shows the text so far; `prompt` is the text that it continues, `note` stands in the border."""
        self.text = text
        self.update(Content.assemble((clean(prompt), MUTED), said(text)))
        self.border_subtitle = Content(note)
