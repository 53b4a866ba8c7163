"""Data."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import Static

from minimind_tui.screens.area import Area


class DataScreen(Area):
    """Data."""

    MODE = "data"
    BINDINGS: ClassVar[list[BindingType]] = []

    def compose_body(self) -> Iterator[Widget]:
        yield Static("")

    def open(self, path: Path, row: int = 0) -> None:
        """Shows a file, or what is in a folder."""
