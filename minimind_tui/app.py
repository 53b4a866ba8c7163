"""The app: its areas, the run that it carries, and what every area can ask for."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from typing import Any, ClassVar

from textual import work
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from engine.clean import clean
from engine.cli.starter import LADDER
from engine.errors import CheckpointError, EngineError
from engine.references import newest_run
from engine.runner import RunHandle, ThreadRun
from engine.runs.folder import RunFolder, list_runs
from minimind_tui.live import Live, begin_thread
from minimind_tui.screens.area import Area
from minimind_tui.screens.chat import ChatScreen
from minimind_tui.screens.dialogs import ErrorDialog, HelpDialog, QuitDialog
from minimind_tui.screens.home import HomeScreen
from minimind_tui.screens.start import Choice, StartDialog
from minimind_tui.screens.train import TrainScreen
from minimind_tui.state import State, load_keymap, log_path

_DRAIN_SECONDS = 0.25
_LEAVE_SECONDS = 120.0
"""How long quitting waits for the last step and its checkpoint."""


class MinimindApp(App[None]):
    """A workstation for small language models.

    Args:
        path: A run folder, a profile or a data file to open.
        starter: Train the starter ladder at once.

    Attributes:
        own: The run that this process carries, also while another is shown.
        shown: The run on the Train screen.
        device: What models are computed on, known once torch is loaded.
    """

    TITLE = "minimind"
    CSS_PATH: ClassVar[list[str | PurePath]] = [
        "app.tcss",
        "screens/home.tcss",
        "screens/train.tcss",
        "screens/chat.tcss",
        "screens/dialogs.tcss",
    ]
    MODES: ClassVar[dict[str, Any]] = {"home": HomeScreen, "train": TrainScreen, "chat": ChatScreen}
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (60, "-narrow"), (100, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (16, "-short"), (34, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "area('home')", "Home", show=False, id="area.home"),
        Binding("2", "area('train')", "Train", show=False, id="area.train"),
        Binding("3", "area('chat')", "Chat", show=False, id="area.chat"),
        Binding("f1,question_mark", "keys", "Keys", key_display="?", tooltip="All keys of this screen", id="help"),
        Binding("ctrl+q", "quit", "Quit", priority=True, id="quit"),
        Binding("q", "quit", "Quit", show=False, id="quit.plain"),
    ]

    def __init__(self, path: Path | None = None, *, starter: bool = False) -> None:
        super().__init__()
        self.own: Live | None = None
        self.shown: Live | None = None
        self.device = "device …"
        self.state = State.load()
        self._path, self._starter = path, starter
        self._rungs: list[str] = []
        self._starting = False

    def on_mount(self) -> None:
        self.set_keymap(load_keymap())
        if self.state.theme in self.available_themes:
            self.theme = self.state.theme
        self.set_interval(_DRAIN_SECONDS, self._drain)
        self.call_after_refresh(self._after_first_frame)
        self.switch_mode(self.state.screen if self.state.screen in self.MODES else "home")

    def _after_first_frame(self) -> None:
        threading.Thread(target=self._load_torch, name="load-torch", daemon=True).start()
        if self._starter:
            self.climb_starter()
        elif self._path is not None:
            self._open(self._path)
        elif (Path(self.state.run) / "resolved.json").is_file():
            self._watch_run(RunFolder(Path(self.state.run)))

    def _load_torch(self) -> None:
        """In a thread: the first frame does not wait for it, the first run need not either."""
        from engine.training.device import pick_device

        self.device = clean(pick_device("auto").describe(), newlines=False)

    def _open(self, path: Path) -> None:
        if (path / "resolved.json").is_file():
            self.show_run(RunFolder(path.absolute()))
        elif path.is_dir():
            self.show_error(
                CheckpointError("the folder is no run", where=str(path), hint="name a run folder or a file")
            )
        elif path.suffix == ".toml":
            self.ask_for_run(profile=str(path))
        else:
            self.ask_for_run(data=str(path))

    # What a run says

    def _drain(self) -> None:
        """Four times a second: takes in events, and notices the end of the own run."""
        for live in {id(live): live for live in (self.own, self.shown) if live is not None}.values():
            live.drain()
        if self.own is not None and not self.own.alive:
            ended, self.own = self.own, None
            ended.drain()
            self._ended(ended)

    def _ended(self, ended: Live) -> None:
        rungs, self._rungs = self._rungs, []
        if ended.failure is not None:
            self.show_error(ended.failure, ended.log)
        elif ended.state != "done":
            self.notify(f"{clean(ended.name)}: {ended.state} at step {ended.history.step:,}, saved")
        elif rungs:
            self._rungs = rungs
            self._climb()
        else:
            self.notify(f"{clean(ended.name)} is done")

    # What areas ask for

    def show_run(self, run: RunFolder) -> None:
        """Shows a run on the Train screen, whoever carries it."""
        if self.own is not None and self.own.run == run:
            self.shown = self.own
        elif self.shown is None or self.shown.run != run or not self.shown.alive:
            self.shown = None
            self._watch_run(run)
        self.switch_mode("train")

    @work(thread=True, exclusive=True, group="attach", exit_on_error=False)
    def _watch_run(self, run: RunFolder, expected: bool = False) -> None:
        """Reads a run's whole history in a thread, then shows it."""
        live = Live(RunHandle(run), expected=expected)
        live.drain()
        self.call_from_thread(self._show_live, live)

    def _show_live(self, live: Live) -> None:
        self.shown = live

    def ask_for_run(self, *, stage: str = "", profile: str = "", data: str = "") -> None:
        """Opens the dialog that starts a run."""
        if self._is_busy():
            return

        def chosen(choice: Choice | None) -> None:
            if choice is not None:
                self._begin(begin_thread(choice.profile, choice.data, assignments=choice.assignments))

        self.push_screen(StartDialog(stage, profile, data), chosen)

    def resume_run(self, run: RunFolder) -> None:
        """Goes on with a run in a thread of this process."""
        if not self._is_busy():
            self._begin(lambda: Live(ThreadRun(resume=run)))

    def chat_with(self, run: str = "") -> None:
        """Opens the chat with a run's newest checkpoint."""
        self.switch_mode("chat")
        self.call_after_refresh(self._chat_with, run)

    def _chat_with(self, run: str) -> None:
        if isinstance(self.screen, ChatScreen):
            self.screen.talk_with(run)

    def climb_starter(self) -> None:
        """Trains what is missing of the starter ladder, one run after the other, and ends in a chat."""
        if not self._is_busy():
            self._rungs = list(LADDER)
            self._climb()

    @work(thread=True, exit_on_error=False)
    def _climb(self) -> None:
        """Goes to the first rung that is not done: in a thread, since it reads the runs' folders."""
        unfinished: RunFolder | None = None
        while self._rungs:
            try:
                newest_run(self._rungs[0])
            except CheckpointError:
                unfinished = _unfinished(self._rungs[0])
                if unfinished is not None and unfinished.is_running():
                    self._rungs = []
                    self.call_from_thread(self.show_run, unfinished)
                    return
                break
            self._rungs.pop(0)
        self.call_from_thread(self._climb_rung, unfinished)

    def _climb_rung(self, unfinished: RunFolder | None) -> None:
        if not self._rungs:
            self.chat_with(newest_run(LADDER[-1]).name)
            return
        profile = self._rungs[0]
        self._begin((lambda: Live(ThreadRun(resume=unfinished))) if unfinished else begin_thread(profile))

    def leave_ladder(self) -> None:
        """The run that goes on is the last of its ladder."""
        self._rungs = []

    def rung_note(self, live: Live | None) -> str:
        """Where on the starter ladder the own run stands."""
        if not self._rungs or live is None or live is not self.own:
            return ""
        return f"starter ladder {len(LADDER) - len(self._rungs) + 1} of {len(LADDER)}"

    def _is_busy(self) -> bool:
        if self._starting or (self.own is not None and self.own.alive):
            self.notify("A run goes on here: stop or detach it first.", severity="warning")
            return True
        return False

    def _begin(self, make: Callable[[], Live]) -> None:
        self._starting = True
        self.switch_mode("train")
        self._begin_in_thread(make)

    @work(thread=True, exit_on_error=False)
    def _begin_in_thread(self, make: Callable[[], Live]) -> None:
        live = make()
        self.call_from_thread(self._begun, live)

    def _begun(self, live: Live) -> None:
        self._starting = False
        self.own = self.shown = live

    def detach_run(self) -> None:
        """Hands the own run to a process of its own and goes on watching it."""
        if self.own is not None:
            live, self.own = self.own, None
            self._rungs = []
            live.send("stop")
            self.notify("Saving, then going on as a process of its own …")
            self._detach_in_thread(live)

    @work(thread=True, exit_on_error=False)
    def _detach_in_thread(self, live: Live) -> None:
        error = _detach(live)
        self.call_from_thread(self._detached, live, error)

    def _detached(self, live: Live, error: EngineError | None) -> None:
        if error is not None:
            self.show_error(error, live.log)
        elif live.run is not None and self.shown is live:
            self._watch_run(live.run, expected=True)

    def show_error(self, error: EngineError, log: Path | None = None) -> None:
        """An error ends in a dialog; the app lives."""
        self.push_screen(ErrorDialog(error, str(log or log_path())))

    # Actions

    def action_area(self, area: str) -> None:
        """Goes to an area; a dialog in front keeps it."""
        if isinstance(self.screen, Area):
            self.switch_mode(area)

    def action_keys(self) -> None:
        """Shows the keys that work here."""
        screen = self.screen
        if not isinstance(screen, HelpDialog):
            self.push_screen(HelpDialog(screen, screen.HELP_TEXT if isinstance(screen, Area) else ""))

    async def action_quit(self) -> None:
        """Leaves; with a run of this process the user is asked what becomes of it."""
        if isinstance(self.screen, QuitDialog):
            return
        if self.own is None or not self.own.alive:
            self._remember()
            self.exit()
            return
        self.push_screen(QuitDialog(self.own.name), self._leave)

    def _leave(self, answer: str | None) -> None:
        if not answer or self.own is None:
            return
        self._rungs = []
        self._remember()
        self.own.send("stop")
        self.notify("Saving the last step …", timeout=_LEAVE_SECONDS)
        self._leave_in_thread(self.own, answer)

    @work(thread=True, exit_on_error=False)
    def _leave_in_thread(self, live: Live, answer: str) -> None:
        if answer == "detach":
            _detach(live)
        elif isinstance(live.handle, ThreadRun):
            live.handle.join(_LEAVE_SECONDS)
        self.call_from_thread(self.exit)

    def _remember(self) -> None:
        self.state.screen, self.state.theme = self.current_mode, self.theme
        self.state.run = str(self.shown.run.path) if self.shown is not None and self.shown.run is not None else ""
        self.state.save()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette: every action that has a key here, then Textual's own."""
        seen: set[str] = set()
        for active in screen.active_bindings.values():
            binding = active.binding
            if binding.description and binding.action not in seen and not binding.system:
                seen.add(binding.action)
                yield SystemCommand(
                    binding.description,
                    active.tooltip or f"key: {self.get_key_display(binding)}",
                    lambda action=binding.action, node=active.node: self._run_command(action, node),
                )
        yield from (one for one in super().get_system_commands(screen) if one.title not in ("Quit", "Keys"))

    def _run_command(self, action: str, node: Any) -> None:
        self.call_later(self.run_action, action, node)


def _unfinished(profile: str) -> RunFolder | None:
    """The newest run of a profile, if it goes on elsewhere or has a checkpoint to go on from."""
    for run in list_runs():
        if run.read_json(run.resolved).get("profile") == profile:
            return run if run.is_running() or run.checkpoint_steps() else None
    return None


def _detach(live: Live) -> EngineError | None:
    """Waits for the boundary and starts the process; why it did not work, if it did not."""
    if not isinstance(live.handle, ThreadRun):
        return None
    try:
        live.handle.detach()
    except EngineError as error:
        return error
    return None
