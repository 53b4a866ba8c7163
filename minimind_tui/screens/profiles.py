"""Profiles: settings looked at, changed, compared, saved and started."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from textual import events, on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import OptionList
from textual.worker import get_current_worker

from engine.errors import ProfileError
from engine.settings.places import user_profiles
from minimind_tui.core.forms import Draft
from minimind_tui.core.profiles import Entry, read_entries
from minimind_tui.screens.profile_outlook import Planned, ProfileOutlook
from minimind_tui.widgets.profiles.diff import DiffDialog
from minimind_tui.widgets.profiles.form_pane import FormPane
from minimind_tui.widgets.profiles.outlook import Outlook
from minimind_tui.widgets.profiles.profile_list import ProfileList
from minimind_tui.widgets.profiles.setting_lines import SettingLines
from minimind_tui.widgets.profiles.shelf import Shelf

_TWO_PANES, _THREE_PANES = 100, 116
"""Widths from which on the list stands beside the form, and the outlook as well."""


class ProfilesScreen(ProfileOutlook):
    """Profiles by hardware, one of them as a form, and what a run of it would be."""

    MODE = "profiles"
    AUTO_FOCUS = "#profiles"
    HELP_TEXT = (
        "A profile is a set of settings for one stage. Built-in ones stay as they are: change what you like and save "
        "it under a name of your own, which then holds your changes only. Without saving, s starts a run with the "
        "changes as they stand. The memory that its largest step takes follows as you type; F leads to changes that "
        "make it fit, t plans for another device, b shows which batch sizes fit at which lengths."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "start", "Start", tooltip="Start a run of this profile", id="profiles.start"),
        Binding("d", "diff", "Diff", tooltip="Compare with defaults, parent, profiles, runs", id="profiles.diff"),
        Binding("v", "outlook", "Outlook", tooltip="Parameters, steps, learning rate", show=False,
                id="profiles.outlook"),
        Binding("y", "copy", "Copy the command", tooltip="Copy the engine command", show=False, id="profiles.copy"),
        Binding("f", "stage", "Filter by stage", show=False, id="profiles.stage"),
        Binding("slash", "search", "Search", tooltip="Search a setting or a profile", show=False, id="profiles.search"),
        Binding("n", "again(1)", "Next match", show=False, id="profiles.next_match"),
        Binding("N", "again(-1)", "Previous match", show=False, id="profiles.previous_match"),
        Binding("escape", "back", "Back", show=False, id="profiles.back"),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._opened: list[str] = []
        self._viewed = "shelf"
        self._setting = self._wanted = ""

    def compose_body(self) -> Iterator[Widget]:
        with Horizontal(id="profile-panes"):
            yield Shelf(id="shelf")
            yield FormPane(id="editor")
            yield Outlook(id="outlook")

    def on_mount(self) -> None:
        self._setting = self.mini.state.get("profiles.setting", "")
        self._wanted = self.mini.state.get("profiles.profile", "")
        self._opened += [self._wanted] if Path(self._wanted).suffix == ".toml" else []
        shelf = self.query_one(Shelf)
        shelf.stage, shelf.words = self.mini.state.get("profiles.stage", ""), self.mini.state.get("profiles.filter", "")
        self._read_profiles()

    def on_screen_resume(self) -> None:
        self.forget_lookups()
        self._read_profiles()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width >= _THREE_PANES, "-three")
        self._view(self._viewed)

    def _view(self, pane: str) -> None:
        """Goes to a pane: `shelf`, `editor` or `outlook`; where there is no room for all, the others give way."""
        self._viewed, width = pane, self.size.width
        beside = {"shelf": _TWO_PANES, "editor": _TWO_PANES, "outlook": _THREE_PANES}
        for name, room in beside.items():
            others = name == "editor" and pane == "outlook" and width < _THREE_PANES
            self.query_one(f"#{name}").display = name == pane or (width >= room and not others)

    # Which profile

    def open(self, reference: str) -> None:
        """Shows a profile, a name or a path; changes of another one are asked about first."""
        self.leave_draft(lambda: self._open(reference))

    def _open(self, reference: str) -> None:
        path = Path(reference).expanduser().absolute()
        if path.suffix == ".toml":
            inside = path.is_relative_to(user_profiles())
            reference = path.relative_to(user_profiles()).with_suffix("").as_posix() if inside else str(path)
            self._opened += [] if inside else [reference]
        self._wanted = reference
        self._read_profiles(anew=True, enter=True)

    def show_saved(self, reference: str) -> None:
        if not reference:
            self._opened = [path for path in self._opened if Path(path).exists()]
            self.action_list()
        self._wanted = reference
        self._read_profiles(anew=True)

    def read_profiles(self) -> None:
        self._read_profiles()

    @work(thread=True, exclusive=True, group="profiles", exit_on_error=False)
    def _read_profiles(self, *, anew: bool = False, enter: bool = False) -> None:
        """Reads all profiles in a thread; `anew` shows the wanted one in any case, `enter` goes to its form."""
        entries = read_entries(self._opened)
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._offer, entries, anew, enter)

    def _offer(self, entries: list[Entry], anew: bool, enter: bool) -> None:
        self.entries = entries
        found = next((entry for entry in entries if entry.reference == self._wanted), None)
        if found is None and anew and self._wanted:
            self.mini.show_error(ProfileError(f"there is no profile {self._wanted!r}"))
        if found is None and self.draft is None and entries:
            found = entries[0]
        chosen = found.reference if found is not None and (anew or self.draft is None) else ""
        self.query_one(Shelf).show(entries, chosen)
        if found is not None and (anew or self._is_news(found)):
            self._show(found)
        else:
            self.sketch()
        if enter and found is not None:
            self.enter_form()

    def _is_news(self, entry: Entry) -> bool:
        """Whether a profile is not what is shown, or was changed by another program; changes here come first."""
        if self.draft is None:
            return True
        known = entry.profile is not None and entry.profile.source == self.draft.profile.source
        return not (known or self._is_busy)

    @property
    def _is_busy(self) -> bool:
        return self.unsaved or (self.draft is not None and self.draft.is_new)

    @property
    def _reference(self) -> str:
        return self.draft.reference if self.draft else self.broken.reference if self.broken else self._wanted

    @on(OptionList.OptionHighlighted, "#profiles")
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        if event.option.id and event.option.id != self._reference and not self._is_busy:
            self._show_reference(event.option.id)

    @on(OptionList.OptionSelected, "#profiles")
    def _selected(self, event: OptionList.OptionSelected) -> None:
        reference = event.option.id or ""
        if reference == self._reference:
            self.enter_form()
            return

        def go() -> None:
            self._show_reference(reference)
            self.enter_form()

        self.leave_draft(go)

    def _show_reference(self, reference: str) -> None:
        """Shows a profile, unless it was deleted since the list was drawn."""
        for entry in self.entries:
            if entry.reference == reference:
                self._show(entry)

    def _show(self, entry: Entry) -> None:
        self._wanted = entry.reference
        self.mini.state.keep("profiles.profile", entry.reference)
        draft = self.draft
        if entry.profile is not None:
            if draft and (draft.reference, draft.stage) == (entry.reference, entry.profile.stage):
                draft.rebase(entry.profile)  # what is being changed meanwhile stays
                self._edited()
            else:
                self.show_draft(Draft(entry.profile, entry.reference))
            return
        self.draft, self.broken = None, entry
        self.query_one(FormPane).show_broken(entry)
        self.query_one(Outlook).show_nothing()
        self.show_memory(Planned(), anew=True)

    def show_draft(self, draft: Draft, setting: str = "") -> None:
        self.draft, self.broken = draft, None
        pane = self.query_one(FormPane)
        pane.show(draft, setting or pane.lines.setting or self._setting)
        self._changed()

    # What is shown of it

    @on(SettingLines.Edited)
    def _edited(self) -> None:
        self.query_one(FormPane).update()
        self._changed()

    @on(SettingLines.Moved)
    def _moved(self) -> None:
        self.mini.state.keep("profiles.setting", self.query_one(SettingLines).setting)

    @on(Shelf.Filtered)
    def _filtered(self) -> None:
        shelf = self.query_one(Shelf)
        self.mini.state.keep("profiles.stage", shelf.stage)
        self.mini.state.keep("profiles.filter", shelf.words)

    def _changed(self) -> None:
        self.refresh_bindings()
        self.sketch()

    # What can be done with it

    def action_start(self) -> None:
        """Asks for the rest and starts a run with the settings as they stand."""
        draft = self.draft
        if draft is None or not self.is_usable(draft):
            return
        if draft.is_new:
            self.notify("It needs a name before it can be started: w saves it.", severity="warning")
        else:
            self.mini.ask_for_run(profile=draft.reference, assignments=draft.assignments())

    def action_copy(self) -> None:
        """Copies the command that trains the profile as it stands."""
        if self.draft is not None and (command := self.draft.command()):
            self.mini.copy(command, "the command")
        else:
            self.notify("It has a command once it is saved.", severity="warning")

    def action_diff(self) -> None:
        """In which settings it differs from something else."""
        if self.draft is not None:
            self.mini.push_screen(DiffDialog(self.draft, self.entries))

    # Moving about

    def enter_form(self) -> None:
        self._view("editor")
        self.query_one(FormPane).enter()

    def action_list(self) -> None:
        """Goes to the list."""
        self._view("shelf")
        self.set_focus(self.query_one(ProfileList))

    def action_outlook(self) -> None:
        """Goes to the outlook, and back again."""
        if self.query_one(Outlook).has_focus_within:
            self.enter_form()
        else:
            self.view_outlook()
            self.set_focus(self.query_one(Outlook))

    def view_outlook(self) -> None:
        self._view("outlook")

    def action_back(self) -> None:
        """One level back: from a search or the outlook to the form, from there to the list; there the filter goes."""
        shelf = self.query_one(Shelf)
        if shelf.display and shelf.has_focus_within:
            shelf.back()
        elif self.query_one(Outlook).has_focus_within:
            self.enter_form()
        elif not self.query_one(FormPane).back():
            self.action_list()

    def action_stage(self) -> None:
        """Shows the profiles of the next stage, after the last one those of all."""
        self.query_one(Shelf).next_stage()

    def action_search(self) -> None:
        """Searches the form where that has the focus, else the list."""
        if self.query_one(FormPane).has_focus_within and self.draft is not None:
            self.query_one(FormPane).search()
        else:
            self.action_list()
            self.query_one(Shelf).search()

    def action_again(self, by: int) -> None:
        """The next or the previous setting with the words searched for."""
        self.query_one(FormPane).again(by)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that would do nothing are left out of the footer."""
        if action == "save":
            return self._is_busy
        if action in ("start", "diff", "save_as", "copy", "outlook"):
            return self.draft is not None
        if action in ("fit", "save_memory", "fit_table", "target"):
            return self.may_fit(action)
        return True
