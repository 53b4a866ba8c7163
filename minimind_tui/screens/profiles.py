"""Profiles."""

from collections.abc import Iterator
from typing import ClassVar

from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import Static

from minimind_tui.screens.area import Area


class ProfilesScreen(Area):
    """Profiles."""

    MODE = "profiles"
    BINDINGS: ClassVar[list[BindingType]] = []

    def compose_body(self) -> Iterator[Widget]:
        yield Static("")

    def open(self, reference: str) -> None:
        """Shows a profile, a name or a path."""
