"""The app when memory does not suffice: what happened is said, and the run goes on as the user chooses."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from textual import work

from engine.errors import DoesNotFit, EngineError
from engine.runs.folder import RunFolder
from engine.settings.values import value_text
from minimind_tui.carrier import Carrier
from minimind_tui.core.last_words import diagnose, ran_out
from minimind_tui.core.live import Live, begin_request
from minimind_tui.core.memory import Change

if TYPE_CHECKING:
    from engine.session import TrainRequest
    from minimind_tui.core.climb import Climb
    from minimind_tui.core.shortage import Shortage

Answer = Change | bool | None
"""A change, True to go on without one, or None to leave everything as it is."""


class MemoryTalk(Carrier):
    """A carrier that asks what to change when memory ran out, or is expected to."""

    def watched(self, live: Live) -> None:
        if live.talked or live.alive or live.run is None:
            return
        if live.has_news_of_memory:
            self.talk_of_memory(live)
        elif live.state == "interrupted" and not live.examined:
            live.examined = True
            self._examine(live.run)

    @work(thread=True, exit_on_error=False)
    def _examine(self, run: RunFolder) -> None:
        """What it finds out is written into the run's events, where it is heard of."""
        diagnose(run)

    def talk_of_memory(self, live: Live, climb: "Climb | None" = None) -> None:
        live.talked = True
        if isinstance(live.failure, DoesNotFit):
            self._talk_of_plan(live.failure, live, climb)
        elif live.history.ran_out is not None and live.run is not None:
            self.explain_memory(live.run, climb)
        elif live.failure is not None:  # its last words could not be written
            self.show_error(live.failure, live.log)

    def _talk_of_plan(self, error: DoesNotFit, live: Live, climb: "Climb | None") -> None:
        """A run that was refused: a new one is begun again with the change, one that was to go on is changed."""
        from minimind_tui.core.shortage import predicted

        request, run = live.request, live.run

        def chosen(answer: Answer) -> None:
            if not answer or self.is_busy():
                return
            if request is not None:
                self._climb = climb
                self._begin_again(request, answer)
            elif run is not None:
                self._go_on(run, answer, climb, planned=True)

        self._ask(predicted(error, live.name, run if request is None else None), chosen)

    def _begin_again(self, request: "TrainRequest", answer: Change | bool) -> None:
        if isinstance(answer, Change):
            changed = tuple(f"{name}={value_text(value)}" for name, value in answer.values.items())
            request = replace(request, assignments=(*request.assignments, *changed))
        self._begin(lambda: begin_request(request, force=answer is True))

    @work(thread=True, exit_on_error=False)
    def explain_memory(self, run: RunFolder, climb: "Climb | None" = None) -> None:
        """Says how a run's memory ran out; reads its events in a thread."""
        from minimind_tui.core.shortage import suffered

        event = ran_out(run)
        if event is not None:
            self.call_from_thread(self._talk_of_end, run, suffered(run, event), climb)

    def _talk_of_end(self, run: RunFolder, shortage: "Shortage", climb: "Climb | None") -> None:
        def chosen(answer: Answer) -> None:
            if answer and not self.is_busy():
                self._go_on(run, answer, climb)

        self._ask(shortage, chosen)

    def _ask(self, shortage: "Shortage", chosen: Callable[[Answer], None]) -> None:
        """Asks, unless it is being asked already: a run that is shown may have been left behind too."""
        from minimind_tui.screens.shortage import ShortageDialog

        asked = [screen.shortage.name for screen in self.screen_stack if isinstance(screen, ShortageDialog)]
        if shortage.name not in asked:
            self.push_screen(ShortageDialog(shortage), chosen)

    def _go_on(self, run: RunFolder, answer: Change | bool, climb: "Climb | None", *, planned: bool = False) -> None:
        self._left_ladder = run, climb
        if isinstance(answer, Change):
            self._change_and_resume(run, answer, planned)
        else:
            self.resume_run(run, force=True)

    @work(thread=True, exit_on_error=False)
    def _change_and_resume(self, run: RunFolder, change: Change, planned: bool) -> None:
        """Writes the change into the run's folder in a thread, then goes on with it.

        Args:
            run: The run.
            change: What was chosen.
            planned: It is no suggestion of the run's own last words.
        """
        from engine.memory.suggest import ORIGIN
        from engine.session.adjust import apply_suggestion, change_settings

        try:
            if planned:
                step = max(run.checkpoint_steps(), default=0)
                change_settings(run, change.values, step=step, reason=ORIGIN)
            else:
                apply_suggestion(run, change.number)
        except (EngineError, OSError) as error:
            said = error if isinstance(error, EngineError) else EngineError(f"the run cannot be changed: {error}")
            self.call_from_thread(self.show_error, said)
        else:
            self.call_from_thread(self.resume_run, run)
