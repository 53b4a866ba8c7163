"""Changes that make a run fit, as a list to choose from."""

from collections.abc import Collection, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from engine.clean import clean
from minimind_tui.core.figures import size
from minimind_tui.core.memory import Change
from minimind_tui.widgets.states import MUTED


class Suggestions(OptionList):
    """A change an option, with what it saves and what it costs; its number chooses it as well.

    Args:
        short: There is little room: only what is no matter of course.
    """

    HELP = (
        "Changes that lower the peak, each one predicted: those that fit stand first, and before those that change "
        "what is learnt. Enter takes the one under the cursor, a digit the one with that number."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "Apply", tooltip="Take the change under the cursor", id="fit.apply"),
        Binding("1", "number(1)", "The change of that number, 1 to 9", show=False, id="fit.number"),
        *[Binding(str(number), f"number({number})", show=False) for number in range(2, 10)],
        Binding("j", "cursor_down", "Down", show=False, id="list.down"),
        Binding("k", "cursor_up", "Up", show=False, id="list.up"),
        Binding("g", "first", "First", show=False, id="list.first"),
        Binding("G", "last", "Last", show=False, id="list.last"),
    ]
    DEFAULT_CSS = """
    Suggestions {
        height: auto; background: transparent; border: none; padding: 0; scrollbar-size-vertical: 1;
        &:focus { border: none; background-tint: $foreground 0%; }
        & > .option-list--option-disabled { color: $foreground 60%; }
        & > .option-list--option-highlighted { background: transparent; color: $text; text-style: none; }
        &:focus > .option-list--option-highlighted { background: $primary-muted; color: $text; text-style: none; }
    }
    """

    class Chosen(Message):
        """A change was chosen."""

        def __init__(self, change: Change) -> None:
            super().__init__()
            self.change = change

    def __init__(self, *, short: bool = False, id: str | None = None) -> None:
        super().__init__(id=id, compact=True)
        self._short = short
        self._changes: Sequence[Change] = ()
        self._barred: frozenset[int] = frozenset()

    def show(self, changes: Sequence[Change], barred: Collection[int] = ()) -> None:
        """Lists changes; those whose number is barred cannot be chosen."""
        if (changes, frozenset(barred)) == (self._changes, self._barred):
            return
        place = self.highlighted or 0
        self._changes, self._barred = changes, frozenset(barred)
        self.clear_options()
        for each in changes:
            barred_one = each.number in self._barred
            self.add_option(Option(_line(each, short=self._short, barred=barred_one), disabled=barred_one))
        free = [index for index, each in enumerate(changes) if each.number not in self._barred]
        self.highlighted = (place if place in free else free[0]) if free else None

    def action_number(self, number: int) -> None:
        """Takes the change of that number."""
        found = [index for index, each in enumerate(self._changes) if each.number == number]
        if found and number not in self._barred:
            self.highlighted = found[0]
            self.action_select()
        else:
            self.app.bell()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Tells which change it is."""
        event.stop()
        self.post_message(self.Chosen(self._changes[event.option_index]))


def _line(change: Change, *, short: bool, barred: bool) -> Content:
    fits = ("✓ fits", "$text-success") if change.fits else ("✗ not enough", "$text-error")
    if barred:
        fits = "– only in a new run", MUTED
    return Content.assemble(
        (f"{change.number} ", MUTED if barred else "$accent bold"),
        (clean(change.title, newlines=False), MUTED if barred else ""),
        "\n  ",
        fits,
        (f", {size(change.saves)} less: {clean(change.consequences(short=short), newlines=False)}", MUTED),
    )
