"""The ladder of stages, from raw text to a chat partner."""

from collections.abc import Sequence

from rich.text import Text

from engine.clean import clean
from minimind_tui.core.figures import metric as metric_text
from minimind_tui.core.library import Rung, RunSummary
from minimind_tui.widgets.states import cell_style, mark
from minimind_tui.widgets.vim import VimTable


class Ladder(VimTable):
    """A row a stage: its mark, its newest run or what stands before one, and its best metric."""

    def on_mount(self) -> None:
        self.border_title = "Ladder"
        self.cursor_type, self.show_header = "row", True
        self._rungs: list[Rung] = []

    @property
    def selected(self) -> Rung | None:
        """The stage under the cursor."""
        return self._rungs[self.cursor_row] if 0 <= self.cursor_row < len(self._rungs) else None

    def show(self, rungs: Sequence[Rung]) -> None:
        """Fills the rows; the cursor goes to the advised stage when that changes, and stays otherwise."""
        if list(rungs) == self._rungs:
            return
        row = self.cursor_row if _first(rungs) == _first(self._rungs) else _first(rungs)
        self._rungs = list(rungs)
        self.fill(("", "stage", "newest run", "state", "best"), [_row(rung) for rung in rungs])
        self.move_cursor(row=max(0, row))


def _row(rung: Rung) -> list[Text]:
    newest, following = rung.newest, rung.advice == "next"
    advice = Text("next", "bold cyan") if following else Text(rung.advice, "dim")
    if newest is None:
        sign, name, state, best = Text("→" if following else "·", "cyan"), advice, Text(""), Text("")
    else:
        style = cell_style(newest.state)
        sign, state = Text(mark(newest.state), style), Text(newest.state, style)
        name, best = Text(clean(newest.name, newlines=False)), Text(best_text(newest))
    return [sign, Text(rung.stage.title, "bold" if following else ""), name, state, best]


def _first(rungs: Sequence[Rung]) -> int:
    """Where the work is: the stage that runs, else the one that is advised."""
    running = [index for index, rung in enumerate(rungs) if rung.newest is not None and rung.newest.state == "running"]
    advised = [index for index, rung in enumerate(rungs) if rung.advice == "next"]
    return [*running, *advised, 0][0]


def best_text(summary: RunSummary) -> str:
    """The leading metric's best value with its title, the value first: it stays in sight where the title does not."""
    if summary.metric is None or summary.best is None:
        return "–"
    short = summary.metric.title.replace("validation ", "val ")
    return f"{metric_text(summary.best, summary.metric.unit)} {short}"
