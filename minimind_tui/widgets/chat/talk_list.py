"""The turns of a conversation, to scroll and to walk through."""

from collections.abc import Iterator
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from minimind_tui.core.transcript import LEFT, RIGHT, TIE, Conversation, Turn
from minimind_tui.widgets.turn_view import TurnView
from minimind_tui.widgets.vim import FollowScroll

_LINES = 3
"""How far a step goes inside a turn that is higher than the pane."""


class TurnBlock(Horizontal):
    """A turn, or two checkpoints' answers beside each other.

    Attributes:
        index: The turn's place in the conversation.
        views: One a side.
    """

    def __init__(self, index: int, turn: Turn, *, sides: int = 1) -> None:
        super().__init__()
        self.index = index
        role = "user" if turn.role == "user" else "model"
        self.views = [TurnView(role, "you" if role == "user" else turn.speaker) for _ in range(sides)]

    def compose(self) -> ComposeResult:
        yield from self.views

    def show(self, turn: Turn, *, prompt: str = "", hidden: bool = False) -> None:
        """Shows the turn as it stands.

        Args:
            turn: With its rival, if it has one.
            prompt: The text that it continues.
            hidden: Two names are not said before the vote.
        """
        for place, (view, side) in enumerate(zip(self.views, turn.sides, strict=False)):
            view.show(side, prompt=prompt if side.completes else "")
            if turn.role == "assistant" and side.speaker:
                view.name_speaker(_title(turn, side, place, hidden=hidden and len(self.views) > 1))


def _title(turn: Turn, side: Turn, place: int, *, hidden: bool) -> str:
    if hidden and not turn.verdict:
        return (LEFT, RIGHT)[place]
    verdicts = {TIE: " · a tie", (LEFT, RIGHT)[place]: " · ✓ better"}
    return side.speaker + verdicts.get(turn.verdict, "")


class TalkList(FollowScroll):
    """A conversation; j and k walk its turns, h and l the two sides of a comparison."""

    HELP = (
        "The turn with the heavy border is the one that keys act on: e edits it and sends it again, r asks for another "
        "answer, p shows how probable each of its tokens was, t unfolds its thoughts. u brings back what was dropped."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "turn(1)", "Next turn", show=False, id="chat.turn_next"),
        Binding("k,up", "turn(-1)", "Turn before", show=False, id="chat.turn_before"),
        Binding("h,left", "side(0)", "Left answer", show=False, id="chat.side_left"),
        Binding("l,right", "side(1)", "Right answer", show=False, id="chat.side_right"),
        Binding("g", "end(0)", "First turn", show=False, id="chat.turn_first"),
        Binding("G", "end(-1)", "Last turn", show=False, id="chat.turn_last"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.blocks: list[TurnBlock] = []
        self._place, self._side = 0, 0

    def compose(self) -> ComposeResult:
        yield Static("", id="empty-talk")

    def say(self, text: Content) -> None:
        """What is said while there are no turns."""
        empty = self.query_one("#empty-talk", Static)
        empty.update(text)
        empty.display = not self.blocks

    @property
    def current(self) -> TurnBlock | None:
        """The turn that keys act on; the newest by default."""
        return self.blocks[min(self._place, len(self.blocks) - 1)] if self.blocks else None

    @property
    def side(self) -> int:
        """The side of it that keys act on: 0 left, 1 right."""
        return min(self._side, len(self.current.views) - 1) if self.current else 0

    @property
    def view(self) -> TurnView | None:
        """The answer or question that keys act on."""
        return self.current.views[self.side] if self.current else None

    @property
    def answer(self) -> TurnView | None:
        """The answer that keys act on; of a question the one below it."""
        for block in self.blocks[self._place : self._place + 2]:
            view = block.views[min(self._side, len(block.views) - 1)]
            if view.turn.role == "assistant":
                return view
        return None

    def fill(self, conversation: Conversation) -> None:
        """Shows a conversation anew."""
        self.cut(0)
        for index, turn in enumerate(conversation.turns):
            following = conversation.turns[index + 1] if index + 1 < len(conversation.turns) else None
            if following is None or not (following.completes and following.rival is None):
                prompt = conversation.turns[index - 1].text if index else ""
                self.add(index, turn, sides=len(turn.sides), prompt=prompt)

    def add(self, index: int, turn: Turn, *, sides: int = 1, prompt: str = "", hidden: bool = False) -> TurnBlock:
        """Adds a turn at the end and goes there."""
        block = TurnBlock(index, turn, sides=sides)
        self.query_one("#empty-talk").display = False
        self.blocks.append(block)
        self.mount(block)
        block.show(turn, prompt=prompt, hidden=hidden)
        self._select(len(self.blocks) - 1)
        self.following = True
        self.follow()
        return block

    def cut(self, index: int) -> None:
        """Takes away this turn and the later ones."""
        for block in [block for block in self.blocks if block.index >= index]:
            self.blocks.remove(block)
            block.remove()
        self._select(len(self.blocks) - 1)
        self.query_one("#empty-talk").display = not self.blocks

    def _select(self, place: int) -> None:
        for view in self._marked():
            view.remove_class("-selected")
        self._place = max(0, place)
        if self.view is not None:
            self.view.add_class("-selected")
        self.refresh_bindings()

    def _marked(self) -> Iterator[TurnView]:
        return (view for block in self.blocks for view in block.views if view.has_class("-selected"))

    def action_turn(self, step: int) -> None:
        """The next turn or the one before; inside a turn that is higher than the pane, some lines on."""
        block = self.current
        if block is None:
            return
        top, height = self.scroll_offset.y, self.scrollable_content_region.height
        region = block.virtual_region
        if (step > 0 and region.bottom > top + height) or (step < 0 and region.y < top):
            self.scroll_relative(y=step * _LINES, animate=False)
            return
        place = self._place + step
        if 0 <= place < len(self.blocks):
            self._select(place)
            target = self.blocks[place].virtual_region
            y = target.y if step > 0 and target.bottom > top + height else target.bottom - height
            if target.y < top or target.bottom > top + height:
                self.scroll_to(y=max(0, y), animate=False)

    def action_side(self, side: int) -> None:
        """The left or the right of two answers."""
        self._side = side
        self._select(self._place)

    def action_end(self, place: int) -> None:
        """The first or the last turn."""
        if self.blocks:
            self._select(place % len(self.blocks))
            if place:
                self.scroll_end(animate=False)
            else:
                self.scroll_home(animate=False)
