"""What a run that is over has learnt, what it left behind, and what to do next."""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, set_cell_size
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from engine.clean import clean
from minimind_tui.core.figures import duration, number
from minimind_tui.core.figures import metric as metric_text
from minimind_tui.core.live import Live
from minimind_tui.core.outcome import gains, next_stages, summary_rows
from minimind_tui.widgets.states import MUTED, content_style, mark
from minimind_tui.widgets.vim import VimScroll

_WIDEST_NAME = 34


class EndPanel(VimScroll):
    """The result of a run."""

    HELP = (
        "The run is over: each leading metric's first, last and best value, the checkpoints it left, and what can be "
        "done with them."
    )

    def compose(self) -> ComposeResult:
        yield Static("", id="end-text")

    def on_mount(self) -> None:
        self.border_title = "Result"
        self._live: Live | None = None
        self._shown: tuple[object, ...] = ()

    def show(self, live: Live) -> None:
        """Shows how a run ended; nothing is made again where nothing has changed."""
        self._live = live
        width = self.scrollable_content_region.width
        key = (live.history, live.history.version, live.state, width)
        if key != self._shown:
            self._shown = key
            self.query_one(Static).update(Content("\n").join(_lines(live, width)))

    def on_resize(self) -> None:
        """The columns of the table follow the width, also of a run that has nothing more to say."""
        if self._live is not None:
            self.show(self._live)


def _lines(live: Live, width: int) -> Iterator[Content]:
    history, state = live.history, live.state
    steps = f" after {history.step:,} steps" if history.total > 1 else ""
    tokens = f" · {number(history.tokens)} tokens" if history.tokens else ""
    yield Content.assemble(
        (f"{mark(state)} {state}", content_style(state)), f"{steps} · {duration(history.elapsed(alive=False))}{tokens}"
    )
    if live.shortage:
        yield Content.styled(f"{live.shortage}: F says what takes it, and what would fit", "$text-error")
    elif error := live.failure or (history.finished.error if history.finished and state == "failed" else ""):
        yield Content.styled(clean(str(error)), "$text-error")
    learnt = gains(history)
    if learnt:
        rows = [
            (
                gain.metric.title.replace("validation ", "val "),
                metric_text(gain.first, gain.metric.unit),
                metric_text(gain.last, gain.metric.unit),
                metric_text(gain.best, gain.metric.unit),
                f"{gain.best_step:,}",
            )
            for gain in learnt
        ]
        yield from _table([("", "first", "last", "best", "at step"), *rows], width)
    if history.saved_step is not None:
        best = next((saved.step for saved in reversed(history.saved) if saved.best), None)
        said = f" · best at step {best:,}" if best is not None else ""
        yield Content.assemble(("checkpoints  ", MUTED), f"newest at step {history.saved_step:,}{said}")
    if history.alerts:
        names = ", ".join(f"{alert.name} ×{alert.count}" for alert in history.alerts.values())
        yield Content.assemble(("warnings  ", MUTED), (names, "$warning"))
    rest = [(clean(name, newlines=False), clean(value, newlines=False)) for name, value in summary_rows(history)]
    if rest and not learnt:
        yield from _pairs(rest)
    yield _next(live)


def _table(rows: Sequence[Sequence[str]], room: int) -> Iterator[Content]:
    """Rows of cells, the first one to the left, the others to the right; columns without room are left out."""
    widths = [max(cell_len(row[place]) for row in rows) for place in range(len(rows[0]))]
    widths[0] = min(widths[0], _WIDEST_NAME)
    while len(widths) > 2 and sum(widths) + 2 * (len(widths) - 1) > room:
        widths.pop()
    for row in rows:
        cells = [" " * (width - cell_len(cell)) + cell for cell, width in zip(row[1:], widths[1:], strict=False)]
        yield Content.assemble((set_cell_size(row[0], widths[0]), MUTED), "  ", "  ".join(cells))


def _pairs(rows: Sequence[tuple[str, str]]) -> Iterator[Content]:
    """Names and values, both to the left."""
    width = min(_WIDEST_NAME, max(cell_len(name) for name, _ in rows))
    for name, value in rows:
        yield Content.assemble((set_cell_size(name, max(width, cell_len(name))), MUTED), "  ", value)


def _next(live: Live) -> Content:
    """The keys that lead on from here."""
    history = live.history
    stage = history.started.stage if history.started else ""
    keys = [("F", "make it fit")] if live.shortage else []
    if live.state != "done" and live.run is not None and live.run.resolved.is_file():
        back = "begin again" if history.saved_step is None else f"go on from step {history.saved_step:,}"
        keys.append(("r", back))
    if history.saved:
        keys += [("c", "chat with it"), ("E", "evaluate it")]
    if live.state == "done":
        keys += [("N", f"next stage: {following.title}") for following in next_stages(stage)[:1]]
    keys.append(("n", "another run"))
    parts = [Content.assemble((key, "$accent bold"), f" {what}") for key, what in keys]
    return Content.assemble(("next  ", MUTED), Content(" · ").join(parts))
