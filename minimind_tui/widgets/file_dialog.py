"""A dialog that chooses a file or a folder: by typing its path, by walking folders, or from what was open before."""

from collections.abc import Sequence
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from engine.clean import clean
from minimind_tui.core.browse import UNUSABLE, Entry, complete, found_at, listing, reason
from minimind_tui.core.figures import size
from minimind_tui.widgets.clean_input import CleanInput
from minimind_tui.widgets.states import MUTED


class FileDialog(ModalScreen[str]):
    """Chooses a path; the answer is empty where nothing was chosen.

    The list under the line shows what fits the path typed so far; up and down walk it while one types, enter opens a
    folder or chooses a file, tab completes. With an empty line it offers the files opened last and the starter world.

    Args:
        start: The path that stands in the line; a folder's ends with a slash.
        title: What is chosen.
        recent: Paths that were chosen before, the newest first.
        starter: Offer the starter world's files, as `starter:NAME`.
        folders: A folder may be chosen.
        everything: Show all files, not only those that are called like data.
    """

    AUTO_FOCUS = "#path"
    HELP = "Type a path, or walk to it: up and down move in the list, enter opens a folder or chooses, tab completes."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "Cancel", id="file.cancel"),
        Binding("tab", "complete", "Complete", tooltip="Complete the path as far as it is clear", id="file.complete"),
        Binding("down,ctrl+n", "walk(1)", "Next", show=False, id="file.down"),
        Binding("up,ctrl+p", "walk(-1)", "Before", show=False, id="file.up"),
        Binding("pagedown", "walk(8)", "Page down", show=False, id="file.page_down"),
        Binding("pageup", "walk(-8)", "Page up", show=False, id="file.page_up"),
    ]
    DEFAULT_CSS = """
    FileDialog {
        .-file { width: 84; height: 95%; }
        #path { background: $background; border: none; height: 1; padding: 0 1; }
        #entries { height: 1fr; background: $surface; border: none; padding: 0; margin: 1 0 0 0; }
        #entries { text-wrap: nowrap; text-overflow: ellipsis; }
        #entries:focus { border: none; }
        #said { height: 1; color: $foreground 60%; }
    }
    """

    def __init__(
        self,
        start: str = "",
        *,
        title: str = "Open",
        recent: Sequence[str] = (),
        starter: bool = False,
        folders: bool = False,
        everything: bool = False,
    ) -> None:
        super().__init__()
        self._start, self._title, self._recent = start, title, tuple(recent)
        self._starter, self._folders, self._everything = starter, folders, everything
        self._shown: list[Entry] = []

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -file") as dialog:
            dialog.border_title = self._title
            dialog.border_subtitle = "↑↓ choose · enter opens · tab completes · escape cancels"
            yield CleanInput(self._start, placeholder="a path", id="path", select_on_focus=False, compact=True)
            yield OptionList(id="entries", compact=True)
            yield Static("", id="said")

    def on_mount(self) -> None:
        self.query_one("#entries", OptionList).can_focus = False
        self._list(self._start)

    @on(Input.Changed, "#path")
    def _typed(self, event: Input.Changed) -> None:
        self._list(event.value)

    @work(thread=True, exclusive=True, group="list", exit_on_error=False)
    def _list(self, typed: str) -> None:
        """Reads the folder in a thread: it may be far away."""
        try:
            found, said = listing(
                typed,
                recent=self._recent,
                starter=self._starter,
                folders=self._folders,
                everything=self._everything,
            ), ""  # fmt: skip
        except UNUSABLE as error:
            found, said = [], f"cannot be read: {reason(error)}"
        self.app.call_from_thread(self._show, typed, found, said)

    def _show(self, typed: str, found: list[Entry], said: str) -> None:
        if not self.is_mounted or typed != self.query_one("#path", Input).value:
            return
        self._shown = found
        entries = self.query_one("#entries", OptionList)
        entries.clear_options()
        entries.add_options([Option(_line(entry)) for entry in found])
        first = 1 if len(found) > 1 and found[0].name == "../" else 0
        entries.highlighted = first if found else None
        self.query_one("#said", Static).update(Content(clean(said or ("" if found else "nothing here fits"))))

    @on(OptionList.OptionSelected, "#entries")
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        self._choose(self._shown[event.option_index])

    @on(Input.Submitted, "#path")
    def _entered(self) -> None:
        typed = self.query_one("#path", Input).value.strip()
        highlighted = self.query_one("#entries", OptionList).highlighted
        if typed and found_at(typed) == "file":
            self.dismiss(typed)
        elif highlighted is not None and highlighted < len(self._shown):
            self._choose(self._shown[highlighted])
        elif typed:
            self.dismiss(typed)

    def _choose(self, entry: Entry) -> None:
        if not entry.is_folder:
            self.dismiss(entry.reference)
            return
        line = self.query_one("#path", Input)
        line.value = entry.reference.rstrip("/") + "/"
        line.cursor_position = len(line.value)

    def action_walk(self, step: int) -> None:
        """Moves in the list while the line keeps the focus."""
        entries = self.query_one("#entries", OptionList)
        if entries.highlighted is not None:
            entries.highlighted = max(0, min(entries.highlighted + step, entries.option_count - 1))

    def action_complete(self) -> None:
        """Completes the path as far as it is clear."""
        self._look_up(self.query_one("#path", Input).value)

    @work(thread=True, exclusive=True, group="complete", exit_on_error=False)
    def _look_up(self, typed: str) -> None:
        self.app.call_from_thread(self._complete, typed, complete(typed, everything=self._everything))

    def _complete(self, typed: str, completed: str) -> None:
        line = self.query_one("#path", Input)
        if line.value == typed and completed != typed:
            line.value = completed
            line.cursor_position = len(completed)

    def action_cancel(self) -> None:
        """Chooses nothing."""
        self.dismiss("")


def _line(entry: Entry) -> Content:
    note = entry.note if entry.size is None else size(entry.size)
    name = clean(entry.name, newlines=False)
    return Content.assemble(
        (name, "$accent" if entry.is_folder else ""), (f"  {clean(note, newlines=False)}" if note else "", MUTED)
    )
