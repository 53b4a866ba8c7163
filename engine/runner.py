"""Starts runs in a thread or as processes of their own, and attaches to any run folder.

Whatever carries a run, it speaks only through its folder: events out, control in, a lock. Importing this loads no
torch.
"""

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from engine.errors import EngineError, Interrupted, UserError
from engine.runs.control import send
from engine.runs.events import Event
from engine.runs.folder import RunFolder
from engine.runs.history import EventTail

if TYPE_CHECKING:
    from engine.session import TrainRequest

_START_SECONDS = 60.0


class RunHandle:
    """A run as a screen sees it: its events as they come, its commands, its end.

    This one only watches, whoever carries the run; `ThreadRun` carries it in this process.
    """

    def __init__(self, run: RunFolder) -> None:
        self._folder: RunFolder | None = run
        self._tail: EventTail | None = EventTail(run)

    @property
    def run(self) -> RunFolder | None:
        """The run's folder; None while a request is still being resolved."""
        return self._folder

    @property
    def error(self) -> EngineError | None:
        """Why the run could not be carried out in this process; others say it in their `finished` event."""
        return None

    def drain(self) -> list[Event]:
        """The events that came since the last call; the whole history at the first."""
        return self._tail.drain() if self._tail else []

    def send(self, command: str, value: int | None = None) -> None:
        """Tells the run something, see `engine.runs.control.COMMANDS`."""
        if self._folder is not None:
            send(self._folder, command, value)

    @property
    def alive(self) -> bool:
        """Whether the run goes on."""
        return self._folder is not None and self._folder.is_running()


class ThreadRun(RunHandle):
    """A run in a background thread of this process.

    Args:
        request: A new run to begin, or
        resume: a run to go on with.
        force: Start although it is not expected to fit into memory.
    """

    def __init__(
        self, request: "TrainRequest | None" = None, resume: RunFolder | None = None, *, force: bool = False
    ) -> None:
        self._folder, self._tail = resume, EventTail(resume) if resume else None
        self._error: EngineError | None = None
        self._interrupt = threading.Event()
        self._thread = threading.Thread(
            target=self._work, args=(request, resume, force), name="engine-run", daemon=True
        )
        self._thread.start()

    def _work(self, request: "TrainRequest | None", resume: RunFolder | None, force: bool) -> None:
        try:
            from engine.session import begin, carry_out, forget_if_useless

            if resume is not None:
                carry_out(resume, resume=True, force=force, interrupt=self._interrupt)
            elif request is not None:
                run = begin(request)
                self._folder, self._tail = run, EventTail(run)
                with forget_if_useless(run):
                    carry_out(run, force=force, interrupt=self._interrupt)
        except EngineError as error:
            self._error = error
        except Exception as error:
            self._error = EngineError(f"{type(error).__name__}: {error}")

    @property
    def error(self) -> EngineError | None:
        """Why the run ended early; `Interrupted` when it was asked to, with the checkpoint saved."""
        return self._error

    @property
    def alive(self) -> bool:
        """Whether the thread works."""
        return self._thread.is_alive()

    def interrupt(self) -> None:
        """Asks for the end: the last step boundary is saved. Returns at once."""
        self._interrupt.set()

    def join(self, seconds: float | None = None) -> bool:
        """Waits for the end; whether it came."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def detach(self) -> RunHandle:
        """Saves at a step boundary and goes on as a process of its own that outlives this one.

        Raises:
            EngineError: The run has failed or ended meanwhile, or the process did not come up.
        """
        self.interrupt()
        self.join()
        if self._folder is None or not isinstance(self._error, Interrupted):
            raise self._error or EngineError("the run ended before it could be detached")
        return start_process(self._folder, force=True)


def start_process(run: RunFolder, *, force: bool = False) -> RunHandle:
    """Goes on with a run in a process of its own, in a session of its own: it survives this terminal.

    Should the kernel end it for want of memory, its events say so. `force` starts what is not expected to fit.

    Returns when the process has taken the run, so that it is alive and hears what it is told from then on.

    Raises:
        EngineError: The run is being run already, or the process ended at once, or it did not take the run in time.
    """
    if run.is_running():
        raise UserError(f"run {run.name} is being run already")
    with run.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "engine", "resume", str(run.path), *(["--force"] if force else [])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    ended = threading.Event()

    def collect() -> None:
        returncode = process.wait()
        from engine.session.aftermath import explain_kill

        explain_kill(run, returncode)
        ended.set()

    threading.Thread(target=collect, name="engine-process", daemon=True).start()
    deadline = time.monotonic() + _START_SECONDS
    while not run.is_running():
        if ended.wait(0.1):
            if process.returncode:
                raise EngineError(
                    f"the process of run {run.name} ended with {process.returncode} at once",
                    where=str(run.log),
                    hint=f"engine resume {run.name} says why, and so does the end of the log",
                )
            break
        if time.monotonic() > deadline:
            raise EngineError(f"process {process.pid} has not taken run {run.name} yet", where=str(run.log))
    return RunHandle(run)
