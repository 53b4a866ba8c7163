"""The list of profiles with its filter."""

from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input

from engine.clean import clean
from engine.settings.registry import STAGES
from minimind_tui.core.profiles import Entry, grouped
from minimind_tui.widgets.profiles.profile_list import ProfileList


class Shelf(Vertical):
    """All profiles by hardware, narrowed to a stage and to words.

    Attributes:
        stage: Only profiles of this stage; empty: of all.
        words: Only profiles with all of these words.
    """

    class Filtered(Message):
        """Another stage or other words."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.stage = self.words = ""
        self._entries: Sequence[Entry] = ()

    def compose(self) -> ComposeResult:
        yield Input(placeholder="words of a name or a title", id="filter", compact=True)
        yield ProfileList(id="profiles", compact=True)

    def on_mount(self) -> None:
        self.query_one(ProfileList).border_title = "Profiles"

    def show(self, entries: Sequence[Entry], chosen: str = "") -> None:
        """Lists the profiles; the cursor goes to the chosen one, or stays where it is."""
        if entries != self._entries or chosen:
            self._entries = entries
            if chosen and not self._groups(chosen):
                self.stage = self.words = ""
            self._fill(chosen or self.query_one(ProfileList).selected)

    def filter(self, stage: str, words: str) -> None:
        """Narrows the list; the cursor goes to the first that is left, if its own is not."""
        self.stage, self.words = stage, words
        self._fill(self.query_one(ProfileList).selected, first=True)
        self.post_message(self.Filtered())

    def _groups(self, only: str = "") -> list[tuple[str, list[Entry]]]:
        entries = [entry for entry in self._entries if only in ("", entry.reference)]
        return grouped(entries, self.stage, self.words)

    def _fill(self, chosen: str, *, first: bool = False) -> None:
        groups, profiles = self._groups(), self.query_one(ProfileList)
        profiles.show(groups, chosen, first=first)
        filters = [f"stage {self.stage}" if self.stage else "", f"/{self.words}" if self.words else ""]
        said = " · ".join(part for part in filters if part) or f"{len(self._entries)}"
        profiles.border_subtitle = Content(clean(said if groups else f"{said} · none", newlines=False))

    def next_stage(self) -> None:
        """The profiles of the next stage, after the last one those of all."""
        stages = ["", *STAGES]
        at = stages.index(self.stage) if self.stage in stages else 0
        self.filter(stages[(at + 1) % len(stages)], self.words)

    def search(self) -> None:
        """Opens the input for words."""
        field = self.query_one("#filter", Input)
        field.display = True
        field.value = self.words
        self.screen.set_focus(field)  # at once: the next key may be for it already

    def back(self) -> bool:
        """Leaves the input, then the filter; False where there is neither."""
        field = self.query_one("#filter", Input)
        if field.has_focus:
            self.filter(self.stage, "")
            self._leave()
        elif self.words or self.stage:
            self.filter("", "")
        else:
            return False
        return True

    @on(Input.Changed, "#filter")
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if event.value != self.words:
            self.filter(self.stage, event.value)

    @on(Input.Submitted, "#filter")
    def _leave(self) -> None:
        self.query_one("#filter").display = False
        self.screen.set_focus(self.query_one(ProfileList))
