"""The chat with all its keys: the Chat screen is one, the Train screen docks one."""

from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.content import Content

from minimind_tui.core.transcript import Turn
from minimind_tui.widgets.chat.dialogs import CheckpointDialog
from minimind_tui.widgets.chat.keeping import Keeping
from minimind_tui.widgets.chat.prompt import Prompt
from minimind_tui.widgets.chat.sampling_panel import SamplingPanel
from minimind_tui.widgets.chat.token_panel import TokenPanel
from minimind_tui.widgets.token_view import TokenView

_EDIT_QUESTION = "editing a question · enter asks it again · escape leaves it as it was"
_EDIT_ANSWER = "editing an answer · enter lets it go on from here · escape leaves it as it was"
_ON_TURNS = ("edit", "again", "fold", "tokens", "copy", "write")
_CHANGES = ("edit", "again", "go_on", "back", "beside", "new", "choose", "write")
"""What waits until an answer is written."""
_TALK_KEYS = (*_ON_TURNS, "go_on", "back", "beside", "vote", "open", "type")
"""Keys of the talk that have no place while its tokens are looked at."""


class ChatPane(Keeping):
    """A conversation with a checkpoint: header line, talk, input, folding settings, token probabilities, side by side.

    Args:
        docked: It stands beside something else: it does not take the focus by itself, nor remember who is talked with.
    """

    HELP = (
        "A pretrained checkpoint continues your text; one that was trained on conversations answers. Ctrl+o chooses "
        "it, b puts a second one beside it. Escape stops an answer and keeps what was said; another escape leaves the "
        "input: letters are keys then, and 1 to 6 switch the screens."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", tooltip="Stop the answer, keep what was said", id="chat.stop"),
        Binding("escape", "close", "Back", tooltip="Close what is open here", id="chat.close"),
        Binding("escape", "leave_pane", "Leave chat", tooltip="Out of the chat", id="chat.leave_pane"),
        Binding("left_square_bracket", "vote('left')", "Left better", key_display="[",
                tooltip="The left answer is better", id="chat.vote_left"),
        Binding("right_square_bracket", "vote('right')", "Right better", key_display="]",
                tooltip="The right answer is better", id="chat.vote_right"),
        Binding("equals_sign", "vote('tie')", "Tie", key_display="=",
                tooltip="Neither answer is better", id="chat.vote_tie"),
        Binding("i,enter", "type", "Type", show=False, tooltip="Into the input", id="chat.type"),
        Binding("e", "edit", "Edit", tooltip="Edit this turn: a question is asked again, an answer goes on from there",
                id="chat.edit"),
        Binding("r", "again", "Again", tooltip="Another answer to this question", id="chat.again"),
        Binding("p", "tokens", "Tokens", tooltip="How probable each token of this answer was", id="chat.tokens"),
        Binding("b", "beside", "Beside", tooltip="A second checkpoint beside it, or one again", id="chat.beside"),
        Binding("c", "go_on", "Go on", show=False, tooltip="Go on with an answer that was cut off", id="chat.go_on"),
        Binding("t", "fold", "Thoughts", show=False, tooltip="Unfold or fold the thoughts", id="chat.fold"),
        Binding("u", "back", "Bring back", show=False, tooltip="Bring back what was dropped; again: older versions",
                id="chat.back"),
        Binding("y", "copy", "Copy", show=False, tooltip="Copy this turn", id="chat.copy"),
        Binding("w", "write", "Save", show=False, tooltip="Save the conversation as a row to learn from",
                id="chat.write"),
        Binding("o", "open", "Open saved", show=False, tooltip="Open what was saved on the Data screen",
                id="chat.open"),
        Binding("ctrl+o", "choose", "Checkpoint", show=False, tooltip="Choose the checkpoint", id="chat.choose"),
        Binding("ctrl+t", "settings", "Sampling", show=False, tooltip="Sampling, seed and system prompt",
                id="chat.settings"),
        Binding("ctrl+n", "new", "New chat", show=False, tooltip="Begin another conversation", id="chat.new"),
    ]  # fmt: skip

    _editing: int | None = None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what makes sense now."""
        if not self.is_mounted:
            return False
        open_here = self._tokens_shown or self.query_one("#sampling").display or self._editing is not None
        if action == "stop":
            return self.busy
        if action == "close":
            return not self.busy and open_here
        if action == "leave":
            return not self.busy and not open_here and self.prompt.has_focus
        if action == "leave_pane":
            return self.docked and not self.busy and not open_here and not self.prompt.has_focus
        if action in _TALK_KEYS and self._tokens_shown:
            return action == "tokens"
        turns = self.conversation.turns
        pending = bool(turns) and turns[-1].pending
        if action == "vote":
            return pending and not self.busy
        if action in _CHANGES and (self.busy or (pending and action != "new")):
            return False
        if action == "go_on":
            return bool(turns) and turns[-1].partial and turns[-1].rival is None
        if action == "back":
            return self.conversation.versions > 0
        if action == "beside":
            return bool(self._speakers)
        return bool(self.talk.blocks) if action in _ON_TURNS else True

    @property
    def _tokens_shown(self) -> bool:
        return self.query_one("#tokens").display

    def begin_anew(self) -> None:
        if self._tokens_shown:
            self.action_tokens()
        self._editing = None
        self.prompt.border_title = ""
        super().begin_anew()

    # The input

    @on(Prompt.Submitted)
    def _send(self, event: Prompt.Submitted) -> None:
        text = event.text.strip()
        if text == "/new":
            self.prompt.put("")
            self.action_new()
        elif text and self.may_ask():
            self._submit(text)

    def _submit(self, text: str) -> None:
        editing, self._editing = self._editing, None
        self.prompt.put("")
        self.prompt.border_title = ""
        self.keep_earlier(text)
        if editing is None or editing >= len(self.conversation.turns):
            self.ask(text)
            return
        is_question = self.conversation.turns[editing].role == "user"
        self._drop(editing)
        if is_question:
            self.ask(text)
        else:
            self.begin_answer(text)

    def _drop(self, index: int) -> None:
        """Drops this turn and the later ones, and says so where that is more than was asked for."""
        dropped = len(self.conversation.turns) - index
        self.conversation.cut(index)
        self.talk.cut(index)
        if dropped > 2:
            self.tell(f"{dropped} turns were dropped: u brings them back.")

    @on(Prompt.Recall)
    def _recall(self) -> None:
        """Edits the last question."""
        last = self.conversation.question_of(len(self.conversation.turns) - 1)
        if last >= 0 and not self.busy and not self.conversation.turns[-1].pending:
            self._edit(last, self.conversation.turns[last].text)

    @on(Prompt.Asked)
    async def _asked_by_key(self, event: Prompt.Asked) -> None:
        await self.run_action(event.action)

    # Actions

    def action_stop(self) -> None:
        """Stops the answer; what was said stays."""
        self.stop()

    def action_close(self) -> None:
        """Closes the tokens, folds the settings, or ends the editing."""
        if self._tokens_shown:
            self.action_tokens()
        elif self.query_one("#sampling").display:
            self.action_settings()
        else:
            self._editing = None
            self.prompt.put("")
            self.prompt.border_title = ""
            self.refresh_bindings()

    def action_leave(self) -> None:
        """Out of the input, into the talk."""
        self.talk.focus()

    def action_leave_pane(self) -> None:
        """Out of the chat."""
        self.post_message(self.Left())

    def action_edit(self) -> None:
        """Edits the current turn; of a text that was continued, its beginning."""
        if self.talk.current is None or self.talk.view is None:
            return
        index, turn = self.talk.current.index, self.talk.view.turn
        if turn.completes and self.conversation.turns[index].rival is None:
            index, turn = index - 1, self.conversation.turns[index - 1]
        self._edit(index, turn.text)

    def _edit(self, index: int, text: str) -> None:
        self._editing = index
        self.prompt.put(text)
        is_question = self.conversation.turns[index].role == "user"
        self.prompt.border_title = Content(_EDIT_QUESTION if is_question else _EDIT_ANSWER)
        self.action_type()
        self.refresh_bindings()

    def action_again(self) -> None:
        """Another answer to the current turn's question."""
        block = self.talk.current
        question = self.conversation.question_of(block.index) if block is not None else -1
        if question < 0 or not self.may_ask():
            return
        if self._sampling.greedy or self._sampling.seed is not None:
            why = "Greedy" if self._sampling.greedy else "With a fixed seed"
            self.tell(f"{why}, a checkpoint gives the same answer again (ctrl+t).")
        self.keep_earlier("")
        self._drop(question + 1)
        self.begin_answer()

    def action_go_on(self) -> None:
        """Goes on with the last answer where it was cut off."""
        if self.may_ask():
            last = self.conversation.turns[-1]
            self.keep_earlier("")
            self._drop(len(self.conversation.turns) - 1)
            self.begin_answer(last.text, last.tokens)

    def action_back(self) -> None:
        """Brings back the version of the conversation that was left last."""
        self.conversation.go_back()
        self.talk.fill(self.conversation)
        self.refresh_bindings()

    def action_fold(self) -> None:
        """Unfolds or folds the thoughts of the current answer."""
        if self.talk.view is not None:
            self.talk.view.fold()

    def action_tokens(self) -> None:
        """Shows the tokens of the current answer, of a question those of the one below it, or the talk again."""
        answer = self.talk.answer
        turn: Turn | None = answer.turn if answer is not None else None
        panel = self.query_one(TokenPanel)
        if not self._tokens_shown and turn is None:
            self.tell("There is no answer yet.")
            return
        panel.display = not self._tokens_shown
        self.talk.display = self.prompt.display = not panel.display
        if panel.display and turn is not None:
            panel.show(turn)
            panel.query_one(TokenView).focus()
        else:
            self.talk.focus()
        self.refresh_bindings()

    @on(TokenView.Copy)
    def _copy_token(self, event: TokenView.Copy) -> None:
        self.mini.copy(event.text, "the token")

    def action_copy(self) -> None:
        """Copies the current turn."""
        if self.talk.view is not None:
            self.mini.copy(self.talk.view.turn.text, "the turn")

    def action_beside(self) -> None:
        """Puts a second checkpoint beside the first, or takes it away."""
        if len(self._speakers) > 1:
            self.choose([self.reference])
            return

        def chosen(reference: str | None) -> None:
            if reference:
                self.choose([self.reference, reference])

        self.app.push_screen(CheckpointDialog("Beside it", loaded=self.loaded), chosen)

    def action_choose(self) -> None:
        """Chooses the checkpoint."""

        def chosen(reference: str | None) -> None:
            if reference:
                self.choose_by_hand([reference, *(other.reference for other in self._speakers[1:])])
            self.action_type()

        self.app.push_screen(CheckpointDialog("Talk with", self.reference, self.loaded), chosen)

    def action_settings(self) -> None:
        """Unfolds or folds the settings."""
        panel = self.query_one(SamplingPanel)
        panel.display = not panel.display
        if panel.display:
            panel.query_one("#temperature").focus()
        else:
            self.action_type()
        self.refresh_bindings()

    def action_new(self) -> None:
        """Begins another conversation."""
        self.begin_anew()
        self.action_type()
