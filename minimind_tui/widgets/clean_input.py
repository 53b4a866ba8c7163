"""An input whose text may come from a file's name."""

from rich.text import Text
from textual.widgets import Input

from engine.clean import clean


class CleanInput(Input):
    """What is put in stays as it is; what is painted is cleaned."""

    @property
    def _value(self) -> Text:
        return Text(clean(self.value, newlines=False), no_wrap=True, overflow="ignore", end="")
