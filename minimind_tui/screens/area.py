"""What the areas of the app have in common."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer, Static

import minimind_tui.resizing  # noqa: F401
from minimind_tui.widgets.area_bar import AreaBar

if TYPE_CHECKING:
    from minimind_tui.app import MinimindApp


class Area(Screen[None]):
    """A screen with the bar above, the keys below, and a message where the terminal is too small.

    Attributes:
        MODE: The app's mode that shows it.
        HELP_TEXT: A paragraph for the help dialog.
    """

    MODE: ClassVar[str] = ""
    HELP_TEXT: ClassVar[str] = ""

    @property
    def mini(self) -> "MinimindApp":
        """The app, with its type."""
        return cast("MinimindApp", self.app)

    def compose(self) -> ComposeResult:
        yield AreaBar(self.MODE)
        yield from self.compose_body()
        yield Footer(show_command_palette=False)
        yield Static("The terminal is too small:\n60 × 16 is the least.", id="too-small")

    def compose_body(self) -> Iterator[Widget]:
        """The widgets between bar and footer."""
        raise NotImplementedError

    def on_mount(self) -> None:
        self.set_interval(0.5, self.update_bar)

    def update_bar(self) -> None:
        """Shows how the app's own run stands; areas in the background leave it."""
        if self not in self.mini.screen_stack:
            return
        own, bar = self.mini.own, self.query_one(AreaBar)
        if own is not None and own.alive:
            bar.show_run(own.name, own.state, own.history.fraction)
        else:
            bar.show_run("", "", 0.0)
