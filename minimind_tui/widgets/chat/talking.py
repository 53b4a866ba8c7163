"""Asking a checkpoint, or two beside each other, and showing the answers as they come."""

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Static

from engine.errors import EngineError
from minimind_tui.core.sampling import Sampling
from minimind_tui.core.talk import Partners, Question, Round
from minimind_tui.core.transcript import Conversation, Turn, turn_of_round
from minimind_tui.widgets.chat.choosing import Choosing
from minimind_tui.widgets.chat.prompt import Prompt
from minimind_tui.widgets.chat.sampling_panel import SamplingPanel
from minimind_tui.widgets.chat.talk_list import TalkList, TurnBlock
from minimind_tui.widgets.chat.token_panel import TokenPanel

if TYPE_CHECKING:
    from engine.generation.chat import Token

_DRAIN_SECONDS = 0.1


class Talking(Choosing):
    """A conversation: header, talk, input, folded settings.

    Attributes:
        conversation: What was said.
    """

    class Left(Message, namespace="chat_pane"):
        """Escape, with nothing left to stop or to close here."""

    def __init__(self, *, docked: bool = False, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(docked=docked, id=id, classes=classes)
        self.conversation = Conversation()
        self._blind = False
        self._partners = Partners()
        self._round: Round | None = None
        self._block: TurnBlock | None = None
        self._earlier, self._asked = Conversation(), ""

    @property
    def busy(self) -> bool:
        """Whether an answer is being written."""
        return self._round is not None

    def compose(self) -> ComposeResult:
        state = self.mini.state
        self._sampling = Sampling.remembered(state.get("chat.sampling", {}))
        self._system, self._blind = state.get("chat.system", ""), state.get("chat.blind", False)
        with Horizontal(id="who"):
            yield Static("", id="speaker")
            yield Static("", id="how")
        yield SamplingPanel(self._sampling, self._system, self._blind, id="sampling")
        yield TalkList(id="talk")
        yield TokenPanel(id="tokens")
        yield Prompt(id="prompt")

    def on_mount(self) -> None:
        self.query_one("#sampling").display = self.query_one("#tokens").display = False
        self.set_interval(_DRAIN_SECONDS, self.collect)

    @on(SamplingPanel.Changed)
    def _set(self, event: SamplingPanel.Changed) -> None:
        self._sampling, self._system, self._blind = event.sampling, event.system, event.blind
        self.mini.state.keep("chat.sampling", event.sampling.values)
        self.mini.state.keep("chat.system", event.system)
        self.mini.state.keep("chat.blind", event.blind)
        self.introduce()

    def begin_anew(self) -> None:
        """Another conversation; this one can be brought back."""
        if self.busy:
            self.stop_all()
            self.conversation.restore(self._earlier)
        self.conversation.cut(0)
        self.talk.cut(0)
        self._spoken = None
        self.introduce()

    def may_ask(self) -> bool:
        """Whether a question can be asked now; if not, the user is told why."""
        turns = self.conversation.turns
        problem = (
            "There is no checkpoint to talk with yet." if not self._speakers
            else "An answer is being written: escape stops it." if self.busy
            else "Vote first: [ left, ] right, = a tie." if turns and turns[-1].pending
            else ""
        )  # fmt: skip
        if problem:
            self.tell(problem, warning=True)
        return not problem

    def keep_earlier(self, asked: str) -> None:
        """Remembers what comes back if the answer fails: the conversation, and what was typed."""
        self._earlier, self._asked = self.conversation.copy(), asked

    def ask(self, text: str) -> None:
        """Asks a question; call `keep_earlier` before."""
        index = len(self.conversation.turns)
        self.conversation.add(Turn("user", text))
        if not (len(self._speakers) == 1 and self._speakers[0].completes):
            self.talk.add(index, Turn("user", text))
        self.begin_answer()

    def begin_answer(self, opening: str = "", tokens: tuple["Token", ...] = ()) -> None:
        """Lets the checkpoints answer the last question, or go on after an opening."""
        order = random.sample(self._speakers, len(self._speakers)) if self._blind else self._speakers
        self.conversation.system = self._system
        seed = self._sampling.pick_seed()
        same = len({speaker.reference for speaker in order}) < len(order)
        device = "cpu" if self.mini.own is not None and self.mini.own.alive else "auto"
        messages = self.conversation.messages()
        first, *others = [
            Turn("assistant", opening, str(speaker), speaker.reference, speaker.completes) for speaker in order
        ]
        self._block = self.talk.add(
            len(self.conversation.turns), replace(first, rival=others[0]) if others else first,
            sides=len(order), prompt=messages[-1][1], hidden=self._blind,
        )  # fmt: skip
        self._round = Round(self._partners, [
            Question(speaker.reference, messages, self._sampling, seed + place * same, opening, tokens, device)
            for place, speaker in enumerate(order)
        ])  # fmt: skip
        self.refresh_bindings()

    def collect(self) -> None:
        """Takes in what came of the answers."""
        asked, block = self._round, self._block
        if asked is None or block is None:
            return
        alive = asked.alive
        if not asked.drain() and alive:
            return
        turn = turn_of_round(asked)
        if not alive:
            self._round = None
            self.refresh_bindings()
            if asked.error is not None or not any(side.text for side in turn.sides):
                self._take_back(asked.error)
                return
            self.conversation.add(turn)
            self._spoken = asked.answers[0].speaker
            self.introduce()
        block.show(turn, prompt=self.conversation.messages(block.index)[-1][1], hidden=self._blind)
        self.talk.follow()
        if not alive and turn.pending:
            self.tell("Which is better? [ the left one, ] the right one, = neither.")
            if not self.prompt.text:
                self.talk.focus()

    def _take_back(self, error: EngineError | None) -> None:
        """Nothing was said: the conversation is as before, and the question is back in the input."""
        self.conversation.restore(self._earlier)
        self.talk.fill(self.conversation)
        self.introduce()
        if not self.prompt.text:
            self.prompt.put(self._asked)
        if error is not None:
            self.mini.show_error(error)

    def stop(self) -> None:
        """Ends the answer that is being written; what was said stays."""
        if self._round is not None:
            self._round.stop()

    def stop_all(self) -> None:
        """Ends and forgets all answers that are being written."""
        if self._round is not None:
            self._round.stop_all()
        self._round = self._block = None
