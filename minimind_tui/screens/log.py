"""The app's own log: stray output of other code, warnings, and errors that nobody expected."""

from typing import TYPE_CHECKING, ClassVar, cast

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen

from engine.clean import clean
from minimind_tui.core.applog import tail
from minimind_tui.state import log_path
from minimind_tui.terminal import copy
from minimind_tui.widgets.log_lines import LogLines

if TYPE_CHECKING:
    from minimind_tui.app import MinimindApp

_LOOK_SECONDS = 1.0


class LogScreen(ModalScreen[None]):
    """The end of the log, followed as it grows."""

    HELP = (
        "What other code wrote to the terminal lands here instead of on the screen, with Python's warnings and the "
        "whole story of errors. The newest stands last; scrolling up holds the view, G follows again. A run's own log "
        "is on the Train screen."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,ctrl+l", "dismiss", "Close", id="log.close"),
        Binding("y", "copy_path", "Copy path", tooltip="Copy the log's path", id="log.copy_path"),
    ]

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -log") as dialog:
            dialog.border_title = "Log"
            dialog.border_subtitle = "y copies the path · G follows · escape closes"
            yield LogLines(id="log-lines")

    def on_mount(self) -> None:
        self._log, self._read = log_path(), -1
        self.query_one(LogLines).focus()
        self.look()
        self.set_interval(_LOOK_SECONDS, self.look)

    @work(thread=True, exclusive=True, exit_on_error=False)
    def look(self) -> None:
        """Reads the end of the log in a thread, and shows it if it has grown."""
        size, lines = tail(self._log)
        if size != self._read:
            self.app.call_from_thread(self._show, size, lines)

    def _show(self, size: int, lines: list[str]) -> None:
        self._read = size
        self.query_one(".dialog").border_title = Content(f"Log  {clean(str(self._log), newlines=False)}")
        self.query_one(LogLines).show(lines or ["nothing yet"])

    def action_copy_path(self) -> None:
        """The log's path, for another terminal."""
        copy(cast("MinimindApp", self.app), str(self._log), "the log's path")
