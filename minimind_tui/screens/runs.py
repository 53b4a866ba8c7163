"""Runs."""

from collections.abc import Iterator
from typing import ClassVar

from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import Static

from minimind_tui.screens.area import Area


class RunsScreen(Area):
    """Runs."""

    MODE = "runs"
    BINDINGS: ClassVar[list[BindingType]] = []

    def compose_body(self) -> Iterator[Widget]:
        yield Static("")
