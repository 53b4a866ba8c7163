"""The app: its areas, its keys, and what every area can ask for."""

import gc
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import work
from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.events import Print
from textual.screen import Screen
from textual.worker import Worker, WorkerState

from engine.clean import clean
from engine.runs.folder import RunFolder
from minimind_tui.core.applog import failure, note
from minimind_tui.core.charts import strength
from minimind_tui.core.crash import Crash, left_behind
from minimind_tui.memory_talk import MemoryTalk
from minimind_tui.palette import Palette, key_commands, toolkit_commands
from minimind_tui.screens.area import Area
from minimind_tui.screens.dialogs import CrashDialog, HelpDialog
from minimind_tui.state import log_path, read_keymap
from minimind_tui.terminal import copy, released_output, when_told_to_end
from minimind_tui.widgets.area_bar import AREAS

if TYPE_CHECKING:
    from minimind_tui.core.choice import Choice
    from minimind_tui.screens.profiles import ProfilesScreen

Worker.StateChanged.bubble = True  # the app hears of every worker, whoever began it


def _area_screen(area: str) -> Area:
    """An area's screen; its module is loaded with it, so that the first frame waits for its own only."""
    screen: type[Area] = getattr(import_module(f"minimind_tui.screens.{area}"), f"{area.capitalize()}Screen")
    return screen()


class MinimindApp(MemoryTalk):
    """A workstation for small language models.

    Args:
        path: A run folder, a profile or a data file to open.
        starter: Train the starter ladder at once.

    Attributes:
        device: What models are computed on, known once torch is loaded.
        device_kind: The same as `cpu`, `cuda` or `mps`; until then the one that every machine has.
    """

    TITLE = "minimind"
    CSS_PATH: ClassVar[list[str | PurePath]] = [
        "app.tcss",
        *sorted(Path(__file__).parent.joinpath("screens").glob("*.tcss")),
    ]
    MODES: ClassVar[dict[str, Any]] = {area: partial(_area_screen, area) for area in AREAS}
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (60, "-narrow"), (100, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (16, "-squat"), (20, "-short"), (34, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        *[
            Binding(str(number), f"area('{area}')", f"Go to {title}", show=False, id=f"area.{area}")
            for number, (area, title) in enumerate(AREAS.items(), start=1)
        ],
        Binding("question_mark", "keys", "Keys", tooltip="All keys of this screen", id="help"),
        Binding("f1", "keys", "Keys", show=False, priority=True, tooltip="Keys, also in dialogs", id="help.anywhere"),
        Binding("f2", "settings", "Settings", show=False, tooltip="Theme, curves, keys", id="app.settings"),
        Binding("ctrl+l", "log", "Log", show=False, tooltip="What went wrong, and stray output", id="app.log"),
        Binding("ctrl+q", "quit", "Quit", priority=True, id="quit"),
        Binding("q", "quit", "Quit", show=False, id="quit.plain"),
    ]

    def __init__(self, path: Path | None = None, *, starter: bool = False) -> None:
        super().__init__()
        self.device, self.device_kind = "device …", "cpu"
        self._path, self._starter = path, starter

    async def on_mount(self) -> None:
        self.begin_capture_print(self)
        if self.preferences.theme in self.available_themes:
            self.theme = self.preferences.theme
        else:
            self.problems.append(f"settings.toml: there is no theme {self.preferences.theme!r}")
        self._theme_at_start = self.theme
        when_told_to_end(self.end)
        area = "home" if self._path is not None else self.state.get("app.area", "home")
        await self.switch_mode(area if area in self.MODES else "home")
        self.call_after_refresh(self._after_first_frame)

    def _after_first_frame(self) -> None:
        threading.Thread(target=self._load_torch, name="load-torch", daemon=True).start()
        self._look_back()
        if self._starter:
            self.climb_starter()
        elif self._path is not None:
            self._open(self._path)
        elif (path := Path(self.state.get("train.run", "")) / "resolved.json").is_file():
            self.watch_run(RunFolder(path.parent))

    def _load_torch(self) -> None:
        """In a thread: the first frame does not wait for it, the first run need not either. The other areas come first.

        What is loaded then is left out of garbage collections: going through all of torch would stop the screen.
        """
        for area in AREAS:
            import_module(f"minimind_tui.screens.{area}")
        from engine.training.device import pick_device

        device = pick_device("auto")
        self.device, self.device_kind = clean(device.describe(), newlines=False), device.kind
        gc.freeze()
        if device.kind != "cpu" and self.is_running:
            self.call_from_thread(self.plan_anew)

    @work(thread=True, exit_on_error=False)
    def _look_back(self) -> None:
        """Takes on the user's keys, says what is wrong with their files, and asks after a run left by a killed app."""
        from minimind_tui.keymap import effective, problems

        keys, unreadable = read_keymap()
        self.call_from_thread(self.set_keymap, effective(keys))
        for problem in [*self.problems, *unreadable, *problems(keys)]:
            note(f"WARNING {problem}")
            self.call_from_thread(self.notify, clean(problem), severity="warning", markup=False)
        crash = left_behind()
        if crash is not None:
            self.call_from_thread(self._ask_after_crash, crash)

    def _ask_after_crash(self, crash: Crash) -> None:
        if crash.starved:
            self.explain_memory(crash.run)
            return

        def answered(answer: str | None) -> None:
            if answer == "resume":
                self.resume_run(crash.run)
            elif answer == "look":
                self.show_run(crash.run)

        self.push_screen(CrashDialog(crash), answered)

    def _open(self, path: Path) -> None:
        if (path / "resolved.json").is_file():
            self.show_run(RunFolder(path.absolute()))
        elif path.suffix == ".toml":
            self.open_profile(str(path))
        else:
            self.open_data(path)

    # The terminal below, and what goes wrong

    @contextmanager
    def suspend(self) -> Iterator[None]:
        """Makes room for another program on the terminal."""
        with super().suspend(), released_output():
            yield

    def on_print(self, event: Print) -> None:
        """What other code prints goes to the log."""
        if event.text.strip():
            note(event.text)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """A worker's exception ends in a dialog; the app lives."""
        if event.state is WorkerState.ERROR and event.worker.error is not None and self.is_running:
            self.show_error(failure(event.worker.error, event.worker.name), log_path())

    # What areas ask for

    def open_data(self, path: Path, row: int = 0) -> None:
        """Shows a data file, or what is in a folder, on the Data screen."""
        try:
            self.get_screen_stack("data")
        except KeyError:  # never opened: it goes on where it was left, and that is here now
            self.state.keep("data.file", str(path.absolute()))
            self.state.keep("data.row", row)
            self.switch_mode("data")
        else:
            self._in_area("data", lambda screen: screen.open(path, row))

    def open_profile(self, reference: str) -> None:
        """Shows a profile, a name or a path, on the Profiles screen."""
        self._in_area("profiles", lambda screen: screen.open(reference))

    def chat_with(self, run: str = "") -> None:
        self._in_area("chat", lambda screen: screen.talk_with(run))

    def _in_area(self, area: str, then: Callable[[Any], None]) -> None:
        """Goes to an area and does something with its screen once that stands."""

        def ready() -> None:
            if isinstance(self.screen, Area) and area == self.screen.MODE:
                then(self.screen)

        self.switch_mode(area)
        self.call_after_refresh(ready)

    def before_leaving(self, then: Callable[[], None]) -> None:
        try:
            profiles = cast("ProfilesScreen", self.get_screen_stack("profiles")[0])
        except KeyError:  # never opened
            then()
        else:
            profiles.leave_draft(then)

    def compare_runs(self, runs: Sequence[RunFolder]) -> None:
        """Shows what differs between runs, and how they went."""
        from minimind_tui.screens.compare import CompareScreen

        self.push_screen(CompareScreen(runs))

    def plan_anew(self) -> None:
        """Another device is known: what was planned for it is planned again."""
        with suppress(KeyError):  # never opened
            cast("ProfilesScreen", self.get_screen_stack("profiles")[0]).sketch()

    def copy(self, text: str, what: str) -> None:
        """Copies a text out of the terminal, and says where it has gone; `what` names it."""
        copy(self, text, what)

    def ask_for_run(
        self,
        *,
        stage: str = "",
        profile: str = "",
        data: str = "",
        assignments: Sequence[str] = (),
        start_from: str = "",
    ) -> None:
        """Opens the dialog that starts a run, with what is known already."""
        if self.is_busy():
            return
        from minimind_tui.screens.start import StartDialog

        def chosen(choice: "Choice | None") -> None:
            if choice is not None:
                self.begin_run(choice)

        self.push_screen(StartDialog(stage, profile, data, assignments, start_from), chosen)

    # Actions

    def action_area(self, area: str) -> None:
        """Goes to an area; a dialog in front keeps it."""
        if isinstance(self.screen, Area):
            self.switch_mode(area)

    def action_keys(self) -> None:
        """Shows the keys that work here."""
        screen = self.screen
        if isinstance(screen, HelpDialog):
            screen.dismiss()
        else:
            self.push_screen(HelpDialog(screen, screen.HELP_TEXT if isinstance(screen, Area) else ""))

    def action_command_palette(self) -> None:
        """Opens the palette."""
        if not Palette.is_open(self):
            self.push_screen(Palette(id="--command-palette"))

    def action_settings(self) -> None:
        """Opens the settings."""
        from minimind_tui.screens.settings import SettingsScreen

        self.push_screen(SettingsScreen(self.preferences, self._preference_changed))

    def _preference_changed(self, name: str) -> None:
        if name == "theme":
            self.theme = self.preferences.theme
        elif name == "log_y":
            self.state.keep("train.log_y", self.preferences.log_y)
        elif name == "smoothing":
            self.state.keep("train.smoothing", strength(self.preferences.smoothing))

    def action_log(self) -> None:
        """Opens the app's log."""
        from minimind_tui.screens.log import LogScreen

        self.push_screen(LogScreen())

    def remember(self) -> None:
        self.state.keep("app.area", self.current_mode)
        if self.theme != self._theme_at_start and self.theme != self.preferences.theme:  # chosen in the palette
            self.preferences.theme = self.theme
            with suppress(OSError):
                self.preferences.save()
        super().remember()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """What the palette offers."""
        yield from key_commands(self, screen)
        yield from toolkit_commands(iter(super().get_system_commands(screen)))
