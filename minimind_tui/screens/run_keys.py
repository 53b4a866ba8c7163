"""What can be asked of the run that a screen shows: keys, and when they apply."""

from typing import ClassVar

from textual.binding import Binding, BindingType

from engine.settings.places import runs_folder
from engine.settings.registry import STAGES, StageInfo
from minimind_tui.core.live import Live
from minimind_tui.core.outcome import next_stages
from minimind_tui.core.transcript import LAST
from minimind_tui.screens.area import Area
from minimind_tui.screens.evaluate import EvaluateDialog
from minimind_tui.screens.start import Choice, StartDialog
from minimind_tui.screens.train_dialogs import LogIntervalDialog, StopNowDialog

_SAID = {
    "pause": "pausing after this step",
    "continue": "going on",
    "evaluate": "evaluating after this step",
    "save": "saving after this step",
}
_ON_ITS_WAY = ("pause", "go_on", "stop", "stop_now", "evaluate", "save", "log_interval", "detach")
"""Actions for a run that goes on."""
_AT_ITS_END = ("resume", "next_stage", "chat", "measure")


class RunKeys(Area):
    """An area that shows a run and passes on what the user wants of it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pause", "Pause", tooltip="Pause after this step", id="train.pause"),
        Binding("p", "go_on", "Go on", tooltip="Go on after a pause", id="train.go_on"),
        Binding("s", "stop", "Stop & save", tooltip="End after this step, saved", id="train.stop"),
        Binding("S", "stop_now", "Stop now", show=False, tooltip="Give up this step, saved", id="train.stop_now"),
        Binding("d", "detach", "Detach", tooltip="Go on as a process of its own", id="train.detach"),
        Binding("r", "resume", "Resume", tooltip="Go on where it ended", id="train.resume"),
        Binding("F", "fit", "Make it fit", tooltip="What happened to its memory, and what would fit", id="train.fit"),
        Binding("c", "chat", "Chat", tooltip="Talk with its newest checkpoint", id="train.chat"),
        Binding("E", "measure", "Evaluate", tooltip="Measure a checkpoint on a file", id="train.measure"),
        Binding("R", "rollouts", "Rollouts", show=False, tooltip="What it was rewarded for, on the Data screen",
                id="train.rollouts"),
        Binding("N", "next_stage", "Next stage", tooltip="Start the stage that follows", id="train.next_stage"),
        Binding("n", "new_run", "New run", tooltip="Choose a profile and start a run", id="train.new_run"),
        Binding("e", "evaluate", "Evaluate now", show=False, tooltip="Validation and samples now", id="train.evaluate"),
        Binding("w", "save", "Save a checkpoint now", show=False, id="train.save"),
        Binding("i", "log_interval", "Log interval", show=False, tooltip="Steps between reports", id="train.interval"),
    ]  # fmt: skip

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what the run can follow now."""
        live = self.mini.shown
        if action == "new_run":
            return live is None or not live.alive
        if action == "rollouts":
            return live is not None and live.run is not None and live.run.rollouts.is_file()
        if action == "fit":
            return live is not None and bool(live.shortage)
        if action not in (*_ON_ITS_WAY, *_AT_ITS_END):
            return True
        if live is None or live.detaching:
            return False
        if action in ("pause", "go_on") and (live.history.status == "paused") != (action == "go_on"):
            return False
        if action in _ON_ITS_WAY:
            return live.alive and (live.is_own or action != "detach") and (action == "stop" or _takes_steps(live))
        if action == "measure":
            return bool(live.history.saved)
        if action == "resume":
            ended = live.state in ("stopped", "failed", "interrupted")
            return ended and live.run is not None and live.run.resolved.is_file()
        if action == "next_stage":
            return live.state == "done" and following(live) is not None
        return not live.alive and bool(live.history.saved)

    def draw(self) -> None:
        """Shows what is new."""
        raise NotImplementedError

    def action_pause(self) -> None:
        """Pauses after the step that is being computed."""
        self._tell("pause")

    def action_go_on(self) -> None:
        """Goes on after a pause."""
        self._tell("continue")

    def action_evaluate(self) -> None:
        """Validation and samples now."""
        self._tell("evaluate")

    def action_save(self) -> None:
        """A checkpoint now."""
        self._tell("save")

    def _tell(self, command: str, value: int | None = None) -> None:
        if (live := self.mini.shown) is not None:
            live.send(command, value)
            self.notify(_SAID.get(command, f"reporting every {value} steps"), timeout=2)

    def action_stop(self) -> None:
        """Ends the run after this step with a checkpoint; a ladder ends with it."""
        self._stop("stop")

    def action_stop_now(self) -> None:
        """Ends the run without waiting for the step, if that is meant."""
        if (live := self.mini.shown) is not None:
            self.app.push_screen(StopNowDialog(live.name), lambda sure: self._stop("stop_now") if sure else None)

    def _stop(self, command: str) -> None:
        if (live := self.mini.shown) is not None and live.alive:
            self.mini.leave_ladder()
            live.send(command)
            self.draw()

    def action_log_interval(self) -> None:
        """Asks for the steps between two reports."""

        def chosen(steps: int | None) -> None:
            if steps is not None:
                self._tell("set_log_interval", steps)

        self.app.push_screen(LogIntervalDialog(), chosen)

    def action_detach(self) -> None:
        """Hands the run to a process of its own."""
        self.mini.detach_run()

    def action_resume(self) -> None:
        """Goes on with the shown run."""
        if (live := self.mini.shown) is not None and live.run is not None:
            self.mini.resume_run(live.run)

    def action_fit(self) -> None:
        """What happened to the run's memory, and what would fit."""
        if (live := self.mini.shown) is not None:
            self.mini.talk_of_memory(live)

    def action_new_run(self) -> None:
        """Asks for a run; one that failed before it trained is asked for again as it was."""
        live = self.mini.shown
        failed = live is not None and live.failure is not None and not live.history.step
        self._ask(StartDialog.again(self.mini.state.get("start.choice", {})) if failed else StartDialog())

    def action_next_stage(self) -> None:
        """Asks for a run of the stage that follows, from this one."""
        live = self.mini.shown
        stage = following(live) if live is not None else None
        if live is None or stage is None:
            return
        if live.history.saved:
            self._ask(StartDialog(stage.name, start_from=reference(live)))
        else:
            self._ask(StartDialog(stage.name, tokenizer=reference(live)))

    def _ask(self, dialog: StartDialog) -> None:
        self.app.push_screen(dialog, self._chosen)

    def _chosen(self, choice: Choice | None) -> None:
        if choice is not None:
            self.mini.begin_run(choice)

    def action_chat(self) -> None:
        """Talks with the shown run."""
        if (live := self.mini.shown) is not None:
            self.mini.chat_with(reference(live))

    def action_rollouts(self) -> None:
        """Shows the answers of the newest round, and all before it, on the Data screen."""
        if (live := self.mini.shown) is not None and live.run is not None:
            self.mini.open_data(live.run.rollouts, LAST)

    def action_measure(self) -> None:
        """Measures a checkpoint of the shown run on a file."""
        if (live := self.mini.shown) is not None:
            self.app.push_screen(EvaluateDialog(reference(live)))


def reference(live: Live) -> str:
    """What names a run on the command line: its name, or its path where it lies elsewhere."""
    if live.run is None or live.run.path.parent.resolve() == runs_folder().resolve():
        return live.name
    return str(live.run.path)


def _takes_steps(live: Live) -> bool:
    """Whether its stage trains step by step, so that it listens between two steps; before the start that is open."""
    started = live.history.started
    return started is None or started.stage not in STAGES or "training" in STAGES[started.stage].sections


def following(live: Live) -> StageInfo | None:
    """The stage that usually starts from a run of this one's."""
    started = live.history.started
    found = next_stages(started.stage) if started is not None else []
    return found[0] if found else None
