"""Choose a profile and start a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Select, Static, TextArea
from textual.widgets.option_list import Option

from engine.clean import clean
from engine.errors import EngineError
from engine.settings.profile import Profile, list_profiles, load_profile, parse_assignments
from engine.settings.registry import STAGES
from minimind_tui.widgets.states import MUTED

_ALL = ""


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
        Binding("ctrl+r", "start", "Start", priority=True, id="start.start"),
        Binding("escape", "dismiss", "Cancel", id="start.cancel"),
    ]

    def __init__(self, stage: str = "", profile: str = "", data: str = "") -> None:
        super().__init__()
        self._stage, self._profile, self._data = stage, profile, data

    def compose(self) -> ComposeResult:
        stages = [("every stage", _ALL), *[(stage.title, stage.name) for stage in STAGES.values()]]
        with Vertical(classes="dialog -start") as dialog:
            dialog.border_title = "New run"
            dialog.border_subtitle = "enter chooses · ctrl+r starts · escape cancels"
            yield Select(stages, value=self._stage, allow_blank=False, id="stage", compact=True)
            yield OptionList(id="profiles", compact=True)
            yield Static("", id="profile-title")
            yield Input(self._data, placeholder="data file (empty: the profile's own)", id="data", compact=True)
            yield TextArea(id="sets", compact=True, placeholder="settings to change, one name=value a line")
            yield Static("", id="problem")

    def on_mount(self) -> None:
        self._fill(self._stage)

    @on(Select.Changed, "#stage")
    def _stage_chosen(self, event: Select.Changed) -> None:
        self._fill(str(event.value))

    def _fill(self, stage: str) -> None:
        options = self.query_one("#profiles", OptionList)
        profiles = _profiles(stage)
        options.clear_options()
        options.add_options([Option(Content(clean(profile.name)), id=name) for name, profile in profiles])
        if self._profile and not any(name == self._profile for name, _ in profiles):
            options.add_option(Option(Content(clean(self._profile)), id=self._profile))
        wanted = [index for index in range(options.option_count)
                  if options.get_option_at_index(index).id == self._profile]  # fmt: skip
        options.highlighted = wanted[0] if wanted else 0 if options.option_count else None
        if not options.option_count:
            self._say("no profile of this stage yet", problem=False)

    @on(OptionList.OptionHighlighted, "#profiles")
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        try:
            profile = load_profile(event.option.id or "")
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
        assignments = tuple(line.strip().removeprefix("--set ") for line in lines if line.strip())
        try:
            parse_assignments(assignments, load_profile(name).stage)
        except EngineError as error:
            self._say(str(error))
            return
        self.dismiss(Choice(name, self.query_one("#data", Input).value.strip(), assignments))

    def _say(self, text: str, *, problem: bool = True) -> None:
        self.query_one("#problem", Static).update(Content.styled(clean(text), "$text-error" if problem else MUTED))


def _profiles(stage: str) -> Sequence[tuple[str, Profile]]:
    """The readable profiles of a stage; of all stages in the ladder's order where none is named."""
    found = []
    for name in list_profiles():
        try:
            profile = load_profile(name)
        except EngineError:
            continue
        if stage in (_ALL, profile.stage.name):
            found.append((name, profile))
    order = list(STAGES)
    return sorted(found, key=lambda entry: (entry[0].rpartition("/")[0], order.index(entry[1].stage.name)))
