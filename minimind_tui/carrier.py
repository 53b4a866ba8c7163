"""The app as the carrier of a run: begins it, hears it, hands it over, and asks what becomes of it at the end."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work
from textual.app import App

from engine.clean import clean
from engine.errors import EngineError, OutOfMemory
from engine.runner import RunHandle, ThreadRun
from engine.runs.folder import RunFolder
from minimind_tui.core.crash import note_carried
from minimind_tui.core.library import Library
from minimind_tui.core.live import Live, begin_thread
from minimind_tui.core.notices import Notices
from minimind_tui.screens.dialogs import ErrorDialog, QuitDialog
from minimind_tui.state import Preferences, State

if TYPE_CHECKING:
    from minimind_tui.core.choice import Choice
    from minimind_tui.core.climb import Climb

_DRAIN_SECONDS = 0.25
_NEWS_SECONDS = 3.0
"""How long good news stand over what is below them."""
_LEAVE_SECONDS = 120.0
"""How long quitting waits for the last step and its checkpoint."""


class Carrier(App[str]):
    """An app that carries one run in a thread, and shows one.

    What it returns is said on the terminal that it leaves behind: what became of the run.

    Attributes:
        own: The run that this process carries, also while another is shown.
        shown: The run on the Train screen.
        library: All runs at a glance; it reads a run again only when it has something new.
        state: What is remembered from start to start.
        preferences: What the user has chosen; `problems` says what is wrong with that file.
    """

    def __init__(self) -> None:
        super().__init__()
        self.own: Live | None = None
        self.shown: Live | None = None
        self.state = State.load()
        self.preferences, self.problems = Preferences.load()
        self._climb: Climb | None = None
        self._left_ladder: tuple[RunFolder | None, Climb | None] = None, None
        self._starting = self._leaving = False
        self._noted: RunFolder | None = None
        self.library = Library()
        self._notices = Notices()

    def on_mount(self) -> None:
        self.set_interval(_DRAIN_SECONDS, self._drain)

    def _drain(self) -> None:
        """Four times a second: takes in events, and notices the end of the own run."""
        lives = list({id(live): live for live in (self.own, self.shown) if live is not None}.values())
        for live in lives:
            live.drain()
        ended = self.own if self.own is not None and not self.own.alive else None
        if ended is not None:
            self.own = None
            ended.drain()
        if (notice := self._notices.due(lives, time.monotonic())) is not None:
            seconds = _NEWS_SECONDS if notice.severity == "information" else None
            self.notify(notice.text, title=notice.title, severity=notice.severity, timeout=seconds, markup=False)
        if ended is not None:
            self._ended(ended)
        elif self.shown is not None and not self.shown.is_own:
            self.watched(self.shown)
        self._note_carried()

    def _note_carried(self) -> None:
        run = self.own.run if self.own is not None else None
        if run != self._noted:
            self._noted = run
            note_carried(run)

    def _ended(self, ended: Live) -> None:
        climb, self._climb = self._climb, None
        if self.preferences.bell:
            self.bell()
        if isinstance(ended.failure, OutOfMemory):
            self.talk_of_memory(ended, climb)
        elif ended.failure is not None:
            self.show_error(ended.failure, ended.log)
        elif ended.state == "done" and climb is not None:
            self._climb = climb
            self._climb_on(climb)

    # Showing

    def show_run(self, run: RunFolder) -> None:
        """Shows a run on the Train screen, whoever carries it."""
        if self.own is not None and self.own.run == run:
            self.shown = self.own
        elif self.shown is None or self.shown.run != run or not self.shown.alive:
            self.shown = None
            self.watch_run(run)
        self.switch_mode("train")

    @work(thread=True, exclusive=True, group="attach", exit_on_error=False)
    def watch_run(self, run: RunFolder) -> None:
        """Reads a run's whole history in a thread, then shows it."""
        live = Live(RunHandle(run))
        live.drain()
        self.call_from_thread(self._show_live, live)

    def _show_live(self, live: Live) -> None:
        self.shown = live

    def show_error(self, error: EngineError, log: Path | None = None) -> None:
        """An error ends in a dialog; the app lives."""
        self.push_screen(ErrorDialog(error, log))

    def chat_with(self, run: str = "") -> None:
        """Opens the chat with a run's newest checkpoint."""
        raise NotImplementedError

    def talk_of_memory(self, live: Live, climb: "Climb | None") -> None:
        """Says why a run's memory did not suffice, and goes on as the user chooses; `climb` is the ladder it is of."""
        raise NotImplementedError

    def watched(self, live: Live) -> None:
        """Looks at how a run stands that another process carries, four times a second."""
        raise NotImplementedError

    # Beginning

    def begin_run(self, choice: "Choice") -> None:
        """Starts a run in a thread of this process and shows it."""
        if not self.is_busy():
            self._begin(
                begin_thread(
                    choice.profile, choice.data, choice.tokenizer, choice.assignments, choice.name, choice.start_from
                )
            )

    def resume_run(self, run: RunFolder, *, force: bool = False) -> None:
        """Goes on with a run in a thread of this process; `force`: although it is not expected to fit into memory."""
        if not self.is_busy():
            left, climb = self._left_ladder
            self._climb = climb if left == run else None
            self._begin(lambda: Live(ThreadRun(resume=run, force=force)))

    def is_busy(self) -> bool:
        """Whether this process carries a run already; if so, the user is told."""
        if self._starting or (self.own is not None and self.own.alive):
            self.notify("A run goes on here: stop or detach it first.", severity="warning")
            return True
        return False

    def _begin(self, make: Callable[[], Live]) -> None:
        self._starting = True
        self.switch_mode("train")
        self._begin_in_thread(make)

    @work(thread=True, exit_on_error=False)
    def _begin_in_thread(self, make: Callable[[], Live]) -> None:
        try:
            live = make()
        except BaseException:
            self._starting = False
            raise
        self.call_from_thread(self._begun, live)

    def _begun(self, live: Live) -> None:
        self._starting = False
        self.own = self.shown = live

    # The starter ladder

    def climb_starter(self) -> None:
        """Trains what is missing of the starter ladder, one run after the other, and ends in a chat."""
        if not self.is_busy():
            from minimind_tui.core.climb import Climb

            self._climb = Climb()
            self._climb_on(self._climb)

    @work(thread=True, exit_on_error=False)
    def _climb_on(self, climb: "Climb") -> None:
        self.call_from_thread(self._climb_rung, climb, climb.advance())

    def _climb_rung(self, climb: "Climb", unfinished: RunFolder | None) -> None:
        if not climb.left:
            self._climb = None
            self.chat_with(climb.goal.name)
        elif unfinished is None:
            self._begin(begin_thread(climb.left[0]))
        elif unfinished.is_running():
            self._climb = None
            self.show_run(unfinished)
        else:
            self._begin(lambda: Live(ThreadRun(resume=unfinished)))

    def leave_ladder(self) -> None:
        """The run that goes on is the last of its ladder; resumed, it leads on."""
        if self._climb is not None and self.own is not None:
            self._left_ladder = self.own.run, self._climb
        self._climb = None

    def rung_note(self, live: Live | None) -> str:
        """Where on the starter ladder the own run stands."""
        return str(self._climb) if self._climb is not None and live is not None and live is self.own else ""

    # Handing over, and leaving

    def detach_run(self) -> None:
        """Hands the own run to a process of its own and goes on watching it."""
        if self.own is not None and not self.own.detaching:
            self._hand_over(self.own)

    def _hand_over(self, live: Live, *, leave: bool = False) -> None:
        self._climb, live.detaching = None, True
        self._hand_over_in_thread(live, leave)

    @work(thread=True, exit_on_error=False)
    def _hand_over_in_thread(self, live: Live, leave: bool) -> None:
        self.call_from_thread(self._handed_over, live, live.detach(), leave)

    def _handed_over(self, live: Live, error: EngineError | None, leave: bool) -> None:
        live.detaching = False
        leave = leave or self._leaving
        if error is None:
            self.own = None
            self._note_carried()
            if leave:
                self.exit(f"{clean(live.name)} goes on without this terminal; minimind-tui shows it again.")
            elif live.run is not None:
                self.notify(f"{clean(live.name)} goes on as a process of its own", markup=False)
                if self.shown is live:
                    self.watch_run(live.run)
        elif live.failure is None and live.state != "done":
            self.own = None
            self._note_carried()
            self.show_error(error, live.log)
        if error is not None and self._leaving:
            self.exit(f"{clean(live.name)} could not be handed over; it is saved: engine resume {clean(live.name)}")

    async def action_quit(self) -> None:
        """Leaves; with a run of this process the user is asked what becomes of it."""
        if isinstance(self.screen, QuitDialog):
            return
        self.before_leaving(self._quit)

    def before_leaving(self, then: Callable[[], None]) -> None:
        """Asks what becomes of work that is not saved, and goes on if the user wants it."""
        raise NotImplementedError

    def _quit(self) -> None:
        self.remember()
        if self.own is None or not self.own.alive:
            self.exit()
        elif self.own.detaching:
            self.notify("The run is being handed over: one moment.")
        else:
            self.push_screen(QuitDialog(self.own.name), self._leave)

    def _leave(self, answer: str | None) -> None:
        if not answer or self.own is None:
            return
        if answer == "detach":
            self._hand_over(self.own, leave=True)
        else:
            self.notify("Saving the last step …", timeout=_LEAVE_SECONDS)
            self._stop_and_leave(self.own)

    def end(self) -> None:
        """The terminal was closed, or a signal asks for the end: what the run has learnt is saved first."""
        self._leaving = True
        self.remember()
        if self.own is None or not self.own.alive:
            self.exit()
        elif not self.own.detaching:
            self._stop_and_leave(self.own)

    def _stop_and_leave(self, live: Live) -> None:
        self._climb = None
        live.send("stop_now")
        self._leave_in_thread(live)

    @work(thread=True, exit_on_error=False)
    def _leave_in_thread(self, live: Live) -> None:
        if isinstance(live.handle, ThreadRun):
            live.handle.join(_LEAVE_SECONDS)
        self.call_from_thread(self._left, live)

    def _left(self, live: Live) -> None:
        live.drain()
        saved = live.state == "stopped"
        name, step = clean(live.name), live.history.step
        if not live.alive:
            self.own = None
            self._note_carried()
        self.exit(f"{name} is saved at step {step:,}; go on with it here or by: engine resume {name}" if saved else "")

    def remember(self) -> None:
        """Keeps what the next start begins with."""
        shown = self.shown.run if self.shown is not None else None
        self.state.keep("train.run", str(shown.path) if shown is not None else "")
        self.state.save()
