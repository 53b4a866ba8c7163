"""Chooses the device that memory is planned for."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from engine.clean import clean
from engine.errors import UserError
from engine.memory.limits import CARD_SHARE, CARDS, parse_device
from minimind_tui.widgets.states import MUTED

_HERE = ("", "this machine", "as the settings say")
_CPUS = ("cpu:4GiB", "cpu:8GiB", "cpu:16GiB", "cpu:32GiB")


class TargetDialog(ModalScreen[str | None]):
    """A device by name: of the list, or typed; empty: this machine.

    Args:
        now: What is planned for.
    """

    AUTO_FOCUS = "#device"
    HELP = (
        "Memory is planned for this machine, or for another one: a card by its name, or cpu, cuda or mps with a size, "
        "such as cuda:24GiB for any card with so much."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Cancel", id="target.cancel"),
        Binding("down", "walk(1)", "Next", show=False, id="target.down"),
        Binding("up", "walk(-1)", "Before", show=False, id="target.up"),
    ]

    def __init__(self, now: str) -> None:
        super().__init__()
        self._now = now
        self._shown: list[str] = []

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "Plan memory for"
            dialog.border_subtitle = "enter chooses · escape cancels"
            yield Input(placeholder="rtx3090, cuda:24GiB, cpu:8GiB …", id="device", compact=True)
            yield OptionList(id="devices", compact=True)
            yield Static("", id="said")

    def on_mount(self) -> None:
        self._list("")
        options = self.query_one(OptionList)
        options.highlighted = self._shown.index(self._now) if self._now in self._shown else 0
        self.call_after_refresh(options.scroll_to_highlight)

    def _list(self, words: str) -> None:
        offers = [_HERE, *((name, name, "") for name in _CPUS)]
        offers += [(name, name, f"{size * CARD_SHARE:.1f} of {size:g} GiB") for name, size in CARDS.items()]
        found = [offer for offer in offers if words.lower() in offer[1].lower()]
        if words and words not in ("auto", *(name for name, _, _ in found)) and not _wrong_with(words):
            found.insert(0, (words, words, "as typed"))
        self._shown = [name for name, _, _ in found]
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options([Option(Content.assemble(f"{title:<14}", (note, MUTED))) for _, title, note in found])
        options.display = bool(found)
        options.highlighted = 0 if found else None

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self._list(event.value.strip())
        self.query_one("#said", Static).update("")

    def action_walk(self, by: int) -> None:
        """Moves in the list while one types."""
        options = self.query_one(OptionList)
        options.action_cursor_down() if by > 0 else options.action_cursor_up()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        place, typed = self.query_one(OptionList).highlighted, event.value.strip()
        if place is not None:
            self.dismiss(self._shown[place])
        elif typed == "auto":
            self.dismiss("")
        else:
            self.query_one("#said", Static).update(Content.styled(clean(_wrong_with(typed)), "$text-error"))

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._shown[event.option_index])


def _wrong_with(device: str) -> str:
    """Why a text names no device; empty where it does."""
    try:
        parse_device(device)
    except UserError as error:
        return f"{error.what}: {error.hint}" if error.hint else error.what
    return ""
