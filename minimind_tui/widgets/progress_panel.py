"""How far a run is, how fast, and how long it will take."""

from textual.content import Content
from textual.widgets import Static

from engine.clean import clean
from engine.settings.registry import STAGES
from minimind_tui.core.figures import duration, number, share, size
from minimind_tui.core.live import Live
from minimind_tui.widgets.states import MUTED, content_style

_NOTHING = "No run to show.\n[b]n[/b] starts one, [b]1[/b] leads to the runs there are."


class ProgressPanel(Static):
    """Three lines: the bar, the numbers, the machine."""

    def show(self, live: Live | None, *, note: str = "") -> None:
        """Shows a run; `note` is added to its name."""
        if live is None:
            self.border_title, self.border_subtitle = "Run", ""
            self.update(Content.from_markup(_NOTHING))
            return
        history, state = live.history, live.state
        started = history.started
        stage = STAGES[started.stage].title if started and started.stage in STAGES else ""
        # A border title reads markup in a str, none in a Content.
        self.border_title = Content("  ".join(part for part in (live.name, stage, note) if part))
        self.border_subtitle = Content.styled(state, content_style(state))
        width = max(20, self.content_size.width)
        self.update(Content("\n").join([self._bar(live, width), self._numbers(live), self._machine(live)]))

    def _bar(self, live: Live, width: int) -> Content:
        history = live.history
        if live.state == "preparing":
            said = f" {history.fraction:>4.0%}  {history.preparing}"
        else:
            left = history.seconds_left() if live.alive and live.state != "paused" else None
            said = f" {history.fraction:>4.0%}  {history.step:,}/{history.total:,} steps" if history.total else " "
            if live.is_own or history.log:
                said += f" · {duration(history.elapsed())}"
            said += f" · {duration(left)} left" if left is not None else ""
        room = max(8, min(40, width - len(said)))
        full = round(room * history.fraction)
        return Content.assemble(("━" * full, "$primary"), ("━" * (room - full), "$surface-lighten-2"), said)

    def _numbers(self, live: Live) -> Content:
        history = live.history
        parts = []
        if (loss := history.value("loss")) is not None:
            parts.append(f"loss {number(loss)}")
        if (validation := history.curves.get("val_loss")) is not None:
            parts.append(f"validation {number(validation.last)} (best {number(validation.best(-1))})")
        if history.epoch:
            parts.append(f"epoch {history.epoch:.2f}")
        if history.tokens:
            parts.append(f"{number(history.tokens)} tokens")
        if live.failure is not None:
            return Content.styled(clean(live.failure.what, newlines=False), "$text-error")
        return Content(" · ".join(parts) or "no step yet")

    def _machine(self, live: Live) -> Content:
        history, parts = live.history, []
        if (speed := history.value("tokens_per_second")) is not None:
            parts.append(f"{number(speed)} tokens/s")
        if (memory := history.value("memory_bytes")) is not None:
            parts.append(size(memory))
        if (trained := history.value("trained_share")) is not None:
            parts.append(f"{share(trained)} trained")
        if (started := history.started) is not None and started.parameters:
            parts += [f"{number(started.parameters)} parameters", f"{started.dtype} {started.device}"]
        return Content.styled(" · ".join(parts), MUTED)
