"""How far a run is, how fast, and how long it will take."""

from rich.cells import cell_len
from textual.content import Content
from textual.widgets import Static

from engine.clean import clean
from engine.settings.registry import STAGES
from minimind_tui.core.figures import duration, metric, number, share, size
from minimind_tui.core.live import Live
from minimind_tui.widgets.states import MUTED, content_style, mark

_NOTHING = "No run to show.\n[b]n[/b] starts one, [b]1[/b] leads to the runs there are."
_LONGEST_BAR = 40


class ProgressPanel(Static):
    """Three lines: the bar, the numbers, the machine."""

    _shown: tuple[object, ...] = ()

    def show(self, live: Live | None, *, note: str = "", view: str = "") -> None:
        """Shows a run; `note` is added to its name, `view` stands before its state."""
        ticks = round(live.history.elapsed()) if live is not None and live.alive else 0
        stands = (live.history.version, live.state, live.name) if live is not None else ()
        key = (live, stands, ticks, note, view, self.content_size)
        if key == self._shown:
            return
        self._shown = key
        if live is None:
            self.border_title, self.border_subtitle = "Run", ""
            self.update(Content.from_markup(_NOTHING))
            return
        started, state = live.history.started, live.state
        stage = STAGES[started.stage].title if started and started.stage in STAGES else ""
        # A border title reads markup in a str, none in a Content.
        title = "  ".join(part for part in (clean(live.name, newlines=False), stage, note) if part)
        self.border_title = Content(title)
        said = (f"{mark(state)} {state}{f': {live.shortage}' if live.shortage else ''}", content_style(state))
        self.border_subtitle = Content.assemble((f"{view}  " if view else "", MUTED), said)
        width = max(20, self.content_size.width)
        self.update(Content("\n").join([_bar(live, width), _numbers(live), _machine(live)]), layout=False)


def _bar(live: Live, width: int) -> Content:
    history = live.history
    if live.state == "preparing":
        said = f" {history.fraction:>4.0%}  {history.preparing}"
    else:
        parts = [f"{history.step:,}/{history.total:,} steps"] if history.total > 1 else []
        if history.log:
            parts.append(duration(history.elapsed(alive=live.alive)))
        if live.alive and live.state != "paused" and (left := history.seconds_left()) is not None:
            parts.append(f"{duration(left)} left")
        said = f" {history.fraction:>4.0%}  {' · '.join(parts)}"
    room = max(8, min(_LONGEST_BAR, width - cell_len(said)))
    full = round(room * history.fraction)
    return Content.assemble(("━" * full, "$primary"), ("─" * (room - full), "$surface-lighten-2"), said)


def _numbers(live: Live) -> Content:
    """The newest value of each leading metric; the best one of those that validation measures."""
    history = live.history
    if live.failure is not None:
        return Content.styled(clean(live.failure.what, newlines=False), "$text-error")
    parts = []
    for one in history.leading()[:2]:
        curve = history.curves[one.name]
        best = f" (best {metric(curve.best(one.direction), one.unit)})" if one.name.startswith("val_") else ""
        parts.append(f"{one.title} {metric(curve.last, one.unit)}{best}")
    if history.epoch:
        parts.append(f"epoch {history.epoch:.2f}")
    if history.tokens:
        parts.append(f"{number(history.tokens)} tokens")
    return Content(" · ".join(parts) or ("no step yet" if history.total > 1 else ""))


def _machine(live: Live) -> Content:
    history, parts = live.history, []
    if (speed := history.value("tokens_per_second")) is not None:
        parts.append(f"{number(speed)} tokens/s")
    if (memory := history.value("memory_bytes")) is not None:
        parts.append(f"{size(memory)} memory" + (f" (planned {history.plan.range})" if history.plan else ""))
    if (trained := history.value("trained_share")) is not None:
        parts.append(f"{share(trained)} of tokens trained")
    if (started := history.started) is not None and started.parameters:
        parts += [f"{number(started.parameters)} parameters", clean(f"{started.dtype} {started.device}")]
    return Content.styled(" · ".join(parts), MUTED)
