"""How a run says what it has to say: events, the samples file and the log."""

import errno
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from engine.errors import DoesNotFit, EngineError
from engine.exhaustion import Exhausted, release
from engine.runs.events import Event, Finished, Progress, Resumed, Sampled, Warned
from engine.runs.folder import RunFolder
from engine.runs.history import EventWriter
from engine.session.memory import RunMemory
from engine.session.shortage import exhaustion, out_of_memory, unplanned

Listener = Callable[[Event], None]


class Reporter:
    """Writes what a run says.

    Args:
        run: The run; the caller holds its lock.
        listener: Told every event besides.
    """

    def __init__(self, run: RunFolder, listener: Listener | None) -> None:
        self._run, self._listener = run, listener
        self._step = 0
        self.held = False
        """Whether events go to the listener alone, because it is not decided yet that the run goes on."""
        self.memory: RunMemory | None = None
        """What is known of the run's memory, once it is."""
        self.phase: Callable[[], str] = _start
        """Says what the run is doing, see `RanOutOfMemory`."""
        self._writer = EventWriter(run)
        self._log = logging.Logger(f"engine.run.{run.name}")
        self._handler = _LogFile(run.log, encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._log.addHandler(self._handler)

    def close(self) -> None:
        """Closes the files."""
        self._writer.close()
        with suppress(OSError):  # a full disk, of which the run has spoken already
            self._handler.close()

    def __call__(self, event: Event) -> None:
        if self.held:
            if self._listener:
                self._listener(event)
            return
        self._writer(event)
        self._step = getattr(event, "step", self._step)
        if isinstance(event, Sampled):
            self._write_samples([event], "a")
        elif isinstance(event, Resumed):
            self._step = event.from_step
            self._write_samples([old for old in self._run.history() if isinstance(old, Sampled)], "w")
        if event.type not in ("step", "sampled"):
            level = logging.WARNING if event.type in ("warned", "non_finite_step") else logging.INFO
            said = {name: value for name, value in vars(event).items() if name not in ("time", "audit")}
            self._log.log(level, "%s %s", event.type, said)
        if self._listener:
            self._listener(event)

    def progress(self, what: str, done: float) -> None:
        """Work before the first step goes on."""
        self(Progress(what=what, done=done))

    def warn(self, name: str, message: str) -> None:
        """Emits a named warning at the present step."""
        self(Warned(name=name, message=message, step=self._step))

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Whatever ends the run early becomes an `EngineError`, and is said in a `finished` event."""
        try:
            yield
        except DoesNotFit:  # nothing was begun
            raise
        except Exception as error:
            self.held = False
            found = exhaustion(error)
            failure = self._out_of_memory(error, found) if found else explained(error, self._run)
            with suppress(OSError):  # where the disk is full, the caller still hears of it
                if failure is not error and not found:
                    self._log.exception("the run failed")
                self(Finished(status="failed", step=self._step, error=str(failure), exit_code=failure.exit_code))
            if failure is error:
                raise
            raise failure from (None if found else error)

    def _out_of_memory(self, error: Exception, found: Exhausted) -> EngineError:
        """Gives back what the failed work holds, then says what happened and what would fit."""
        phase, self.phase = self.phase(), _start
        with suppress(MemoryError):
            self._log.exception("out of memory")
        release(error)
        memory, step = self.memory, self._step
        event = memory.explain(found, phase, step) if memory else unplanned(found, phase, step)
        with suppress(OSError):
            self(event)
        return out_of_memory(self._run, event)

    def _write_samples(self, said: list[Sampled], mode: str) -> None:
        with self._run.samples.open(mode, encoding="utf-8", errors="backslashreplace") as file:
            for each in said:
                line = {"step": each.step, "prompt": each.prompt, "text": each.text, "stop_reason": each.stop_reason}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _start() -> str:
    """What a run does before its first step."""
    return "start"


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """A log that cannot be written stops nothing, and is not complained about on the terminal."""


def explained(error: Exception, run: RunFolder) -> EngineError:
    """An error that a user can act on."""
    if isinstance(error, EngineError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        kept = ", ".join(map(str, run.checkpoint_steps())) or "none"
        return EngineError(
            f"the disk is full: {error}",
            where=str(run.path),
            hint=f"free some disk space, then engine resume {run.name}; checkpoints that exist: {kept}",
        )
    return EngineError(f"{type(error).__name__}: {error}", where=f"run {run.name}", hint=f"{run.log} has the details")
