"""Train: one run as it goes, carried here or elsewhere."""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.events import Resize
from textual.widget import Widget
from textual.widgets import Static

from engine.errors import EngineError
from engine.runs.folder import RunFolder
from minimind_tui.core import plot
from minimind_tui.core.charts import SMOOTHING, Other, View, strength
from minimind_tui.core.live import Live
from minimind_tui.core.overlay import Overlay
from minimind_tui.screens.run_keys import RunKeys, reference
from minimind_tui.screens.train_dialogs import CompareDialog, LogFileDialog
from minimind_tui.widgets.chat.pane import ChatPane
from minimind_tui.widgets.curve import Curve
from minimind_tui.widgets.curve_grid import CurveGrid, legend
from minimind_tui.widgets.panes import LogPane, SamplesPane
from minimind_tui.widgets.progress_panel import ProgressPanel
from minimind_tui.widgets.train.alert_line import AlertLine
from minimind_tui.widgets.train.end_panel import EndPanel

_DRAW_SECONDS = 1.0
"""Between two drawings of what is new; a key draws at once."""
_OF_A_RUN = (
    "chat_pane", "seen", "more", "before", "whole", "log_y", "smooth", "compare", "enlarge", "restore", "pane",
    "step", "prompt", "level", "log_file",
)  # fmt: skip
"""Actions that need a run to look at."""


class TrainScreen(RunKeys):
    """Curves, progress, log, samples and result of a run, and a chat with it."""

    MODE = "train"
    HELP_TEXT = (
        "A run of this app goes on in the background while you are elsewhere. Stop & save ends it at a step boundary, "
        "to be resumed bit for bit; detach hands it to a process that outlives this terminal. Tab leads through charts "
        "and panes: in a chart left and right read values; the log follows until you scroll up, and from its end "
        "again. Of a run whose memory ran out, F says what took it, and goes on with a change that fits."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k,K", "chat_pane", "Chat beside", tooltip="A chat with its newest checkpoint", id="train.chat_pane"),
        Binding("a", "seen", "Warnings seen", show=False, tooltip="Dismiss the warnings", id="train.seen"),
        Binding("m", "more", "More curves", show=False, tooltip="The next page of curves", id="train.more"),
        Binding("M", "before", "Curves before", show=False, tooltip="The page before", id="train.before"),
        Binding("v", "whole", "Whole run or its newest steps", show=False, id="train.whole"),
        Binding("y", "log_y", "Logarithmic y axis", show=False, id="train.log_y"),
        Binding("x", "smooth", "Smoothing: off, light, strong", show=False, id="train.smooth"),
        Binding("z", "enlarge", "One chart alone, or all", show=False, id="train.enlarge"),
        Binding("escape", "restore", "All charts again", show=False, id="train.restore"),
        Binding("o", "compare", "Compare with other runs", show=False, id="train.compare"),
        Binding("t", "pane", "Next pane", show=False, tooltip="Result, log or samples", id="train.pane"),
        Binding("comma", "step(-1)", "Samples of an earlier step", show=False, id="train.sample_before"),
        Binding("full_stop", "step(1)", "Samples of a later step", show=False, id="train.sample_after"),
        Binding("left_square_bracket", "prompt(-1)", "Prompt before", show=False, id="train.prompt_before"),
        Binding("right_square_bracket", "prompt(1)", "Next prompt", show=False, id="train.prompt_after"),
        Binding("L", "level", "Levels of the log", show=False, tooltip="All, warnings, errors", id="train.level"),
        Binding("f", "log_file", "Log file", show=False, tooltip="The run's log.txt", id="train.log_file"),
    ]

    _drawn: tuple[object, ...] = ()
    _live: Live | None = None
    _over = False
    _pane = "log"
    _can_draw = False

    def compose_body(self) -> Iterator[Widget]:
        yield ProgressPanel(id="progress")
        yield AlertLine(id="alert")
        with Horizontal(id="work"), Vertical(id="main"):
            yield CurveGrid(id="curves")
            yield Static("", id="legend")
            with Horizontal(id="panes"):
                yield EndPanel(id="end")
                yield LogPane(id="log")
                yield SamplesPane(id="samples")

    def on_mount(self) -> None:
        self._overlay = Overlay()
        preferred = strength(self.mini.preferences.smoothing)
        smoothing = self.mini.state.get("train.smoothing", preferred)
        self._grid.view = View(
            whole=self.mini.state.get("train.whole", True),
            log_y=self.mini.state.get("train.log_y", self.mini.preferences.log_y),
            smoothing=smoothing if smoothing in SMOOTHING else preferred,
        )
        self.query_one("#legend").display = False
        self.call_after_refresh(self._load_plotext)
        self.set_interval(_DRAW_SECONDS, self.draw)
        self.draw()

    @work(thread=True, exit_on_error=False)
    def _load_plotext(self) -> None:
        plot.load()
        self.app.call_from_thread(self._ready)

    def _ready(self) -> None:
        self._can_draw = True
        self.draw()

    @property
    def _grid(self) -> CurveGrid:
        return self.query_one(CurveGrid)

    @property
    def _chat(self) -> ChatPane | None:
        """The docked chat, while it is in sight."""
        found = self.query(ChatPane)
        return found.first() if found and found.first().display else None

    def on_screen_resume(self) -> None:
        self.draw()

    def on_resize(self, event: Resize) -> None:
        self.call_after_refresh(self.draw)

    # Drawing

    def draw(self) -> None:
        """Shows what is new; nothing while another screen is in front, or before this one stands."""
        if not self.is_current or not self.is_mounted:
            return
        live, grid, chat = self.mini.shown, self._grid, self._chat
        self._arrange(live, chat is not None)
        if live is not None and self._can_draw:
            self._compare_with(self._overlay.others(live.run))
            grid.show(live.history)
        self.query_one(ProgressPanel).show(live, note=self.mini.rung_note(live), view=self._view_text())
        self.query_one(AlertLine).show(live)
        if live is not None:
            self.query_one(LogPane).show(live.history)
            self.query_one(SamplesPane).show(live.history)
            if self._over:
                self.query_one(EndPanel).show(live)
            if chat is not None and live.run is not None:
                chat.follow_newest(reference(live))
        state = live.state if live else ""
        drawn = (live, state, live is not None and bool(live.history.saved), live is not None and live.alive)
        if drawn != self._drawn:
            self._drawn = drawn
            self.refresh_bindings()

    def _compare_with(self, others: list[Other]) -> None:
        names = self.query_one("#legend", Static)
        if others != self._grid.others:
            names.update(legend(others))
        self._grid.others = others
        names.display = bool(others) and not self.has_class("-curveless")

    def _arrange(self, live: Live | None, chatting: bool) -> None:
        """Which parts are in sight."""
        over = live is not None and not live.alive
        if live is not self._live or over != self._over:
            self._pane = "end" if over else "log" if self._pane == "end" else self._pane
        self._live, self._over = live, over
        self.set_class(live is None, "-empty")
        self.set_class(live is not None and not live.history.curves, "-curveless")
        self.set_class(over, "-over")
        self.set_class(chatting, "-chatting")
        self.set_class(self._grid.alone, "-alone")
        for pane in ("end", "log", "samples"):
            self.set_class(pane == self._pane, f"-{pane}")

    def _view_text(self) -> str:
        """How the curves are looked at, where that is not the plain view."""
        if self.has_class("-curveless"):
            return ""
        view, grid = self._grid.view, self._grid
        parts = [] if view.whole else ["newest steps"]
        parts += ["log y"] * view.log_y
        parts += [f"{view.smoothing} smoothing"] * (view.smoothing != "off")
        parts += [f"m: page {grid.page + 1}/{grid.pages}"] * (grid.pages > 1)
        return " · ".join(parts)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what the run can follow now, and what there is to see."""
        if not self.is_mounted:
            return False
        live = self.mini.shown
        if live is None:
            return action not in _OF_A_RUN and super().check_action(action, parameters)
        history = live.history
        match action:
            case "chat_pane":
                return self._chat is not None or (live.alive and bool(history.saved))
            case "seen":
                return bool(history.unseen)
            case "more" | "before":
                return self._grid.pages > 1
            case "whole" | "log_y" | "smooth" | "compare" | "enlarge":
                return bool(history.curves)
            case "restore":
                return self._grid.alone
            case "step" | "prompt":
                return bool(history.samples)
            case "log_file":
                return live.log is not None
        return super().check_action(action, parameters)

    async def action_chat_pane(self) -> None:
        """Shows a chat beside the curves, or hides it."""
        if (chat := self._chat) is not None:
            chat.display = False
            self.draw()
            return
        found = self.query(ChatPane)
        chat = found.first() if found else ChatPane(docked=True, id="chat")
        if not found:
            await self.query_one("#work").mount(chat)
        chat.display = True
        self.draw()
        chat.action_type()

    @on(ChatPane.Left)
    def _left_chat(self) -> None:
        """Where the chat has the curves' place, leaving it brings them back."""
        if self.has_class("-narrow") and (chat := self._chat) is not None:
            chat.display = False
        self.draw()
        self._grid.focus_chart()

    def action_seen(self) -> None:
        """Dismisses the warnings; log and result keep them."""
        if (live := self.mini.shown) is not None:
            live.history.mark_seen()
            self.draw()

    def action_more(self) -> None:
        """The next page of curves."""
        self._grid.turn(1)
        self.draw()

    def action_before(self) -> None:
        """The page before."""
        self._grid.turn(-1)
        self.draw()

    def action_whole(self) -> None:
        """The whole run, or its newest steps only."""
        self._look(replace(self._grid.view, whole=not self._grid.view.whole))

    def action_log_y(self) -> None:
        """A logarithmic or a linear y axis."""
        self._look(replace(self._grid.view, log_y=not self._grid.view.log_y))

    def action_smooth(self) -> None:
        """The next strength of smoothing."""
        names = list(SMOOTHING)
        following = names[(names.index(self._grid.view.smoothing) + 1) % len(names)]
        self._look(replace(self._grid.view, smoothing=following))

    def _look(self, view: View) -> None:
        self._grid.view = view
        for name in ("whole", "log_y", "smoothing"):
            self.mini.state.keep(f"train.{name}", getattr(view, name))
        self.draw()

    @on(Curve.Enlarged)
    def _enlarge(self, event: Curve.Enlarged) -> None:
        self._toggle_alone(event.curve)

    def action_enlarge(self) -> None:
        """One chart alone, or all of them again."""
        focused = self.focused
        self._toggle_alone(focused if isinstance(focused, Curve) else None)

    def action_restore(self) -> None:
        """All charts again."""
        self._toggle_alone(None)

    def _toggle_alone(self, curve: Curve | None) -> None:
        self._grid.enlarge(curve)
        self.draw()
        self._grid.focus_chart()
        self.call_after_refresh(self.draw)

    def action_compare(self) -> None:
        """Asks which runs are drawn beside this one."""
        shown = self.mini.shown.run if self.mini.shown is not None else None

        def chosen(runs: list[RunFolder] | None) -> None:
            if runs is not None:
                self._read_compared(runs)

        self.app.push_screen(CompareDialog(shown, self._overlay.runs), chosen)

    @work(thread=True, exclusive=True, group="compare", exit_on_error=False)
    def _read_compared(self, runs: list[RunFolder]) -> None:
        try:
            lives = self._overlay.read(runs)
        except OSError as error:
            unreadable = EngineError(f"a run cannot be read: {error}")
            self.app.call_from_thread(self.mini.show_error, unreadable)
        else:
            self.app.call_from_thread(self._compare, lives)

    def _compare(self, lives: dict[RunFolder, Live]) -> None:
        self._overlay.choose(lives)
        self.draw()

    def action_pane(self) -> None:
        """Where there is room for one pane only: the next one."""
        panes = ["end"] * self._over + ["log"] + ["samples"] * (not self.has_class("-curveless"))
        self._pane = panes[(panes.index(self._pane) + 1) % len(panes)]
        self.draw()

    def action_step(self, by: int) -> None:
        """The samples of another step."""
        self._show_pane("samples")
        self.query_one(SamplesPane).walk(by)

    def action_prompt(self, by: int) -> None:
        """The samples of another prompt, or of all."""
        self._show_pane("samples")
        self.query_one(SamplesPane).choose(by)

    def action_level(self) -> None:
        """More or less of the log."""
        self._show_pane("log")
        self.query_one(LogPane).next_level()
        self.draw()

    def action_log_file(self) -> None:
        """The run's log file."""
        if (live := self.mini.shown) is not None and live.log is not None:
            self.app.push_screen(LogFileDialog(live.log))

    def _show_pane(self, pane: str) -> None:
        self._pane = pane
        self.draw()
