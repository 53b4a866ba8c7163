"""Which batch sizes fit at which lengths, as a table to choose from."""

from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.coordinate import Coordinate
from textual.screen import ModalScreen
from textual.widgets import DataTable, Static

from engine.clean import clean
from engine.errors import EngineError
from minimind_tui.core.fit_table import MOST, FitTable
from minimind_tui.widgets.states import MUTED
from minimind_tui.widgets.vim import VimTable


class _Cells(VimTable):
    """Cells that are walked with arrows or h, j, k, l."""

    HELP = (
        "A row a batch_size, a column a max_seq_len: ✓ fits, ✗ does not; the last that fits is underlined, and below "
        "stands how far it goes exactly. What is set stands in brackets; enter sets what is under the cursor."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Set", tooltip="Set batch_size and max_seq_len", id="fit.set"),
        Binding("h", "cursor_left", "Left", show=False, id="fit.left"),
        Binding("l", "cursor_right", "Right", show=False, id="fit.right"),
    ]


class FitDialog(ModalScreen[dict[str, str] | None]):
    """A table of `batch_size` × `max_seq_len`; the answer are the chosen values by name.

    Args:
        compute: Makes the table; it is called in a thread.
        device: What it is for.
    """

    AUTO_FOCUS = "_Cells"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,b,q", "dismiss", "Close", id="dialog.close")]

    def __init__(self, compute: Callable[[], FitTable], device: str) -> None:
        super().__init__()
        self._compute, self._device = compute, device
        self._table: FitTable | None = None

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = Content(f"What fits on {clean(self._device, newlines=False)}")
            dialog.border_subtitle = "enter sets it · escape closes"
            yield _Cells(id="cells", cursor_type="cell")
            yield Static("computing …", id="said")

    def on_mount(self) -> None:
        self._fill()

    @work(thread=True, exit_on_error=False)
    def _fill(self) -> None:
        try:
            table = self._compute()
        except EngineError as error:
            self.app.call_from_thread(self._say, error.what, "$text-error")
        else:
            self.app.call_from_thread(self._show, table)

    def _say(self, text: str, style: str = MUTED) -> None:
        self.query_one("#said", Static).update(Content.styled(clean(text), style))

    def _show(self, table: FitTable) -> None:
        self._table = table
        rows = [[Text(f"{batch:,}"), *(_cell(table, row, column) for column in range(len(table.lengths)))]
                for row, batch in enumerate(table.batches)]  # fmt: skip
        most = [f"{most:,}{'+' if most == MOST else ''}" if most else "none" for most in table.most]
        rows.append([Text("most", "dim"), *(Text(said, "dim") for said in most)])
        cells = self.query_one(_Cells)
        cells.fill(("batch", *(f"{length:,}" for length in table.lengths)), rows)
        here = table.batches.index(table.batch), table.lengths.index(table.length)
        cells.move_cursor(row=here[0], column=here[1] + 1)
        about = "for the rows of this data" if table.of_data else "every row is taken as full"
        self._say(f"batch_size down, max_seq_len across; {about}; accumulation_steps stays as it is")

    @on(DataTable.CellSelected)
    def _selected(self, event: DataTable.CellSelected) -> None:
        values = _values(self._table, event.coordinate) if self._table else None
        if values:
            self.dismiss(values)
        else:
            self.app.bell()


def _values(table: FitTable, place: Coordinate) -> dict[str, str]:
    """What a cell stands for; of the last row the exact number."""
    if not place.column:
        return {}
    column = place.column - 1
    batch = table.batches[place.row] if place.row < len(table.batches) else table.most[column]
    return {"batch_size": str(batch), "max_seq_len": str(table.lengths[column])} if batch else {}


def _cell(table: FitTable, row: int, column: int) -> Text:
    fits = table.fits(row, column)
    sign = "✓" if fits else "✗"
    here = (table.batches[row], table.lengths[column]) == (table.batch, table.length)
    style = f"{'green' if fits else 'red'}{' underline' * table.borders(row, column)}{' bold' * here}"
    return Text(f"[{sign}]" if here else f" {sign} ", style)
