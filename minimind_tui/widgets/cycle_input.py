"""An input that knows what is usually put in."""

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.suggester import SuggestFromList

from minimind_tui.widgets.clean_input import CleanInput


class CycleInput(CleanInput):
    """Down and up put in one choice after the other; what begins like one is completed with the right arrow."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "cycle(1)", "Next choice", show=False, id="input.next"),
        Binding("up", "cycle(-1)", "Choice before", show=False, id="input.before"),
    ]

    _choices: Sequence[str] = ()

    def offer(self, choices: Sequence[str]) -> None:
        """Sets what can be chosen; anything else can still be typed."""
        self._choices = list(dict.fromkeys(choices))
        self.suggester = SuggestFromList(self._choices) if self._choices else None

    def action_cycle(self, by: int) -> None:
        """Puts in the next choice; nothing stands between the last and the first."""
        places = ["", *self._choices]
        place = places.index(self.value) if self.value in places else 0
        self.value = places[(place + by) % len(places)]
        self.cursor_position = len(self.value)
