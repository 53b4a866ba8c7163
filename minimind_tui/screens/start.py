"""Choose a profile and start a run."""

from dataclasses import dataclass
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Label, OptionList, Select, Static, TextArea
from textual.widgets.option_list import Option

from engine.clean import clean
from engine.errors import EngineError
from engine.references import data_file
from engine.settings.profile import Profile, list_profiles, load_profile, parse_assignments
from engine.settings.registry import STAGES
from minimind_tui.widgets.states import MUTED

_ALL = ""
_FIRST = "starter"
"""The family of profiles that needs nothing of the user's, and so stands first."""
_SETTINGS = "one name=value a line, such as max_steps=200 or from=my-run"


@dataclass(frozen=True)
class Choice:
    """What the dialog was told."""

    profile: str
    data: str
    assignments: tuple[str, ...]


class StartDialog(ModalScreen[Choice | None]):
    """Profiles by stage, the data file, and settings to override.

    Args:
        stage: Show the profiles of this stage.
        profile: Choose this profile, a name or a path.
        data: The data file.
    """

    AUTO_FOCUS = "#profiles"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+r", "start", "Start", id="start.start"),
        Binding("escape", "dismiss", "Cancel", id="start.cancel"),
    ]

    def __init__(self, stage: str = "", profile: str = "", data: str = "") -> None:
        super().__init__()
        self._stage, self._profile, self._data = stage, profile, data
        self._profiles: dict[str, Profile] = {}

    def compose(self) -> ComposeResult:
        stages = [("every stage", _ALL), *[(stage.title, stage.name) for stage in STAGES.values()]]
        with Vertical(classes="dialog -start") as dialog:
            dialog.border_title = "New run"
            dialog.border_subtitle = "tab next field · enter or ctrl+r starts · escape cancels"
            with Horizontal():
                yield Label("stage")
                yield Select(stages, value=self._stage, allow_blank=False, id="stage", compact=True)
            with Horizontal():
                yield Label("profile")
                yield OptionList(id="profiles", compact=True)
            yield Static("", id="profile-title")
            with Horizontal():
                yield Label("data")
                yield Input(self._data, placeholder="a file; empty: the profile's own", id="data", compact=True)
            with Horizontal():
                yield Label("settings")
                yield TextArea(id="sets", compact=True, placeholder=_SETTINGS)
            yield Static("", id="problem")

    def on_mount(self) -> None:
        self._say("reading the profiles …", problem=False)
        self._read_profiles()

    @work(thread=True, exit_on_error=False)
    def _read_profiles(self) -> None:
        self.app.call_from_thread(self._offer, _readable_profiles())

    def _offer(self, profiles: dict[str, Profile]) -> None:
        self._profiles = profiles
        self._fill(str(self.query_one("#stage", Select).value))

    def _load(self, name: str) -> Profile:
        return self._profiles.get(name) or load_profile(name)

    @on(Select.Changed, "#stage")
    def _stage_chosen(self, event: Select.Changed) -> None:
        if self._profiles:
            self._fill(str(event.value))

    def _fill(self, stage: str) -> None:
        options = self.query_one("#profiles", OptionList)
        shown = [name for name, profile in self._profiles.items() if stage in (_ALL, profile.stage.name)]
        if self._profile and self._profile not in shown:
            shown.append(self._profile)
        options.clear_options()
        options.add_options([Option(Content(clean(name, newlines=False)), id=name) for name in shown])
        wanted = [index for index in range(options.option_count)
                  if options.get_option_at_index(index).id == self._profile]  # fmt: skip
        options.highlighted = wanted[0] if wanted else 0 if options.option_count else None
        if not options.option_count:
            self._say("no profile of this stage yet", problem=False)

    @on(OptionList.OptionHighlighted, "#profiles")
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        try:
            profile = self._load(event.option.id or "")
        except EngineError as error:
            self._say(str(error))
            return
        self.query_one("#profile-title", Static).update(
            Content.assemble((f"{profile.stage.title}  ", "$accent"), clean(profile.title, newlines=False))
        )
        self._say("")

    @on(OptionList.OptionSelected, "#profiles")
    @on(Input.Submitted, "#data")
    def action_start(self) -> None:
        """Checks what can be checked here, and starts."""
        options = self.query_one("#profiles", OptionList)
        if options.highlighted is None:
            self._say("choose a profile first")
            return
        name = options.get_option_at_index(options.highlighted).id or ""
        lines = self.query_one("#sets", TextArea).text.splitlines()
        data = self.query_one("#data", Input).value.strip()
        assignments = tuple(line.strip().removeprefix("--set ") for line in lines if line.strip())
        try:
            parse_assignments(assignments, self._load(name).stage)
            if data:
                data_file(data)
        except EngineError as error:
            self._say(str(error))
            return
        self.dismiss(Choice(name, data, assignments))

    def _say(self, text: str, *, problem: bool = True) -> None:
        self.query_one("#problem", Static).update(Content.styled(clean(text), "$text-error" if problem else MUTED))


def _readable_profiles() -> dict[str, Profile]:
    """All profiles that can be read: by family, in the ladder's order."""
    found = {}
    for name in list_profiles():
        try:
            found[name] = load_profile(name)
        except EngineError:
            continue
    order = list(STAGES)

    def rank(entry: tuple[str, Profile]) -> tuple[bool, str, int]:
        family = entry[0].rpartition("/")[0]
        return family != _FIRST, family, order.index(entry[1].stage.name)

    return dict(sorted(found.items(), key=rank))
