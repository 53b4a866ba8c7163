"""Train: one run as it goes, carried here or elsewhere."""

from collections.abc import Iterator
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.events import Resize
from textual.widget import Widget

from minimind_tui.screens.area import Area
from minimind_tui.widgets.curve_grid import CurveGrid
from minimind_tui.widgets.panes import LogPane, SamplesPane
from minimind_tui.widgets.progress_panel import ProgressPanel

_DRAW_SECONDS = 0.5
_LOOKS = ("more", "whole", "log_y", "pane")
"""Actions that change the view only."""
_LOW = 34
"""Below this many rows there is room for one row of charts."""


class TrainScreen(Area):
    """Curves, progress, log and samples of a run."""

    MODE = "train"
    HELP_TEXT = (
        "A run of this app goes on in the background while you are elsewhere. Stop & save ends it at a step boundary, "
        "to be resumed bit for bit; detach hands it to a process that outlives this terminal. The log follows until "
        "you scroll up (tab moves into it), and again from its end."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pause", "Pause", tooltip="Pause after this step", id="train.pause"),
        Binding("p", "go_on", "Go on", tooltip="Go on after a pause", id="train.go_on"),
        Binding("s", "stop", "Stop & save", tooltip="End at a step boundary, saved", id="train.stop"),
        Binding("d", "detach", "Detach", tooltip="Go on as a process of its own", id="train.detach"),
        Binding("r", "resume", "Resume", tooltip="Go on where it ended", id="train.resume"),
        Binding("c", "chat", "Chat", tooltip="Talk with its newest checkpoint", id="train.chat"),
        Binding("n", "new_run", "New run", tooltip="Choose a profile and start a run", id="train.new_run"),
        Binding("m", "more", "More curves", tooltip="The next page of curves", id="train.more"),
        Binding("e", "evaluate", "Evaluate now", show=False, id="train.evaluate"),
        Binding("w", "save", "Save a checkpoint now", show=False, id="train.save"),
        Binding("v", "whole", "Whole run or its newest steps", show=False, id="train.whole"),
        Binding("y", "log_y", "Logarithmic y axis", show=False, id="train.log_y"),
        Binding("t", "pane", "Samples/log", tooltip="The other pane: log or samples", id="train.pane"),
    ]

    _drawn: tuple[object, ...] = ()

    def compose_body(self) -> Iterator[Widget]:
        yield ProgressPanel(id="progress")
        yield CurveGrid(id="curves")
        with Horizontal(id="panes"):
            yield LogPane(id="log")
            yield SamplesPane(id="samples")

    def on_mount(self) -> None:
        super().on_mount()
        grid = self.query_one(CurveGrid)
        grid.log_y = self.mini.state.get("train.log_y", False)
        grid.whole = self.mini.state.get("train.whole", True)
        self.set_interval(_DRAW_SECONDS, self.draw)
        self.draw()

    def on_screen_resume(self) -> None:
        self.draw()

    def on_resize(self, event: Resize) -> None:
        self.set_class(event.size.height < _LOW, "-low")
        self.call_after_refresh(self.draw)

    def draw(self) -> None:
        """Shows what is new; nothing while another screen is in front, or before this one stands."""
        if not self.is_current or not self.is_mounted:
            return
        live, grid = self.mini.shown, self.query_one(CurveGrid)
        self.set_class(live is None, "-empty")
        self.set_class(live is not None and not live.history.curves, "-curveless")
        self.query_one(ProgressPanel).show(live, note=self.mini.rung_note(live))
        state = live.state if live else ""
        if live is not None:
            grid.show(live.history, low=self.has_class("-low"))
            self.query_one(LogPane).show(live.history)
            self.query_one(SamplesPane).show(live.history)
        drawn = (live, state, live is not None and live.alive, grid.pages, self.has_class("-narrow"))
        if drawn != self._drawn:
            self._drawn = drawn
            self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what the run can follow now."""
        live = self.mini.shown
        working = live is not None and live.alive
        if live is not None and live.detaching and action not in _LOOKS:
            return False
        if action in ("pause", "go_on"):
            return working and live is not None and (live.history.status == "paused") == (action == "go_on")
        if action in ("stop", "evaluate", "save"):
            return working
        if action == "detach":
            return working and live is not None and live.is_own
        if action == "resume":
            ended = live is not None and not working and live.state in ("stopped", "failed", "interrupted")
            return ended and live is not None and live.run is not None and live.run.resolved.is_file()
        if action == "chat":
            return live is not None and not working and live.run is not None and live.run.checkpoints.is_dir()
        if action == "more":
            return self.is_mounted and self.query_one(CurveGrid).pages > 1
        if action == "pane":
            return live is not None and self.has_class("-narrow")
        if action in ("whole", "log_y"):
            return live is not None and bool(live.history.curves)
        if action == "new_run":
            return not working
        return True

    def action_pause(self) -> None:
        """Pauses after the step that is being computed."""
        self._tell("pause", "pausing after this step")

    def action_go_on(self) -> None:
        """Goes on after a pause."""
        self._tell("continue", "going on")

    def action_stop(self) -> None:
        """Ends the run with a checkpoint; a ladder ends with it."""
        if (live := self.mini.shown) is not None:
            self.mini.leave_ladder()
            live.send("stop")
            self.draw()

    def action_evaluate(self) -> None:
        """Validation and samples now."""
        self._tell("evaluate", "evaluating after this step")

    def action_save(self) -> None:
        """A checkpoint now."""
        self._tell("save", "saving after this step")

    def _tell(self, command: str, answer: str) -> None:
        if (live := self.mini.shown) is not None:
            live.send(command)
            self.notify(answer, timeout=2)

    def action_detach(self) -> None:
        """Hands the run to a process of its own."""
        self.mini.detach_run()

    def action_resume(self) -> None:
        """Goes on with the shown run."""
        if (live := self.mini.shown) is not None and live.run is not None:
            self.mini.resume_run(live.run)

    def action_chat(self) -> None:
        """Talks with the shown run."""
        if (live := self.mini.shown) is not None:
            self.mini.chat_with(live.name)

    def action_new_run(self) -> None:
        """Asks for a profile."""
        self.mini.ask_for_run()

    def action_more(self) -> None:
        """Turns to the next curves."""
        self.query_one(CurveGrid).turn()
        self.draw()

    def action_whole(self) -> None:
        """The whole run, or its newest steps only."""
        grid = self.query_one(CurveGrid)
        grid.whole = not grid.whole
        self.mini.state.keep("train.whole", grid.whole)
        self.notify("curves of the whole run" if grid.whole else "curves of the newest steps", timeout=2)
        self.draw()

    def action_log_y(self) -> None:
        """A logarithmic or a linear y axis."""
        grid = self.query_one(CurveGrid)
        grid.log_y = not grid.log_y
        self.mini.state.keep("train.log_y", grid.log_y)
        self.notify(f"{'logarithmic' if grid.log_y else 'linear'} y axis", timeout=2)
        self.draw()

    def action_pane(self) -> None:
        """Where there is room for one pane only: the other one."""
        self.toggle_class("-samples")
