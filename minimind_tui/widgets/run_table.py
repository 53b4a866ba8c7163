"""All runs in a table."""

from collections.abc import Sequence

from rich.text import Text

from engine.clean import clean
from minimind_tui.core.library import RunSummary
from minimind_tui.widgets.ladder import best_text
from minimind_tui.widgets.states import cell_style
from minimind_tui.widgets.vim import VimTable


class RunTable(VimTable):
    """A row a run, the newest first."""

    def on_mount(self) -> None:
        self.border_title = "Runs"
        self.cursor_type = "row"
        self._runs: list[RunSummary] = []

    @property
    def selected(self) -> RunSummary | None:
        """The run under the cursor."""
        return self._runs[self.cursor_row] if 0 <= self.cursor_row < len(self._runs) else None

    def show(self, runs: Sequence[RunSummary]) -> None:
        """Fills the rows; the cursor stays with its run."""
        self.border_subtitle = f"{len(runs)}" if runs else "none yet"
        if list(runs) == self._runs:
            return
        name = self.selected.name if self.selected else ""
        self._runs = list(runs)
        self.fill(("name", "stage", "state", "step", "best"), [_row(summary) for summary in runs])
        self.move_cursor(row=next((row for row, one in enumerate(runs) if one.name == name), 0))


def _row(summary: RunSummary) -> list[Text]:
    total = f"/{summary.total:,}" if summary.total else ""
    return [
        Text(clean(summary.name, newlines=False)),
        Text(summary.stage),
        Text(summary.state, cell_style(summary.state)),
        Text(f"{summary.step:,}{total}"),
        Text(best_text(summary)),
    ]
