"""Small dialogs: leaving with a live run, an error, help."""

from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Button, Static

from engine.clean import clean
from engine.errors import EngineError
from minimind_tui.widgets.states import MUTED
from minimind_tui.widgets.vim import VimScroll

_BETWEEN_BUTTONS: list[BindingType] = [
    Binding("left,h,up,k", "app.focus_previous", "Previous", show=False),
    Binding("right,l,down,j", "app.focus_next", "Next", show=False),
]


_QUIT_TEXT = "Stopped, it can be resumed where it was. Detached, it goes on without this terminal."


class QuitDialog(ModalScreen[str]):
    """Asks what becomes of a run that goes on in this process: `stop`, `detach`, or an empty answer to stay."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *_BETWEEN_BUTTONS,
        Binding("s", "answer('stop')", "Stop and save"),
        Binding("d", "answer('detach')", "Keep running detached"),
        Binding("escape,c,q", "answer('')", "Cancel"),
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


class ErrorDialog(ModalScreen[None]):
    """What went wrong, where, and what to do; the app lives on."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q", "dismiss", "Close")]

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
    """The keys that work here, made from the active bindings."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,f1", "dismiss", "Close")]

    def __init__(self, screen: Screen[object], paragraph: str) -> None:
        super().__init__()
        self._text = _keys(screen)
        self._paragraph = paragraph

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -help") as dialog:
            dialog.border_title = "Keys"
            dialog.border_subtitle = "escape closes"
            with VimScroll():
                if self._paragraph:
                    yield Static(Content(self._paragraph), classes="paragraph")
                yield Static(self._text)


def _keys(screen: Screen[object]) -> Content:
    """A line a binding, the screen's own first: its keys, what it does, its id for the keymap."""
    lines: dict[str, tuple[list[str], str, str]] = {}
    for key, active in sorted(screen.active_bindings.items(), key=lambda entry: _rank(entry[1], screen)):
        binding = active.binding
        if binding.description and not binding.system:
            keys = lines.setdefault(binding.action, ([], active.tooltip or binding.description, binding.id or ""))[0]
            if (shown := screen.app.get_key_display(binding.with_key(key))) not in keys:
                keys.append(shown)
    width = max((len(" ".join(keys)) for keys, _, _ in lines.values()), default=0)
    return Content("\n").join(
        Content.assemble((f"{' '.join(keys):<{width}}  ", "$accent bold"), text, (f"  {id}", MUTED))
        for keys, text, id in lines.values()
    )


def _rank(active: ActiveBinding, screen: Screen[object]) -> tuple[bool, int]:
    """The app's own keys before the toolkit's, the screen's before those of every screen."""
    return not active.binding.id, {screen: 0, screen.app: 1}.get(active.node, 2)
