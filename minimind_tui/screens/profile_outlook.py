"""What the Profiles screen knows of a run of what is edited: its size and steps, its memory, and what makes it fit."""

import threading
from dataclasses import dataclass
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.timer import Timer
from textual.worker import get_current_worker

from engine.errors import EngineError
from engine.session.planning import Draft as Drafted
from engine.settings.profile import Settings
from engine.settings.values import value_text
from minimind_tui.core import plot
from minimind_tui.core.fit_table import fit_table
from minimind_tui.core.forms import Draft
from minimind_tui.core.lookups import Lookups
from minimind_tui.core.memory import Change, Memory
from minimind_tui.core.planner import Planner, full_plan, quick_plan
from minimind_tui.core.sketch import Sketch, sketch
from minimind_tui.screens.profile_files import ProfileFiles
from minimind_tui.widgets.memory.fit_dialog import FitDialog
from minimind_tui.widgets.memory.suggestions import Suggestions
from minimind_tui.widgets.memory.target_dialog import TargetDialog
from minimind_tui.widgets.profiles.form_pane import FormPane
from minimind_tui.widgets.profiles.outlook import Outlook
from minimind_tui.widgets.profiles.setting_lines import SettingLines

_PAUSE_SECONDS = 0.4
"""How long typing rests before it is looked for what would help."""


@dataclass(frozen=True)
class Planned:
    """What is known of a draft's memory: a plan, or why there is none; neither where its stage trains no model."""

    drafted: Drafted | None = None
    memory: Memory | None = None
    problem: str = ""


class ProfileOutlook(ProfileFiles):
    """A screen that works out what a run of the profile in its form would be."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("F", "fit", "Make it fit", tooltip="Choose a change that makes it fit", id="profiles.fit"),
        Binding("F", "save_memory", "Save memory", show=False, tooltip="Choose a change that saves memory",
                id="profiles.save_memory"),
        Binding("b", "fit_table", "What fits", show=False, tooltip="Which batch sizes fit at which lengths",
                id="profiles.fit_table"),
        Binding("t", "target", "Plan for", show=False, tooltip="The device that memory is planned for",
                id="profiles.target"),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.lookups = Lookups()
        self._planner = Planner(self.lookups)
        self.planned = Planned()
        self._planned_draft: Draft | None = None
        self._pause: Timer | None = None
        self._planning = threading.Lock()

    def forget_lookups(self) -> None:
        """Reads from disk again what settings name: runs may have come."""
        self.lookups.forget()
        self._planner.forget()

    @property
    def target(self) -> str:
        """The device that is planned for; empty: this machine's, as the settings say."""
        return self.mini.state.get("profiles.device", "")

    # What a run would be

    def sketch(self) -> None:
        """Works out anew what a run would be."""
        if self.draft is not None:
            self._sketch_in_thread(self.draft)

    @work(thread=True, exclusive=True, group="sketch", exit_on_error=False)
    def _sketch_in_thread(self, draft: Draft) -> None:
        drawn = sketch(draft.stage, draft.asked, self.lookups)
        planned = self.plan_memory(drawn.settings)
        if drawn.rates:
            plot.load()
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._sketched, draft, drawn, planned)

    def _sketched(self, draft: Draft, drawn: Sketch, planned: Planned) -> None:
        if draft is not self.draft:
            return
        if (draft.inherited, draft.inherited_from) != (drawn.inherited, drawn.start):
            draft.inherited, draft.inherited_from = drawn.inherited, drawn.start
            self.query_one(FormPane).update()
        self.query_one(Outlook).show(draft, drawn)
        self.show_memory(planned, anew=draft is not self._planned_draft)
        self._planned_draft = draft

    # Its memory

    def plan_memory(self, settings: Settings | None) -> Planned:
        """What settings take; call it from a thread."""
        if settings is None or "training" not in settings.sections:
            return Planned()
        try:
            drafted = self._planner.draft(settings, self.target, self.mini.device_kind)
            return Planned(drafted, quick_plan(drafted))
        except EngineError as error:
            return Planned(problem=f"{error.what}: {error.hint}" if error.hint else error.what)

    def show_memory(self, planned: Planned, *, anew: bool) -> None:
        """Shows a plan at once, and after a pause what would help; `anew`: it is another profile's."""
        self.planned = planned
        outlook = self.query_one(Outlook)
        outlook.memory.show(planned.memory, planned.problem, self.target)
        self.query_one(FormPane).show_memory(planned.memory)
        if anew or planned.memory is None:
            outlook.memory.show_changes(None)
        if self._pause is not None:
            self._pause.stop()
        self._pause = self.set_timer(_PAUSE_SECONDS, self._look_further) if planned.memory is not None else None
        self.refresh_bindings()

    def _look_further(self) -> None:
        if self.planned.drafted is not None:
            self._plan_in_full(self.planned)

    @work(thread=True, exclusive=True, group="plan", exit_on_error=False)
    def _plan_in_full(self, planned: Planned) -> None:
        assert planned.drafted is not None
        worker = get_current_worker()
        with self._planning:  # of large data it takes seconds: no more than one at a time
            if worker.is_cancelled:
                return
            try:
                plan = full_plan(planned.drafted)
            except EngineError:  # the device is gone meanwhile: the next plan says so
                return
        if not worker.is_cancelled:
            self.app.call_from_thread(self._planned_in_full, planned, plan)

    def _planned_in_full(self, planned: Planned, plan: Memory | None) -> None:
        if planned is not self.planned:  # typed meanwhile
            return
        self.planned = Planned(planned.drafted, plan)
        outlook = self.query_one(Outlook)
        outlook.memory.show(plan, device=self.target)
        outlook.memory.show_changes(plan)
        self.query_one(FormPane).show_memory(plan)
        self.refresh_bindings()

    # What can be done with it

    def action_fit(self) -> None:
        """Goes to the changes that help."""
        self.view_outlook()
        self.set_focus(self.query_one(Suggestions), scroll_visible=False)
        self.call_after_refresh(self._see_changes)  # the outlook may come into sight only now

    def _see_changes(self) -> None:
        """As much of the plan above them as there is room for."""
        changes = self.query_one(Suggestions)
        changes.scroll_visible(animate=False, top=changes.size.height >= self.query_one(Outlook).size.height)

    def action_save_memory(self) -> None:
        """The same, where it fits already."""
        self.action_fit()

    def view_outlook(self) -> None:
        """Brings the outlook into sight."""
        raise NotImplementedError

    @on(Suggestions.Chosen)
    def _apply(self, event: Suggestions.Chosen) -> None:
        self._set(event.change)

    def _set(self, change: Change) -> None:
        self.enter_values({name: value_text(value) for name, value in change.values.items()})

    def enter_values(self, values: dict[str, str]) -> None:
        """Sets settings as if the user had typed them."""
        draft = self.draft
        if draft is None:
            return
        for name, text in values.items():
            draft.enter(name, text)
        self.query_one(SettingLines).edited()
        said = " ".join(f"{name}={text}" for name, text in values.items())
        self.notify(f"{said}: not saved yet", timeout=3, markup=False)

    def action_fit_table(self) -> None:
        """Which batch sizes fit at which lengths; the chosen cell is set."""
        drafted = self.planned.drafted
        if drafted is None:
            return

        def chosen(values: dict[str, str] | None) -> None:
            if values:
                self.enter_values(values)

        self.mini.push_screen(FitDialog(lambda: fit_table(drafted), self.target or drafted.target.name), chosen)

    def action_target(self) -> None:
        """Asks for the device that is planned for."""

        def chosen(device: str | None) -> None:
            if device is not None:
                self.mini.state.keep("profiles.device", device)
                self.sketch()

        self.mini.push_screen(TargetDialog(self.target), chosen)

    def may_fit(self, action: str) -> bool:
        """Whether a key of this part would do something."""
        plan = self.planned.memory
        if action == "target":
            return plan is not None or bool(self.planned.problem)
        if action == "fit_table":
            return plan is not None
        return plan is not None and bool(plan.changes) and plan.fits == (action == "save_memory")
