"""In which settings a profile differs from its defaults, its parent, another profile or a run."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import DataTable, Label, Select, Static

from engine.clean import clean
from engine.errors import EngineError
from engine.runs.folder import list_runs
from engine.settings.profile import load_profile
from minimind_tui.core.differences import Difference, differences, run_entries
from minimind_tui.core.forms import Draft, Entries, default_entries, entries_of
from minimind_tui.core.profiles import Entry
from minimind_tui.widgets.states import MUTED
from minimind_tui.widgets.vim import VimTable

Partner = tuple[str, Callable[[], Entries]]
"""What can be compared with: its name, and how its settings are read (in a thread)."""


class DiffDialog(ModalScreen[None]):
    """A table of the settings that differ.

    Args:
        draft: One side; changes that are not saved count.
        entries: The profiles that it can be compared with; runs are looked for.
    """

    AUTO_FOCUS = "VimTable"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,d", "dismiss", "Close", id="diff.close"),
        Binding("right", "partner(1)", "Next", tooltip="Compare with the next", priority=True, id="diff.next"),
        Binding("left", "partner(-1)", "Previous", tooltip="Compare with the one before", priority=True,
                id="diff.previous"),
        Binding("c", "choose", "Choose", tooltip="Choose what to compare with", id="diff.choose"),
    ]  # fmt: skip

    def __init__(self, draft: Draft, entries: Sequence[Entry]) -> None:
        super().__init__()
        self._draft = draft
        self._partners = _partners(draft, entries)
        self._rows: list[Difference] = []

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -diff") as dialog:
            dialog.border_title = Content(f"{clean(self._draft.title, newlines=False)} differs")
            dialog.border_subtitle = "← → what it is compared with · c chooses · escape closes"
            with Horizontal():
                yield Label("from")
                yield Select(_options(self._partners), allow_blank=False, id="partner", compact=True)
            yield VimTable(id="differences")
            yield Static("", id="difference")

    def on_mount(self) -> None:
        self.query_one(VimTable).cursor_type = "row"
        self._find_runs()

    @work(thread=True, exit_on_error=False)
    def _find_runs(self) -> None:
        found: list[Partner] = [(f"run {run.name}", lambda run=run: run_entries(run)) for run in list_runs()]  # type: ignore[misc]
        self.app.call_from_thread(self._offer_runs, found)

    def _offer_runs(self, found: list[Partner]) -> None:
        if found:
            select: Select[int] = self.query_one("#partner", Select)
            chosen = select.value
            self._partners += found
            with select.prevent(Select.Changed):
                select.set_options(_options(self._partners))
                select.value = chosen

    @on(Select.Changed, "#partner")
    def _chosen(self, event: Select.Changed) -> None:
        if isinstance(event.value, int):
            self._compare(event.value)
        if self.query_one("#partner").has_focus_within:
            self.query_one(VimTable).focus()

    @work(thread=True, exclusive=True, group="diff", exit_on_error=False)
    def _compare(self, index: int) -> None:
        try:
            rows = differences(self._draft.entries, self._partners[index][1]())
        except EngineError as error:
            self.app.call_from_thread(self._say, str(error))
        else:
            self.app.call_from_thread(self._show, index, rows)

    def _say(self, problem: str) -> None:
        self._rows = []
        self.query_one(VimTable).clear(columns=True)
        self.query_one("#difference", Static).update(Content.styled(clean(problem), "$text-error"))

    def _show(self, index: int, rows: list[Difference]) -> None:
        self._rows = rows
        table, name = self.query_one(VimTable), clean(self._partners[index][0], newlines=False)
        table.border_title = Content(f"{len(rows)} settings" if len(rows) != 1 else "1 setting")
        cells = [[Text(clean(text, newlines=False)) for text in (row.name, row.one, row.other)] for row in rows]
        table.fill(("setting", "here", name), cells)
        self._explain(0)

    @on(DataTable.RowHighlighted)
    def _moved(self, event: DataTable.RowHighlighted) -> None:
        self._explain(event.cursor_row)

    def _explain(self, index: int) -> None:
        detail = self.query_one("#difference", Static)
        if not 0 <= index < len(self._rows):
            detail.update(Content.styled("Every setting is the same.", MUTED))
            return
        row = self._rows[index]
        sides = ((row.one, row.one_origin), (row.other, row.other_origin))
        detail.update(
            Content("\n").join(
                Content.assemble(
                    (f"{side:<7}", MUTED),
                    clean(value, newlines=False) or "–",
                    (f"  {clean(_origin(origin), newlines=False)}", MUTED),
                )
                for side, (value, origin) in zip(("here", "there"), sides, strict=True)
            )
        )

    def action_partner(self, by: int) -> None:
        """Compares with the next or the previous."""
        select: Select[int] = self.query_one("#partner", Select)
        if isinstance(select.value, int) and not select.expanded:
            select.value = (select.value + by) % len(self._partners)

    def action_choose(self) -> None:
        """Opens the list of what it can be compared with."""
        select: Select[int] = self.query_one("#partner", Select)
        select.focus()
        select.expanded = True


def _origin(origin: str) -> str:
    return "changed, not saved" if origin == "user" else origin


def _options(partners: Sequence[Partner]) -> list[tuple[Content, int]]:
    return [(Content(clean(name, newlines=False)), index) for index, (name, _) in enumerate(partners)]


def _partners(draft: Draft, entries: Sequence[Entry]) -> list[Partner]:
    """What comes to mind first: what is saved, the parent, the defaults, profiles of the stage, all others."""
    partners: list[Partner] = []
    if draft.unsaved:
        partners.append(("what is saved", lambda: draft.saved))
    if parent := draft.profile.extends:
        partners.append((f"its parent {parent}", lambda: entries_of(load_profile(parent))))
    partners.append(("the defaults", lambda: default_entries(draft.stage)))
    others = [entry.profile for entry in entries if entry.profile and entry.reference != draft.reference]
    others.sort(key=lambda profile: profile.stage is not draft.stage)
    return [*partners, *[(profile.name, lambda profile=profile: entries_of(profile)) for profile in others]]
