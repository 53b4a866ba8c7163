"""The top line: the areas of the app, and the run that goes on."""

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.events import Click
from textual.widgets import Static

from engine.clean import clean
from minimind_tui.widgets.states import MUTED

AREAS = {"home": "Home", "data": "Data", "profiles": "Profiles", "train": "Train", "runs": "Runs", "chat": "Chat"}
"""The areas by mode, in the order of their number keys."""


class AreaTab(Static):
    """An area's name; a click goes there."""

    def __init__(self, area: str, *, current: bool) -> None:
        number = list(AREAS).index(area) + 1
        super().__init__(Content.assemble((f"{number} ", MUTED), AREAS[area]), classes="-on" if current else "")
        self._area = area

    async def on_click(self, event: Click) -> None:
        event.stop()
        await self.app.run_action(f"area('{self._area}')")


class AreaBar(Horizontal):
    """Areas to the left, the live run to the right."""

    def __init__(self, current: str) -> None:
        super().__init__()
        self._current = current

    def compose(self) -> ComposeResult:
        yield Static("minimind", id="brand")
        for area in AREAS:
            yield AreaTab(area, current=area == self._current)
        yield Static("", id="pulse")

    def show_run(self, name: str, state: str, fraction: float) -> None:
        """Names the run that this app carries; an empty name clears it."""
        pulse = self.query_one("#pulse", Static)
        if not name:
            pulse.update("")
            return
        pulse.update(Content.assemble(("● ", "$success"), f"{clean(name, newlines=False)} {state} {fraction:.0%}"))
