"""Small dialogs: leaving with a live run, a run that a crash left behind, an error, help."""

from pathlib import Path
from typing import ClassVar

from rich.cells import cell_len
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Button, Input, Static

from engine.clean import clean
from engine.errors import EngineError
from minimind_tui.active_keys import Section, help_paragraphs, sections
from minimind_tui.core.crash import Crash
from minimind_tui.widgets.states import MUTED
from minimind_tui.widgets.vim import BETWEEN_BUTTONS, VimScroll

_QUIT_TEXT = "Stopped, it can be resumed where it was. Detached, it goes on without this terminal."


class QuitDialog(ModalScreen[str]):
    """Asks what becomes of a run that goes on in this process: `stop`, `detach`, or an empty answer to stay."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *BETWEEN_BUTTONS,
        Binding("s", "answer('stop')", "Stop and save", id="dialog.stop"),
        Binding("d", "answer('detach')", "Keep running detached", id="dialog.detach"),
        Binding("escape,c,q", "answer('')", "Cancel", id="dialog.cancel"),
    ]

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name_of_run = name

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "Quit"
            yield Static(Content(f"{clean(self._name_of_run)} is still running here."))
            yield Static(_QUIT_TEXT, classes="paragraph")
            with Horizontal(classes="buttons"):
                yield Button("(s) Stop and save", id="stop", variant="primary", compact=True)
                yield Button("(d) Keep running detached", id="detach", compact=True)
                yield Button("(c) Cancel", id="cancel", compact=True)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss("" if event.button.id == "cancel" else event.button.id or "")

    def action_answer(self, answer: str) -> None:
        """Ends the dialog."""
        self.dismiss(answer)


class CrashDialog(ModalScreen[str]):
    """A run that the app left behind: `resume`, `look`, or an empty answer for later."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *BETWEEN_BUTTONS,
        Binding("r", "answer('resume')", "Resume", id="dialog.resume"),
        Binding("o", "answer('look')", "Look at it", id="dialog.look"),
        Binding("escape,q", "answer('')", "Later", id="dialog.later"),
    ]

    def __init__(self, crash: Crash) -> None:
        super().__init__()
        self._crash = crash

    def compose(self) -> ComposeResult:
        name, step = clean(self._crash.run.name), self._crash.step
        saved = f"It is saved up to step {step:,}." if step else "It had no checkpoint yet and begins anew."
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "The last start ended without a word"
            yield Static(Content(f"The app ended while {name} was training: killed, or the machine went down. {saved}"))
            yield Static(Content("\n".join(self._crash.hints)), classes="paragraph")
            with Horizontal(classes="buttons"):
                yield Button("(r) Resume", id="resume", variant="primary", compact=True)
                yield Button("(o) Look at it", id="look", compact=True)
                yield Button("Later", id="later", compact=True)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss("" if event.button.id == "later" else event.button.id or "")

    def action_answer(self, answer: str) -> None:
        """Ends the dialog."""
        self.dismiss(answer)


class ErrorDialog(ModalScreen[None]):
    """What went wrong, where, and what to do; the app lives on."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q", "dismiss", "Close", id="dialog.close")]

    def __init__(self, error: EngineError, log: Path | None = None) -> None:
        super().__init__()
        self._error, self._log = error, log

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -error") as dialog:
            dialog.border_title = "That did not work"
            dialog.border_subtitle = "escape closes"
            with VimScroll():
                yield Static(self._message())

    def _message(self) -> Content:
        error = self._error
        parts = [Content.styled(clean(error.what), "bold")]
        log = str(self._log) if self._log is not None and self._log.is_file() else ""
        for label, text in (("where", error.where), ("hint", error.hint), ("log", log)):
            if text:
                parts.append(Content.assemble((f"{label:<6}", MUTED), clean(text)))
        return Content("\n").join(parts)


class HelpDialog(ModalScreen[None]):
    """The keys that work where one is, made from the active bindings, and a paragraph for each place.

    Args:
        screen: The screen below.
        paragraph: What it says of itself.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1", "back", "Close", id="dialog.back"),
        Binding("slash", "search", "Search", id="dialog.search"),
    ]

    def __init__(self, screen: Screen[object], paragraph: str = "") -> None:
        super().__init__()
        self._sections = sections(screen)
        self._paragraphs = [text for text in (paragraph, *help_paragraphs(screen)) if text]

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -help") as dialog:
            dialog.border_title = "Keys"
            dialog.border_subtitle = "/ searches · escape closes · right: ids for other keys (F2)"
            yield Input(placeholder="search keys", id="search", compact=True)
            with VimScroll():
                for text in self._paragraphs:
                    yield Static(Content(text), classes="paragraph")
                yield Static(_listed(self._sections, ""), id="keys")

    def on_mount(self) -> None:
        self.query_one("#search").display = False
        self.query_one(VimScroll).focus()

    def action_search(self) -> None:
        """Opens the line to search in."""
        search = self.query_one("#search", Input)
        search.display = True
        search.focus()

    def action_back(self) -> None:
        """Out of the search, then out of the dialog."""
        search = self.query_one("#search", Input)
        if not search.display:
            self.dismiss()
            return
        search.value, search.display = "", False
        self.query_one(VimScroll).focus()

    @on(Input.Changed, "#search")
    def _searched(self, event: Input.Changed) -> None:
        for paragraph in self.query(".paragraph"):
            paragraph.display = not event.value
        self.query_one("#keys", Static).update(_listed(self._sections, event.value))

    @on(Input.Submitted, "#search")
    def _walk(self) -> None:
        self.query_one(VimScroll).focus()


def _listed(groups: list[Section], wanted: str) -> Content:
    """A heading and a line a key; those that a search does not hit are left out."""
    words = wanted.casefold().split()
    width = max((cell_len(row.keys) for group in groups for row in group.rows), default=0)
    lines: list[Content] = []
    for group in groups:
        rows = [row for row in group.rows if all(word in row.searched for word in words)]
        if rows:
            lines += [Content("")] * bool(lines) + [Content.styled(group.title, "bold $primary")]
        for row in rows:
            keys = row.keys + " " * (width - cell_len(row.keys))
            lines.append(Content.assemble((f"{keys}  ", "$accent bold"), row.text, (f"  {row.id}", MUTED)))
    return Content("\n").join(lines) if lines else Content.styled("no key does that here", MUTED)
