"""The ladder of stages, from raw text to a chat partner."""

from collections.abc import Sequence

from textual.content import Content

from engine.clean import clean
from minimind_tui.figures import metric as metric_text
from minimind_tui.library import Rung, RunSummary
from minimind_tui.widgets.progress_panel import STATE_STYLES
from minimind_tui.widgets.vim import VimTable

_MARKS = {"done": ("✓", "$success"), "running": ("●", "$success"), "failed": ("✗", "$error")}


class Ladder(VimTable):
    """A row a stage: its mark, its newest run, its best metric, and what to do next."""

    def on_mount(self) -> None:
        self.border_title = "Ladder"
        self.cursor_type, self.show_header = "row", True
        self.add_columns(" ", "stage", "newest run", "state", "best", "advice")
        self._rungs: list[Rung] = []

    @property
    def selected(self) -> Rung | None:
        """The stage under the cursor."""
        return self._rungs[self.cursor_row] if 0 <= self.cursor_row < len(self._rungs) else None

    def show(self, rungs: Sequence[Rung]) -> None:
        """Fills the rows; the cursor stays."""
        if list(rungs) == self._rungs:
            return
        row = self.cursor_row if self._rungs else _first(rungs)
        self._rungs = list(rungs)
        self.clear()
        for rung in rungs:
            self.add_row(*map(_content, _row(rung)), key=rung.stage.name)
        self.move_cursor(row=max(0, row))


def _row(rung: Rung) -> list[tuple[str, str]]:
    newest = rung.newest
    mark = _MARKS.get(newest.state, ("◐", "$warning")) if newest else ("→", "$accent") if rung.advice == "next" else ("·", "$text-muted")
    advice = "← next" if rung.advice == "next" else rung.advice
    return [
        mark,
        (rung.stage.title, "bold" if rung.advice == "next" else ""),
        (clean(newest.name, newlines=False) if newest else "–", "" if newest else "$text-muted"),
        (newest.state, STATE_STYLES.get(newest.state, "")) if newest else ("", ""),
        (best_text(newest), "") if newest else ("", ""),
        (advice, "$accent" if rung.advice == "next" else "$text-muted"),
    ]


def _first(rungs: Sequence[Rung]) -> int:
    return next((index for index, rung in enumerate(rungs) if rung.advice == "next"), 0)


def _content(cell: tuple[str, str]) -> Content:
    return Content.styled(*cell)


def best_text(summary: RunSummary) -> str:
    """The leading metric's best value with its title."""
    if summary.metric is None or summary.best is None:
        return "–"
    short = summary.metric.title.replace("validation ", "val ")
    return f"{short} {metric_text(summary.best, summary.metric.unit)}"
