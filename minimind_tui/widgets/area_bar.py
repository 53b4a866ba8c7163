"""The top line: the areas of the app, and the run that goes on."""

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.events import Click, Resize
from textual.widgets import Static

from engine.clean import clean
from minimind_tui.widgets.states import MUTED, content_style, mark

AREAS = {"home": "Home", "data": "Data", "profiles": "Profiles", "train": "Train", "runs": "Runs", "chat": "Chat"}
"""The areas by mode, in the order of their number keys."""

_BRANDED, _NAMED = 96, 66
"""From these widths on there is room for the program's name, and for the run's."""


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
    """Areas to the left, the live run to the right; at 60 columns its share is all that there is room for."""

    def __init__(self, current: str) -> None:
        super().__init__()
        self._current = current
        self._run = ("", "", "")

    def compose(self) -> ComposeResult:
        yield Static("minimind", id="brand")
        for area in AREAS:
            yield AreaTab(area, current=area == self._current)
        yield Static("", id="pulse")

    def on_resize(self, event: Resize) -> None:
        self.query_one("#brand").display = event.size.width >= _BRANDED
        self._paint()

    def show_run(self, name: str, state: str, fraction: float) -> None:
        """Names the run that this app carries, what matters most first; an empty name clears it."""
        if (run := (name, state, f"{fraction:.0%}")) != self._run:
            self._run = run
            self._paint()

    def _paint(self) -> None:
        (name, state, share), pulse = self._run, self.query_one("#pulse", Static)
        roomy = self.size.width >= _NAMED
        said = f" {clean(name, newlines=False)} {state}" if roomy else ""
        parts = ((mark(state), content_style(state)), " " * roomy + share, said)
        pulse.update(Content.assemble(*parts) if name else "", layout=False)
