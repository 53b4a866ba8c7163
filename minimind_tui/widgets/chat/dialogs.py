"""Dialogs of the chat: which checkpoint, and what to do with answers that were cut off."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from rich.cells import cell_len
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, OptionList, Static
from textual.widgets.option_list import Option

from engine.clean import clean
from minimind_tui.core.talk import Offer, offers
from minimind_tui.widgets.states import MUTED
from minimind_tui.widgets.vim import BETWEEN_BUTTONS

if TYPE_CHECKING:
    from minimind_tui.app import MinimindApp


class CheckpointDialog(ModalScreen[str]):
    """Chooses a checkpoint: a reference, or nothing to leave it as it is.

    Args:
        title: What it is chosen for.
        chosen: The reference that is chosen now.
        loaded: The folder that it stands for: what shares its model comes first.
    """

    AUTO_FOCUS = "#offers"
    HELP = (
        "Newest follows a run as it trains, best is the checkpoint that validated best. What stands on the model that "
        "is loaded comes first: adapters are changed at once. The line takes a part of a name, RUN@STEP for any other "
        "checkpoint, or the path of a model's folder."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "type", "Search or path", id="checkpoint.type"),
        Binding("escape", "back", "Cancel", id="checkpoint.cancel"),
        Binding("down", "walk(1)", "Next", show=False, id="checkpoint.down"),
        Binding("up", "walk(-1)", "Before", show=False, id="checkpoint.up"),
        Binding("j", "walk(1)", "Next", show=False, id="checkpoint.j"),
        Binding("k", "walk(-1)", "Before", show=False, id="checkpoint.k"),
    ]

    def __init__(self, title: str, chosen: str = "", loaded: Path | None = None) -> None:
        super().__init__()
        self._title, self._chosen, self._loaded = title, chosen, loaded
        self._offers: list[Offer] = []
        self._shown: list[str] = []

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -checkpoint") as dialog:
            dialog.border_title = self._title
            dialog.border_subtitle = "/ search or path · enter chooses · escape cancels"
            yield Input(placeholder="/ for a name, RUN@STEP, or a model folder's path", id="wanted", compact=True)
            yield OptionList(id="offers", compact=True)
            yield Static("reading the runs …", id="said")

    def on_mount(self) -> None:
        self._read()

    @work(thread=True, exit_on_error=False)
    def _read(self) -> None:
        self.app.call_from_thread(self._offer, offers(cast("MinimindApp", self.app).library.runs(), self._loaded))

    def _offer(self, found: Sequence[Offer]) -> None:
        self._offers = [*found]
        self._list("")

    @on(Input.Changed, "#wanted")
    def _typed(self, event: Input.Changed) -> None:
        self._list(event.value)

    def _list(self, wanted: str) -> None:
        words = wanted.casefold().split()
        fitting = [
            one for one in self._offers if all(word in f"{one.reference} {one.note}".casefold() for word in words)
        ]
        options = self.query_one("#offers", OptionList)
        options.clear_options()
        self._shown = [one.reference for one in fitting]
        width = max((cell_len(one.reference) for one in fitting), default=0)
        lines = [
            Content.assemble(f"{clean(one.reference, newlines=False):<{width}}  ", (one.note, MUTED)) for one in fitting
        ]
        options.add_options([Option(line) for line in lines])
        options.highlighted = self._shown.index(self._chosen) if self._chosen in self._shown else 0 if lines else None
        self.query_one("#said", Static).update(
            "" if lines else "enter takes it as a reference or a folder" if wanted else "no run has a checkpoint yet"
        )

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._shown[event.option_index])

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        wanted = event.value.strip()
        highlighted = self.query_one("#offers", OptionList).highlighted
        if "/" in wanted or not self._shown or highlighted is None:
            self.dismiss(wanted)
        else:
            self.dismiss(self._shown[highlighted])

    def action_type(self) -> None:
        """Into the line."""
        self.query_one("#wanted").focus()

    def action_walk(self, step: int) -> None:
        """Moves in the list, also while one types."""
        options = self.query_one("#offers", OptionList)
        if options.highlighted is not None:
            options.highlighted = max(0, min(options.highlighted + step, options.option_count - 1))

    def action_back(self) -> None:
        """Out of the line, then out of the dialog."""
        if self.query_one("#wanted").has_focus and self._offers:
            self.query_one("#offers").focus()
        else:
            self.dismiss("")


class CutOffDialog(ModalScreen[str]):
    """Asks before answers that were cut off are saved as something to learn: `save`, `before`, or nothing.

    Args:
        what: What was cut off, a sentence.
        before: Whether what stands before the first of them can be saved alone.
    """

    AUTO_FOCUS = "#cancel"
    BINDINGS: ClassVar[list[BindingType]] = [
        *BETWEEN_BUTTONS,
        Binding("s", "answer('save')", "Save all the same", id="cut_off.save"),
        Binding("b", "answer('before')", "Only what stands before", id="cut_off.before"),
        Binding("escape,c,q", "answer('')", "Cancel", id="cut_off.cancel"),
    ]

    def __init__(self, what: str, *, before: bool = False) -> None:
        super().__init__()
        self._what, self._before = what, before

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "Cut off"
            yield Static(Content(self._what))
            yield Static("A model that is trained on it learns to end there.", classes="paragraph")
            with Horizontal(classes="buttons"):
                yield Button("(s) Save all the same", id="save", compact=True)
                if self._before:
                    yield Button("(b) Only what stands before", id="before", compact=True)
                yield Button("(c) Cancel", id="cancel", variant="primary", compact=True)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what is offered."""
        return self._before or parameters != ("before",)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss("" if event.button.id == "cancel" else event.button.id or "")

    def action_answer(self, answer: str) -> None:
        """Ends the dialog."""
        self.dismiss(answer)
