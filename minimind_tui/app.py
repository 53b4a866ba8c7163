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
from engine.errors import CheckpointError, EngineError
from engine.runner import RunHandle, ThreadRun
from engine.runs.folder import RunFolder
from minimind_tui.core.climb import Climb
from minimind_tui.core.live import Live, begin_thread
from minimind_tui.palette import key_commands, toolkit_commands
from minimind_tui.screens.area import Area
from minimind_tui.screens.chat import ChatScreen
from minimind_tui.screens.data import DataScreen
from minimind_tui.screens.dialogs import ErrorDialog, HelpDialog, QuitDialog
from minimind_tui.screens.home import HomeScreen
from minimind_tui.screens.profiles import ProfilesScreen
from minimind_tui.screens.runs import RunsScreen
from minimind_tui.screens.start import Choice, StartDialog
from minimind_tui.screens.train import TrainScreen
from minimind_tui.state import State, load_keymap
from minimind_tui.terminal import when_told_to_end
from minimind_tui.widgets.area_bar import AREAS

_DRAIN_SECONDS = 0.25
_LEAVE_SECONDS = 120.0
"""How long quitting waits for the last step and its checkpoint."""


class MinimindApp(App[str]):
    """A workstation for small language models.

    What it returns is said on the terminal that it leaves behind: what became of the run.

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
        *[f"screens/{name}.tcss" for name in (*AREAS, "dialogs")],
    ]
    MODES: ClassVar[dict[str, Any]] = {
        "home": HomeScreen,
        "data": DataScreen,
        "profiles": ProfilesScreen,
        "train": TrainScreen,
        "runs": RunsScreen,
        "chat": ChatScreen,
    }
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (60, "-narrow"), (100, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (16, "-squat"), (20, "-short"), (34, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        *[
            Binding(str(number), f"area('{area}')", f"Go to {title}", show=False, id=f"area.{area}")
            for number, (area, title) in enumerate(AREAS.items(), start=1)
        ],
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
        self._climb: Climb | None = None
        self._starting = False

    def on_mount(self) -> None:
        self.set_keymap(load_keymap())
        if (theme := self.state.get("app.theme", self.theme)) in self.available_themes:
            self.theme = theme
        self.set_interval(_DRAIN_SECONDS, self._drain)
        when_told_to_end(self._end)
        self.call_after_refresh(self._after_first_frame)
        area = self.state.get("app.area", "home")
        self.switch_mode(area if area in self.MODES else "home")

    def _after_first_frame(self) -> None:
        threading.Thread(target=self._load_torch, name="load-torch", daemon=True).start()
        if self._starter:
            self.climb_starter()
        elif self._path is not None:
            self._open(self._path)
        elif (path := Path(self.state.get("train.run", "")) / "resolved.json").is_file():
            self._watch_run(RunFolder(path.parent))

    def _load_torch(self) -> None:
        """In a thread: the first frame does not wait for it, the first run need not either."""
        from engine.training.device import pick_device

        self.device = clean(pick_device("auto").describe(), newlines=False)

    def _open(self, path: Path) -> None:
        if (path / "resolved.json").is_file():
            self.show_run(RunFolder(path.absolute()))
        elif path.is_dir():
            hint = "name a run folder or a file"
            self.show_error(CheckpointError("the folder is no run", where=str(path), hint=hint))
        elif path.suffix == ".toml":
            self.open_profile(str(path))
        else:
            self.open_data(path)

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
        climb, self._climb = self._climb, None
        if ended.failure is not None:
            self.show_error(ended.failure, ended.log)
        elif ended.state != "done":
            self.notify(f"{clean(ended.name)}: {ended.state} at step {ended.history.step:,}, saved")
        elif climb is not None:
            self._climb = climb
            self._climb_on(climb)
        else:
            self.notify(f"{clean(ended.name)} is done")

    # What areas ask for

    def open_data(self, path: Path, row: int = 0) -> None:
        """Shows a data file, or what is in a folder, on the Data screen."""
        self._in_area("data", lambda screen: screen.open(path, row))

    def open_profile(self, reference: str) -> None:
        """Shows a profile, a name or a path, on the Profiles screen."""
        self._in_area("profiles", lambda screen: screen.open(reference))

    def begin_run(self, choice: Choice) -> None:
        """Starts a run in a thread of this process and shows it."""
        if not self._is_busy():
            self._begin(begin_thread(choice.profile, choice.data, assignments=choice.assignments))

    def show_run(self, run: RunFolder) -> None:
        """Shows a run on the Train screen, whoever carries it."""
        if self.own is not None and self.own.run == run:
            self.shown = self.own
        elif self.shown is None or self.shown.run != run or not self.shown.alive:
            self.shown = None
            self._watch_run(run)
        self.switch_mode("train")

    @work(thread=True, exclusive=True, group="attach", exit_on_error=False)
    def _watch_run(self, run: RunFolder) -> None:
        """Reads a run's whole history in a thread, then shows it."""
        live = Live(RunHandle(run))
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
                self.begin_run(choice)

        self.push_screen(StartDialog(stage, profile, data), chosen)

    def resume_run(self, run: RunFolder) -> None:
        """Goes on with a run in a thread of this process."""
        if not self._is_busy():
            self._begin(lambda: Live(ThreadRun(resume=run)))

    def chat_with(self, run: str = "") -> None:
        """Opens the chat with a run's newest checkpoint."""
        self._in_area("chat", lambda screen: screen.talk_with(run))

    def _in_area(self, area: str, then: Callable[[Any], None]) -> None:
        """Goes to an area and does something with its screen once that stands."""

        def ready() -> None:
            if isinstance(self.screen, Area) and area == self.screen.MODE:
                then(self.screen)

        self.switch_mode(area)
        self.call_after_refresh(ready)

    def climb_starter(self) -> None:
        """Trains what is missing of the starter ladder, one run after the other, and ends in a chat."""
        if not self._is_busy():
            self._climb = Climb()
            self._climb_on(self._climb)

    @work(thread=True, exit_on_error=False)
    def _climb_on(self, climb: Climb) -> None:
        self.call_from_thread(self._climb_rung, climb, climb.advance())

    def _climb_rung(self, climb: Climb, unfinished: RunFolder | None) -> None:
        if not climb.left:
            self._climb = None
            self.chat_with(climb.goal.name)
        elif unfinished is None:
            self._begin(begin_thread(climb.left[0]))
        elif unfinished.is_running():
            self._climb = None
            self.show_run(unfinished)
        else:
            self._begin(lambda: Live(ThreadRun(resume=unfinished)))

    def leave_ladder(self) -> None:
        """The run that goes on is the last of its ladder."""
        self._climb = None

    def rung_note(self, live: Live | None) -> str:
        """Where on the starter ladder the own run stands."""
        return str(self._climb) if self._climb is not None and live is not None and live is self.own else ""

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
        if self.own is not None and not self.own.detaching:
            self._hand_over(self.own)

    def _hand_over(self, live: Live, *, leave: bool = False) -> None:
        self._climb, live.detaching = None, True
        self._hand_over_in_thread(live, leave)

    @work(thread=True, exit_on_error=False)
    def _hand_over_in_thread(self, live: Live, leave: bool) -> None:
        self.call_from_thread(self._handed_over, live, live.detach(), leave)

    def _handed_over(self, live: Live, error: EngineError | None, leave: bool) -> None:
        live.detaching = False
        if error is None:
            self.own = None
            if leave:
                self.exit(f"{clean(live.name)} goes on without this terminal; minimind-tui shows it again.")
            elif live.run is not None and self.shown is live:
                self._watch_run(live.run)
        elif live.failure is None and live.state != "done":
            self.own = None
            self.show_error(error, live.log)

    def show_error(self, error: EngineError, log: Path | None = None) -> None:
        """An error ends in a dialog; the app lives."""
        self.push_screen(ErrorDialog(error, log))

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
        self._remember()
        if self.own is None or not self.own.alive:
            self.exit()
        elif self.own.detaching:
            self.notify("The run is being handed over: one moment.")
        else:
            self.push_screen(QuitDialog(self.own.name), self._leave)

    def _leave(self, answer: str | None) -> None:
        if not answer or self.own is None:
            return
        if answer == "detach":
            self._hand_over(self.own, leave=True)
        else:
            self.notify("Saving the last step …", timeout=_LEAVE_SECONDS)
            self._stop_and_leave(self.own)

    def _end(self) -> None:
        """The terminal was closed, or a signal asks for the end: what the run has learnt is saved first."""
        self._remember()
        if self.own is None or not self.own.alive:
            self.exit()
        elif not self.own.detaching:
            self._stop_and_leave(self.own)

    def _stop_and_leave(self, live: Live) -> None:
        self._climb = None
        live.send("stop")
        self._leave_in_thread(live)

    @work(thread=True, exit_on_error=False)
    def _leave_in_thread(self, live: Live) -> None:
        if isinstance(live.handle, ThreadRun):
            live.handle.join(_LEAVE_SECONDS)
        self.call_from_thread(self._left, live)

    def _left(self, live: Live) -> None:
        live.drain()
        saved = live.state == "stopped"
        name, step = clean(live.name), live.history.step
        self.exit(f"{name} is saved at step {step:,}; go on with it here or by: engine resume {name}" if saved else "")

    def _remember(self) -> None:
        self.state.keep("app.area", self.current_mode)
        self.state.keep("app.theme", self.theme)
        shown = self.shown.run if self.shown is not None else None
        self.state.keep("train.run", str(shown.path) if shown is not None else "")
        self.state.save()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """What the palette offers."""
        yield from key_commands(self, screen)
        yield from toolkit_commands(iter(super().get_system_commands(screen)))
