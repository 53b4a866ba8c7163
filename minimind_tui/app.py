"""The app: its areas, its keys, and what every area can ask for."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from typing import Any, ClassVar

from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from engine.clean import clean
from engine.runs.folder import RunFolder
from minimind_tui.carrier import Carrier
from minimind_tui.palette import key_commands, toolkit_commands
from minimind_tui.screens.area import Area
from minimind_tui.screens.chat import ChatScreen
from minimind_tui.screens.data import DataScreen
from minimind_tui.screens.dialogs import HelpDialog
from minimind_tui.screens.home import HomeScreen
from minimind_tui.screens.profiles import ProfilesScreen
from minimind_tui.screens.runs import RunsScreen
from minimind_tui.screens.start import Choice, StartDialog
from minimind_tui.screens.train import TrainScreen
from minimind_tui.state import load_keymap
from minimind_tui.terminal import when_told_to_end
from minimind_tui.widgets.area_bar import AREAS


class MinimindApp(Carrier):
    """A workstation for small language models.

    Args:
        path: A run folder, a profile or a data file to open.
        starter: Train the starter ladder at once.

    Attributes:
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
        self.device = "device …"
        self._path, self._starter = path, starter

    def on_mount(self) -> None:
        self.set_keymap(load_keymap())
        if (theme := self.state.get("app.theme", self.theme)) in self.available_themes:
            self.theme = theme
        when_told_to_end(self.end)
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
            self.watch_run(RunFolder(path.parent))

    def _load_torch(self) -> None:
        """In a thread: the first frame does not wait for it, the first run need not either."""
        from engine.training.device import pick_device

        self.device = clean(pick_device("auto").describe(), newlines=False)

    def _open(self, path: Path) -> None:
        if (path / "resolved.json").is_file():
            self.show_run(RunFolder(path.absolute()))
        elif path.suffix == ".toml":
            self.open_profile(str(path))
        else:
            self.open_data(path)

    # What areas ask for

    def open_data(self, path: Path, row: int = 0) -> None:
        """Shows a data file, or what is in a folder, on the Data screen."""
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

    def ask_for_run(self, *, stage: str = "", profile: str = "", data: str = "") -> None:
        """Opens the dialog that starts a run."""
        if self.is_busy():
            return

        def chosen(choice: Choice | None) -> None:
            if choice is not None:
                self.begin_run(choice)

        self.push_screen(StartDialog(stage, profile, data), chosen)

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

    def remember(self) -> None:
        self.state.keep("app.area", self.current_mode)
        self.state.keep("app.theme", self.theme)
        super().remember()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """What the palette offers."""
        yield from key_commands(self, screen)
        yield from toolkit_commands(iter(super().get_system_commands(screen)))
