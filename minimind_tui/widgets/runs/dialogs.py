"""Dialogs of the Runs screen: what is shown, and what is deleted."""

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, OptionList, Static
from textual.widgets.option_list import Option

from engine.clean import clean
from minimind_tui.core.going import Going
from minimind_tui.core.run_list import Filter
from minimind_tui.widgets.states import MUTED
from minimind_tui.widgets.vim import BETWEEN_BUTTONS, VimScroll


class NarrowDialog(ModalScreen[Filter | None]):
    """Narrows the list to a state or a stage.

    Args:
        choices: (`state` or `stage`, its name, how many runs there are).
        now: The filter as it is; its text stays.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f,q", "dismiss", "Cancel", id="narrow.cancel"),
        Binding("j", "down", "Down", show=False, id="narrow.down"),
        Binding("k", "up", "Up", show=False, id="narrow.up"),
    ]

    def __init__(self, choices: Sequence[tuple[str, str, int]], now: Filter) -> None:
        super().__init__()
        self._filters = [Filter(now.text), *(Filter(now.text, **{kind: name}) for kind, name, _ in choices)]
        self._choices, self._now = choices, now

    def compose(self) -> ComposeResult:
        width = max((cell_len(name) for _, name, _ in self._choices), default=0)
        options = [
            Content.assemble((f"{kind}  ", MUTED), f"{clean(name, newlines=False):<{width}}", (f"  {count}", MUTED))
            for kind, name, count in self._choices
        ]
        with Vertical(classes="dialog -narrow-runs") as dialog:
            dialog.border_title = "Show"
            dialog.border_subtitle = "enter chooses · escape leaves it as it is"
            yield OptionList(*map(Option, [Content("all runs"), *options]), compact=True)

    def on_mount(self) -> None:
        options = self.query_one(OptionList)
        options.highlighted = self._filters.index(self._now) if self._now in self._filters else 0

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._filters[event.option_index])

    def action_down(self) -> None:
        """The next choice."""
        self.query_one(OptionList).action_cursor_down()

    def action_up(self) -> None:
        """The choice before."""
        self.query_one(OptionList).action_cursor_up()


class DeleteDialog(ModalScreen[bool]):
    """Asks before runs are deleted; says what goes with them and which runs were started from them."""

    AUTO_FOCUS = "#cancel"
    BINDINGS: ClassVar[list[BindingType]] = [
        *BETWEEN_BUTTONS,
        Binding("d", "answer(True)", "Delete", id="delete.delete"),
        Binding("escape,c,q", "answer(False)", "Cancel", id="delete.cancel"),
    ]

    def __init__(self, chosen: Sequence[Going]) -> None:
        super().__init__()
        self._chosen = chosen

    def compose(self) -> ComposeResult:
        count = len(self._chosen)
        with Vertical(classes="dialog -error -delete-runs") as dialog:
            dialog.border_title = "Delete this run for good?" if count == 1 else f"Delete {count} runs for good?"
            with VimScroll(can_focus=False):
                yield Static(Content("\n").join(line for one in self._chosen for line in _lines(one)))
            with Horizontal(classes="buttons"):
                yield Button("(d) Delete", id="delete", variant="error", compact=True)
                yield Button("(c) Cancel", id="cancel", compact=True)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "delete")

    def action_answer(self, answer: bool) -> None:
        """Ends the dialog."""
        self.dismiss(answer)


def _lines(one: Going) -> list[Content]:
    lines = [Content.styled(clean(str(one), newlines=False), "bold")]
    if one.stranded:
        names = clean(", ".join(one.stranded), newlines=False)
        lines.append(
            Content.styled(f"  ! started from it and not done: {names}; it cannot be resumed then", "$text-warning")
        )
    if one.children:
        names = clean(", ".join(one.children), newlines=False)
        lines.append(Content.styled(f"  started from it, with checkpoints of their own: {names}", MUTED))
    return lines
