"""The run that a screen shows: its handle, what it has said, and how it stands. Without Textual."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import DoesNotFit, EngineError, Interrupted, OutOfMemory
from engine.runner import RunHandle, ThreadRun
from engine.runs.events import CheckpointSaved, Event, Finished, NonFiniteStep, Warned
from engine.runs.folder import RunFolder
from minimind_tui.core.history import RunHistory
from minimind_tui.core.last_words import OUT_OF_MEMORY

if TYPE_CHECKING:
    from engine.session import TrainRequest

_PROBE_SECONDS = 1.0
"""How often the lock of a run carried elsewhere is asked for."""
_NEWS = (CheckpointSaved, NonFiniteStep, Warned, Finished)
"""What a user may want to hear of while looking elsewhere."""


class Live:
    """A run and its history.

    Args:
        handle: What carries or watches it.
        name: Its name while the folder is not made yet.
        request: What was asked for, of a run that is new.

    Attributes:
        talked: It was said already that its memory ran out.
        examined: It was looked into already why its process is gone.
        detaching: It is being handed to a process of its own; set and cleared by whoever calls `detach`.
    """

    def __init__(self, handle: RunHandle, name: str = "", request: "TrainRequest | None" = None) -> None:
        self.handle, self.history, self.request = handle, RunHistory(), request
        self.talked = self.examined = False
        self._name = name
        self._log_interval: int | None = None
        self.detaching = False
        self._probed, self._alive = 0.0, True
        self._since, self._news = time.time(), list[Event]()

    @property
    def run(self) -> RunFolder | None:
        """Its folder, once it is made."""
        return self.handle.run

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.name if self.run else self._name

    @property
    def is_own(self) -> bool:
        """Whether this process carries it."""
        return isinstance(self.handle, ThreadRun)

    @property
    def alive(self) -> bool:
        """Whether it goes on; for runs carried elsewhere the answer is up to a second old."""
        if self.is_own:
            return self.handle.alive or self.detaching
        if time.monotonic() - self._probed >= _PROBE_SECONDS:
            self._probed, self._alive = time.monotonic(), self.handle.alive
        return self._alive

    @property
    def failure(self) -> EngineError | None:
        """Why a run of this process could not go on; being asked to stop is no failure."""
        error = self.handle.error
        return None if isinstance(error, Interrupted) else error

    @property
    def state(self) -> str:
        """How it stands, in one word."""
        if self.detaching:
            return "detaching"
        if self.alive:
            return self.history.status if not self.history.over or self.is_own else "starting"
        if self.history.finished:
            return self.history.finished.status
        return "failed" if self.failure else "interrupted"

    @property
    def shortage(self) -> str:
        """What its memory had to do with its end, in a few words; empty: nothing."""
        if self.alive:
            return ""
        if isinstance(self.failure, DoesNotFit):
            return "not expected to fit into memory"
        return OUT_OF_MEMORY if self.history.ran_out or isinstance(self.failure, OutOfMemory) else ""

    @property
    def has_news_of_memory(self) -> bool:
        """Whether it ran out of memory since it is watched."""
        event = self.history.ran_out
        return event is not None and event.time >= self._since

    @property
    def log(self) -> Path | None:
        """The run's log file."""
        return self.run.log if self.run else None

    def drain(self) -> None:
        """Takes in what the run said since the last call."""
        events = self.handle.drain()
        self.history.feed(events)
        self._news += [event for event in events if isinstance(event, _NEWS) and event.time >= self._since]

    def news(self) -> list[Event]:
        """What happened since the last call that is worth a toast; nothing from before it was watched."""
        news, self._news = self._news, []
        return news

    def send(self, command: str, value: int | None = None) -> None:
        """Tells the run something, see `engine.runs.control.COMMANDS`.

        A stop reaches a run of this process also before its first step, when it does not listen to commands yet.
        """
        if command == "set_log_interval":
            self._log_interval = value
        if isinstance(self.handle, ThreadRun) and command in ("stop", "stop_now"):
            if command == "stop_now" or self.history.status != "running":
                self.handle.interrupt()
            else:
                self._write(command)
            self.history.status = "stopping"
            self.history.version += 1
        else:
            self._write(command, value)

    def _write(self, command: str, value: int | None = None) -> None:
        if self.run is not None and self.run.path.is_dir():
            self.handle.send(command, value)

    def detach(self) -> EngineError | None:
        """Saves at a step boundary and hands the run to a process of its own; blocks until that has taken it.

        Returns:
            Why it did not work, if it did not.
        """
        paused = self.history.status == "paused"
        try:
            if isinstance(self.handle, ThreadRun):
                process = self.handle.detach()
                if self._log_interval is not None:
                    process.send("set_log_interval", self._log_interval)
                if paused:
                    process.send("pause")
        except EngineError as error:
            return error
        except OSError as error:
            return EngineError(f"no process could be started: {error}", hint="the run is saved; resume it")
        return None


def begin_thread(
    profile: str,
    data: str = "",
    tokenizer: str = "",
    assignments: tuple[str, ...] = (),
    name: str = "",
    start_from: str = "",
) -> Callable[[], Live]:
    """A new run in a thread of this process; calling the result loads torch, so it belongs into a worker."""

    def begin() -> Live:
        from engine.session import TrainRequest

        return begin_request(TrainRequest(profile, data, tokenizer, start_from, assignments, name))

    return begin


def begin_request(request: "TrainRequest", *, force: bool = False) -> Live:
    """A new run in a thread; see `begin_thread`. `force`: although it is not expected to fit into memory."""
    return Live(ThreadRun(request, force=force), request.name or request.profile, request)
