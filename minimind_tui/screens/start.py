"""Choose a profile and start a run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Label, OptionList, Select, Static, TextArea
from textual.widgets.option_list import Option
from textual.worker import get_current_worker

from engine.clean import clean
from engine.errors import EngineError
from engine.runs.summary import RunSummary
from engine.session.companions import REFERENCES
from engine.settings.profile import Profile, load_profile
from engine.settings.registry import STAGES
from minimind_tui.core import choice as fields
from minimind_tui.core.choice import Choice, advice, field_of
from minimind_tui.core.offers import Offers
from minimind_tui.core.profiles import read_entries
from minimind_tui.widgets.cycle_input import CycleInput
from minimind_tui.widgets.file_dialog import FileDialog
from minimind_tui.widgets.states import MUTED

if TYPE_CHECKING:
    from minimind_tui.app import MinimindApp

__all__ = ["Choice", "StartDialog"]

_ALL = ""
_SETTINGS = "one name=value a line, such as max_steps=200"
_INPUTS = {
    fields.DATA: "data",
    fields.FROM: "from",
    **{name: name for name in REFERENCES},
    fields.TOKENIZER: "tokenizer",
}
"""Fields by id with the setting that they override."""
_LABELS = {
    fields.DATA: "data",
    fields.FROM: "start from",
    **{name: fields.label(name) for name in REFERENCES},
    fields.NAME: "name",
    fields.TOKENIZER: "tokenizer",
}


class StartDialog(ModalScreen[Choice | None]):
    """Profiles by stage, what the run reads and starts from, the other models it needs, its name, other settings.

    Args:
        stage: Show the profiles of this stage.
        profile: Choose this profile, a name or a path.
        data: The data file.
        assignments: `name=value` texts.
        start_from: The checkpoint to start from.
        tokenizer: The tokenizer.
        name: The run's name.
    """

    AUTO_FOCUS = "#profiles"
    HELP = (
        "Choose a profile; what stays empty is the profile's own. Down and up in data, start from and the other models "
        "offer what there is. The last line is the command that starts the same run without this app."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+r", "start", "Start", id="start.start"),
        Binding("ctrl+o", "open", "Choose a file", tooltip="Choose a file or a folder", id="start.open"),
        Binding("escape", "dismiss", "Cancel", id="start.cancel"),
    ]

    def __init__(
        self,
        stage: str = "",
        profile: str = "",
        data: str = "",
        assignments: Sequence[str] = (),
        start_from: str = "",
        tokenizer: str = "",
        name: str = "",
    ) -> None:
        super().__init__()
        self._stage, self._profile = stage, profile
        named, self._assignments = fields.split_references(assignments)
        own = {fields.DATA: data, fields.FROM: start_from, fields.NAME: name, fields.TOKENIZER: tokenizer}
        self._given = own | named
        self._profiles: dict[str, Profile] = {}
        self._offers = Offers([])

    @classmethod
    def again(cls, kept: Mapping[str, Any]) -> "StartDialog":
        """The dialog as it was when it was last left with a choice; what is damaged is left out."""
        texts = {name: kept.get(name, "") for name in ("profile", "data", "start_from", "tokenizer", "name")}
        lines = kept.get("assignments", [])
        return cls(
            **{name: text for name, text in texts.items() if isinstance(text, str)},
            assignments=[str(line) for line in lines] if isinstance(lines, list) else (),
        )

    def compose(self) -> ComposeResult:
        stages = [("every stage", _ALL), *[(stage.title, stage.name) for stage in STAGES.values()]]
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "New run"
            dialog.border_subtitle = "tab next field · ctrl+o file · ctrl+r starts · escape cancels"
            with Horizontal():
                yield Label("stage")
                yield Select(stages, value=self._stage, allow_blank=False, id="stage", compact=True)
            with Horizontal():
                yield Label("profile")
                yield OptionList(id=fields.PROFILE, compact=True)
            yield Static("", id="profile-title")
            for field, label in _LABELS.items():
                with Horizontal(id=f"{field}-row"):
                    yield Label(label)
                    yield CycleInput(self._given.get(field, ""), id=field, compact=True)
            with Horizontal():
                yield Label("settings")
                yield TextArea("\n".join(self._assignments), id=fields.SETTINGS, compact=True, placeholder=_SETTINGS)
            yield Static("", id="problem")
            yield Static("", id="command")

    def on_mount(self) -> None:
        self._say("reading the profiles …", problem=False)
        self._read()

    @work(thread=True, exit_on_error=False)
    def _read(self) -> None:
        self.app.call_from_thread(self._offer, _readable(), cast("MinimindApp", self.app).library.runs())

    def _offer(self, profiles: dict[str, Profile], runs: list[RunSummary]) -> None:
        self._profiles, self._offers = profiles, Offers(runs)
        self._fill(str(self.query_one("#stage", Select).value))

    # Profiles

    def _load(self, name: str) -> Profile:
        return self._profiles.get(name) or load_profile(name)

    @on(Select.Changed, "#stage")
    def _stage_chosen(self, event: Select.Changed) -> None:
        if self._profiles:
            self._fill(str(event.value))

    def _fill(self, stage: str) -> None:
        options = self.query_one(f"#{fields.PROFILE}", OptionList)
        shown = [name for name, profile in self._profiles.items() if stage in (_ALL, profile.stage.name)]
        if self._profile and self._profile not in shown:
            shown.append(self._profile)
        options.clear_options()
        options.add_options([Option(Content(clean(name, newlines=False)), id=name) for name in shown])
        options.highlighted = shown.index(self._profile) if self._profile else 0 if shown else None
        if not shown:
            self._say("no profile of this stage yet", problem=False)

    @property
    def _highlighted(self) -> str:
        options = self.query_one(f"#{fields.PROFILE}", OptionList)
        if options.highlighted is None:
            return ""
        return options.get_option_at_index(options.highlighted).id or ""

    @on(OptionList.OptionHighlighted)
    def _profile_chosen(self, event: OptionList.OptionHighlighted) -> None:
        try:
            profile = self._load(event.option.id or "")
        except EngineError as error:
            self._complain(error)
            return
        title = Content.assemble((f"{profile.stage.title}  ", "$accent"), clean(profile.title, newlines=False))
        self.query_one("#profile-title", Static).update(title)
        for field, setting in _INPUTS.items():
            entry, known = self.query_one(f"#{field}", CycleInput), setting in profile.stage.settings
            self.query_one(f"#{field}-row").display = known
            entry.offer(self._offers.of(setting, profile.stage) if known else [])
            own = str(profile.values.get(setting, ("", ""))[0])
            own = PurePath(own).name if PurePath(own).is_absolute() else own
            entry.placeholder = clean(f"the profile's: {own}" if own else "none", newlines=False) + "  (↓ offers)"
        self.query_one(f"#{fields.NAME}", Input).placeholder = "made from the profile's name"
        self._say("")
        self._preview()

    # The choice

    def _choice(self) -> Choice:
        def typed(field: str) -> str:
            entry = self.query_one(f"#{field}", Input)
            row = self.query_one(f"#{field}-row")
            return entry.value.strip() if row.display else ""

        lines = self.query_one(f"#{fields.SETTINGS}", TextArea).text.splitlines()
        models = {name: typed(name) for name in REFERENCES}
        return Choice(
            self._highlighted,
            data=typed(fields.DATA),
            assignments=(
                *(f"{name}={value}" for name, value in models.items() if value),
                *(line.strip().removeprefix("--set ") for line in lines if line.strip()),
            ),
            name=typed(fields.NAME),
            tokenizer=typed(fields.TOKENIZER),
            start_from=typed(fields.FROM),
        )

    @on(Input.Changed)
    @on(TextArea.Changed)
    def _preview(self) -> None:
        """Shows the command line of what is chosen so far."""
        choice = self._choice()
        self.query_one("#command", Static).update(Content(clean(choice.command()) if choice.profile else ""))

    @on(OptionList.OptionSelected)
    @on(Input.Submitted)
    def action_start(self) -> None:
        """Checks what can be checked here, and starts."""
        choice = self._choice()
        if not choice.profile:
            self._say("choose a profile first")
            return
        self._say("checking …", problem=False)
        self._check(choice)

    @work(thread=True, exclusive=True, group="check", exit_on_error=False)
    def _check(self, choice: Choice) -> None:
        worker = get_current_worker()
        try:
            choice.check()
        except EngineError as error:
            if not worker.is_cancelled:
                self.app.call_from_thread(self._complain, error)
        else:
            if not worker.is_cancelled:
                self.app.call_from_thread(self._start, choice)

    def _start(self, choice: Choice) -> None:
        if self.is_current:
            kept = {**asdict(choice), "assignments": [*choice.assignments]}
            cast("MinimindApp", self.app).state.keep("start.choice", kept)
            self.dismiss(choice)

    def action_open(self) -> None:
        """Chooses a path for the field with the focus, or for the data."""
        focused = self.focused
        entry = focused if isinstance(focused, CycleInput) and focused.id in _INPUTS else None
        entry = entry or self.query_one(f"#{fields.DATA}", CycleInput)
        data = entry.id == fields.DATA

        def chosen(path: str | None) -> None:
            if path:
                entry.value = path
                entry.focus()

        title = f"Choose: {_LABELS[entry.id or fields.DATA]}"
        self.app.push_screen(FileDialog(entry.value, title=title, starter=data, folders=not data), chosen)

    # What is wrong

    def _complain(self, error: EngineError) -> None:
        """Says what is wrong in the dialog's words, and leads to the field."""
        place = f"{error.where}: " if error.where else ""
        hint = advice(error)
        self._say(f"{place}{error.what}" + (f"\n→ {hint}" if hint else ""))
        if field := field_of(error):
            self.query_one(f"#{field}").focus()

    def _say(self, text: str, *, problem: bool = True) -> None:
        said = self.query_one("#problem", Static)
        said.update(Content.styled(clean(text), "$text-error" if problem else MUTED))
        if text and problem:
            self.call_after_refresh(said.scroll_visible, animate=False)


def _readable() -> dict[str, Profile]:
    """All profiles that can be read, in the order of the Profiles screen."""
    return {entry.reference: entry.profile for entry in read_entries() if entry.profile is not None}
