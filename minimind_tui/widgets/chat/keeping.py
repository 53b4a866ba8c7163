"""What is kept of a conversation: votes as preference pairs, transcripts as rows to learn from."""

from pathlib import Path
from typing import Any

from textual import work

from engine.errors import EngineError
from minimind_tui.core.transcript import (
    LAST,
    TIE,
    Turn,
    append_row,
    conversation_row,
    conversations_file,
    count_vote,
    preference_row,
    preferences_file,
)
from minimind_tui.widgets.chat.dialogs import CutOffDialog
from minimind_tui.widgets.chat.talking import Talking


class Keeping(Talking):
    """A conversation that can be voted on and saved."""

    _saved: Path | None = None

    def action_vote(self, verdict: str) -> None:
        """Says which of two answers is better; the conversation goes on with it."""
        turn = self.conversation.turns[-1]
        partial = [side for side in turn.sides if side.partial]
        if verdict == TIE or not partial or _useless(turn):
            self._vote(turn, verdict, save=True)
            return

        def answered(answer: str | None) -> None:
            if answer == "save":
                self._vote(turn, verdict, save=True)

        which = "Both answers did" if len(partial) > 1 else "One of the two answers did"
        self.app.push_screen(CutOffDialog(f"{which} not end by itself. Shall the pair be saved?"), answered)

    def _vote(self, turn: Turn, verdict: str, *, save: bool) -> None:
        if self.conversation.turns[-1:] != (turn,):
            return
        useless = _useless(turn)
        voted = turn.voted(TIE if turn.sides[0].text == turn.sides[1].text else verdict)
        self.conversation.replace_last(voted)
        self.talk.blocks[-1].show(voted, prompt=self.conversation.messages(-1)[-1][1])
        votes: dict[str, Any] = self.mini.state.get("chat.votes", {})
        standing = count_vote(votes, turn.sides[0], turn.sides[1], voted.verdict)
        self.mini.state.keep("chat.votes", votes)
        self.mini.state.save()  # a vote is work: it outlives a crash
        self.refresh_bindings()
        self.action_type()
        if voted.verdict == TIE or useless or not save or voted.rival is None:
            self.tell(f"{standing}. Nothing saved{useless}.")
            return
        row = preference_row(self.conversation.messages(-1), voted, voted.rival)
        self._save(preferences_file(), row, f"{standing}. The pair is")

    def action_write(self) -> None:
        """Saves the conversation as a row to learn from."""
        turns = self.conversation.turns
        if not turns or not any(turn.role == "assistant" for turn in turns):
            self.tell("There is no answer to save yet.")
            return
        if all(turn.completes for turn in turns if turn.role == "assistant"):
            self.tell("A text that was continued is no conversation: nothing saved.")
            return
        first = next((place for place, turn in enumerate(turns) if turn.partial), None)
        if first is None:
            self._write(len(turns))
            return
        before = self.conversation.question_of(first)

        def answered(answer: str | None) -> None:
            if answer:
                self._write(len(turns) if answer == "save" else before)

        count = sum(turn.partial for turn in turns)
        what = "An answer did" if count == 1 else f"{count} answers did"
        self.app.push_screen(CutOffDialog(f"{what} not end by itself.", before=before > 0), answered)

    def _write(self, end: int) -> None:
        self._save(conversations_file(), conversation_row(self.conversation.messages(end)), "The conversation is")

    @work(thread=True, group="chat-save", exit_on_error=False)
    def _save(self, path: Path, row: dict[str, Any], what: str) -> None:
        try:
            append_row(path, row)
        except EngineError as error:
            self.app.call_from_thread(self.mini.show_error, error)
            return
        self.app.call_from_thread(self._has_saved, path, what)

    def _has_saved(self, path: Path, what: str) -> None:
        self._saved = path
        self.refresh_bindings()
        self.tell(f"{what} the last row of {path} (o opens it)")

    def action_open(self) -> None:
        """Opens what was saved last on the Data screen, at its last row."""
        files = filter(None, (self._saved, conversations_file(), preferences_file()))
        saved = next((file for file in files if file.is_file() and file.stat().st_size), None)
        if saved is not None:
            self.mini.open_data(saved, LAST)
        else:
            self.tell("Nothing is saved yet: w saves the conversation.")

    def action_type(self) -> None:
        """Into the input."""
        self.prompt.focus()


def _useless(turn: Turn) -> str:
    """Why a vote cannot be learnt from, if so."""
    left, right = turn.sides
    if left.text == right.text:
        return ": the two answers are the same"
    if left.completes and right.completes:
        return ": continued texts are no answers"
    return ""
