"""Who is talked with: a checkpoint, or two, and what has become of them since."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

from textual import work
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.notifications import SeverityLevel
from textual.widgets import Static

from engine.clean import clean
from engine.errors import EngineError
from minimind_tui.core.sampling import Sampling
from minimind_tui.core.talk import Speaker, find_speaker, newest, offers
from minimind_tui.widgets.chat.prompt import Prompt
from minimind_tui.widgets.chat.talk_list import TalkList
from minimind_tui.widgets.states import MUTED

if TYPE_CHECKING:
    from minimind_tui.app import MinimindApp

_LOOK_SECONDS = 2.0
"""How often it is looked whether a run has a newer checkpoint."""


class Choosing(Vertical):
    """Finds checkpoints in threads, says who is talked with, and notices newer ones.

    Args:
        docked: It stands beside something else: it does not remember who is talked with.
    """

    class Changed(Message, namespace="chat_pane"):
        """Another checkpoint is talked with."""

    def __init__(self, *, docked: bool = False, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.docked = docked
        self._sampling, self._system = Sampling(), ""
        self._speakers: list[Speaker] = []
        self._spoken: Speaker | None = None
        self._ticket = 0
        self._following, self._by_hand = "", False

    @property
    def mini(self) -> "MinimindApp":
        """The app, with its type."""
        return cast("MinimindApp", self.app)

    @property
    def reference(self) -> str:
        """What is talked with; empty while nothing is chosen."""
        return self._speakers[0].reference if self._speakers else ""

    @property
    def loaded(self) -> Path | None:
        """The folder of what is talked with."""
        return self._speakers[0].folder if self._speakers else None

    @property
    def talk(self) -> TalkList:
        """The turns."""
        return self.query_one(TalkList)

    @property
    def prompt(self) -> Prompt:
        """The input."""
        return self.query_one(Prompt)

    def on_mount(self) -> None:
        self.set_interval(_LOOK_SECONDS, self.look)
        self.introduce()
        if not self.docked:
            self._find_any(self._next_ticket(), self.mini.state.get("chat.reference", ""))

    def begin_anew(self) -> None:
        """Another conversation."""
        raise NotImplementedError

    def tell(self, text: str, *, warning: bool = False) -> None:
        """Says something in a toast."""
        severity: SeverityLevel = "warning" if warning else "information"
        self.notify(clean(text, newlines=False), severity=severity, markup=False)

    def talk_with(self, run: str = "") -> None:
        """Talks with a run's newest checkpoint, or with what a reference or a path names; empty: the newest of all."""
        self._following, self._by_hand = "", False
        if run:
            self.choose([newest(run)], fresh=True)
        else:
            self._find_any(self._next_ticket(), "")

    def follow_newest(self, run: str) -> None:
        """Talks with a live run's newest checkpoint, also with one that is not saved yet; empty: no longer.

        What was chosen by hand stays until it is another run.
        """
        if run != self._following:
            self._following, self._by_hand = run, False
            if run:
                self.choose([newest(run)], fresh=True, quiet=True)

    def choose_by_hand(self, references: list[str]) -> None:
        """Talks with these, whatever run is followed."""
        self._by_hand = True
        self.choose(references)

    def choose(self, references: list[str], *, fresh: bool = False, quiet: bool = False) -> None:
        """Talks with these, one or two.

        Args:
            references: Who.
            fresh: Begin another conversation, if it is somebody else.
            quiet: Say nothing where there is none yet.
        """
        self._find(self._next_ticket(), references, fresh, quiet)

    def _next_ticket(self) -> int:
        self._ticket += 1
        return self._ticket

    @work(thread=True, group="chat-find", exit_on_error=False)
    def _find(self, ticket: int, references: list[str], fresh: bool, quiet: bool) -> None:
        try:
            found = [find_speaker(reference) for reference in references]
        except EngineError as error:
            if not quiet:
                self.app.call_from_thread(self._not_found, ticket, error)
            return
        self.app.call_from_thread(self._found, ticket, found, fresh)

    @work(thread=True, group="chat-find", exit_on_error=False)
    def _find_any(self, ticket: int, remembered: str) -> None:
        """The remembered checkpoint if it is still there, or the newest that answers, or the newest."""
        offered = sorted(offers(self.mini.library.runs()), key=lambda offer: offer.completes)
        for reference in filter(None, (remembered, *(offer.reference for offer in offered))):
            try:
                found = find_speaker(reference)
            except EngineError:
                continue
            self.app.call_from_thread(self._found, ticket, [found], False)
            return

    def _not_found(self, ticket: int, error: EngineError) -> None:
        if ticket == self._ticket:
            self._by_hand = self._by_hand and bool(self._speakers)
            self.mini.show_error(error)

    def _found(self, ticket: int, speakers: list[Speaker], fresh: bool) -> None:
        if ticket != self._ticket or not self.is_mounted:
            return
        before, self._speakers = self._speakers, speakers
        if [one.reference for one in before] != [one.reference for one in speakers]:
            other_kind = bool(before) and before[0].completes != speakers[0].completes
            if before and (fresh or other_kind):
                self.begin_anew()
            if not self.docked:
                self.mini.state.keep("chat.reference", self.reference)
            self.post_message(self.Changed())
        self.introduce()
        self.refresh_bindings()

    def look(self) -> None:
        """Looks whether the checkpoints that are talked with have moved on."""
        if not self.display or self.app.screen is not self.screen:
            return
        references = [speaker.reference for speaker in self._speakers]
        if self._following and not references and not self._by_hand:
            self._find(self._ticket, [newest(self._following)], False, True)
        elif not references and not self.docked:
            self._find_any(self._ticket, self.mini.state.get("chat.reference", ""))
        elif any(reference.endswith(("@newest", "@best")) for reference in references):
            self._find_again(references)

    @work(thread=True, exclusive=True, group="chat-look", exit_on_error=False)
    def _find_again(self, references: list[str]) -> None:
        try:
            found = [find_speaker(reference) for reference in references]
        except EngineError:  # deleted meanwhile; the next question says so
            return
        self.app.call_from_thread(self._moved_on, found)

    def _moved_on(self, found: list[Speaker]) -> None:
        if [one.reference for one in found] == [one.reference for one in self._speakers] and found != self._speakers:
            self._speakers = found
            self.introduce()

    def introduce(self) -> None:
        """Says who is talked with, how, and what becomes of a message."""
        names = "  vs  ".join(map(str, self._speakers)) or "no checkpoint yet"
        first = self._speakers[0] if self._speakers else None
        spoken = self._spoken
        newer = first and spoken and spoken.reference == first.reference and spoken.folder != first.folder
        self.query_one("#speaker", Static).update(
            Content.assemble((names, "bold"), (" · newer than the last answer's" if newer else "", "$accent"))
        )
        how = f"{self._sampling} · system prompt" if self._system.strip() else str(self._sampling)
        self.query_one("#how", Static).update(Content.styled(how, MUTED))
        if first is None:
            who = f"{clean(self._following)} has no checkpoint" if self._following else "No checkpoint to talk with"
            self.talk.say(Content(f"{who} yet.\nEscape leaves the input; 1 goes home, where models are trained."))
            self.prompt.placeholder = "train a model first"
            return
        does = "continues your text" if first.completes else "answers you"
        hint = "enter sends · ctrl+t sampling · escape, then letters are keys and ? lists them"
        self.talk.say(Content.assemble(f"{names} {does}.\n", (hint, MUTED)))
        self.prompt.placeholder = "begin a text, enter lets it go on" if first.completes else "ask something"
