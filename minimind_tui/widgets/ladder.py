"""The ladder of stages, from raw text to a chat partner."""

from collections.abc import Collection, Sequence
from pathlib import PurePath

from rich.text import Text

from engine.clean import clean
from engine.runs.folder import RunFolder
from minimind_tui.core.last_words import OUT_OF_MEMORY
from minimind_tui.core.library import Rung
from minimind_tui.core.run_list import age, best_text
from minimind_tui.widgets.states import cell_style, mark
from minimind_tui.widgets.vim import VimTable

_LABELS = ("", "stage", "newest run", "state", "best", "data", "when")
_TITLES_FROM = 100
"""From this many columns on stages have their titles; below, their short names."""


class Ladder(VimTable):
    """A row a stage: its mark, its newest run or what stands before one, and what this one has."""

    HELP = (
        "A row a stage, in the order in which a model is made: ✓ done, ● running, → what to do next, · not begun. "
        "Enter starts a run of the stage, or shows the one that goes on; below the table stands what the stage is for."
    )

    def on_mount(self) -> None:
        self.border_title = "Ladder"
        self.cursor_type, self.show_header = "row", True
        self._rungs: list[Rung] = []
        self._texts: list[list[str]] = []

    @property
    def selected(self) -> Rung | None:
        """The stage under the cursor."""
        return self._rungs[self.cursor_row] if 0 <= self.cursor_row < len(self._rungs) else None

    def show(self, rungs: Sequence[Rung], starved: Collection[RunFolder] = ()) -> None:
        """Fills the rows; the cursor goes to the advised stage when that changes, and stays otherwise.

        Args:
            rungs: The stages.
            starved: Runs that ran out of memory.
        """
        rows = [_row(rung, starved, titles=self.app.size.width >= _TITLES_FROM) for rung in rungs]
        texts = [[cell.plain for cell in row] for row in rows]
        row = self.cursor_row if _first(rungs) == _first(self._rungs) else _first(rungs)
        self._rungs = list(rungs)
        if texts != self._texts:
            self._texts = texts
            self.fill(_LABELS, rows, spare=("when", "data", "best"))
            self.move_cursor(row=max(0, row))


def _row(rung: Rung, starved: Collection[RunFolder], *, titles: bool) -> list[Text]:
    newest, following = rung.newest, rung.advice == "next"
    advice = Text("next", "bold cyan") if following else Text(rung.advice, "dim")
    title = Text(rung.stage.title if titles else rung.stage.name, "bold" if following else "")
    if newest is None:
        return [Text(" → " if following else " · ", "cyan"), title, advice, *(Text("") for _ in range(4))]
    style, said = cell_style(newest.state), OUT_OF_MEMORY if newest.run in starved else newest.state
    data = PurePath(newest.place("data")).name
    return [
        Text(f" {mark(newest.state)} ", style),
        title,
        Text(clean(newest.name, newlines=False)),
        Text(clean(said, newlines=False), style),
        Text(best_text(newest)),
        Text(clean(data, newlines=False)),
        Text(age(newest.said)),
    ]


def _first(rungs: Sequence[Rung]) -> int:
    """Where the work is: the stage that runs, else the one that is advised."""
    running = [index for index, rung in enumerate(rungs) if rung.newest is not None and rung.newest.state == "running"]
    advised = [index for index, rung in enumerate(rungs) if rung.advice == "next"]
    return [*running, *advised, 0][0]
