"""Runs in a table."""

from collections.abc import Collection, Sequence

from rich.text import Text

from engine.clean import clean
from engine.runs.folder import RunFolder
from engine.runs.summary import RunSummary
from minimind_tui.core.last_words import OUT_OF_MEMORY
from minimind_tui.core.run_list import COLUMNS, Order, Sizes
from minimind_tui.widgets.states import cell_style, mark
from minimind_tui.widgets.vim import VimTable

_MARKED = "■"
_TITLES_FROM = 100
"""From this many columns on the best value is named."""
_SPARE = ("profile", "size", "stage", "when", "best")


class RunTable(VimTable):
    """A row a run; the cursor stays with its run, whatever is sorted in before it.

    Args:
        columns: Names of `COLUMNS`; those that have no room are left out.
    """

    def __init__(self, columns: Sequence[str] = tuple(COLUMNS), *, id: str | None = None) -> None:
        super().__init__(id=id, cursor_type="row")
        self._columns_wanted = columns
        self._runs: list[RunSummary] = []
        self._order: Order | None = None
        self._texts: list[list[str]] = []
        self._cells: dict[tuple[str, ...], list[Text]] = {}

    @property
    def selected(self) -> RunSummary | None:
        """The run under the cursor."""
        return self._runs[self.cursor_row] if 0 <= self.cursor_row < len(self._runs) else None

    def show(
        self,
        runs: Sequence[RunSummary],
        *,
        sizes: Sizes | None = None,
        marked: Collection[RunFolder] = (),
        starved: Collection[RunFolder] = (),
        order: Order | None = None,
    ) -> None:
        """Fills the rows as they come; nothing is drawn again where nothing has changed.

        Args:
            runs: The runs.
            sizes: What they take on disk.
            marked: Those that bear a mark.
            starved: Those that ran out of memory.
            order: How they are sorted.
        """
        columns = [COLUMNS[name] for name in self._columns_wanted]
        short = self.app.size.width < _TITLES_FROM
        texts = [
            [_MARKED if one.run in marked else "", *(column.said(one, sizes or {}, short=short) for column in columns)]
            for one in runs
        ]
        if "state" in self._columns_wanted:
            place = 1 + list(self._columns_wanted).index("state")
            for row, one in enumerate(runs):
                if one.run in starved:
                    texts[row][place] = OUT_OF_MEMORY if short else f"failed: {OUT_OF_MEMORY}"
        under, top = self.selected, self.scroll_y
        self._runs = list(runs)
        if texts == self._texts and order == self._order:
            return
        self._texts, self._order = texts, order
        self._cells = {key: self._cells.get(key) or _row(key, self._columns_wanted) for key in map(tuple, texts)}
        self.fill(
            ("", *self._columns_wanted),
            [self._cells[tuple(said)] for said in texts],
            spare=[name for name in _SPARE if name in self._columns_wanted],
        )
        name = under.name if under else ""
        self.move_cursor(row=next((row for row, one in enumerate(runs) if one.name == name), self.cursor_row))
        self.scroll_to(y=top, animate=False)

    def go_to(self, name: str) -> None:
        """The cursor goes to the run of that name, if it is there."""
        for row, one in enumerate(self._runs):
            if one.name == name:
                self.move_cursor(row=row)

    def heading(self, label: str) -> str:
        if self._order is None or label != self._order.by:
            return label
        return f"{label} {'▾' if self._order.falling else '▴'}"


def _row(texts: Sequence[str], columns: Sequence[str]) -> list[Text]:
    cells = [Text(f"{texts[0]:<1}", "bold cyan")]
    for name, said in zip(columns, texts[1:], strict=True):
        if name == "state":
            cells.append(Text(f"{mark(said)} {clean(said, newlines=False)}", cell_style(said)))
        else:
            cells.append(Text(clean(said, newlines=False), "bold" if name == "name" and texts[0] else ""))
    return cells
