"""What a run has to tell a user who may look elsewhere: toasts, at most one a second. Without Textual."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from engine.clean import clean
from engine.runs.events import CheckpointSaved, Event, Finished, NonFiniteStep, Warned
from minimind_tui.core.live import Live

_APART_SECONDS = 1.0


@dataclass(frozen=True)
class Notice:
    """A toast."""

    title: str
    text: str
    severity: Literal["information", "warning", "error"] = "information"


class Notices:
    """Turns what runs said into toasts.

    Of what came between two toasts the newest of a kind is kept, with how many there were: a run that saves every
    second or skips every step does not leave a queue behind it.
    """

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], tuple[Event, int]] = {}
        self._told = float("-inf")

    def due(self, lives: Iterable[Live], now: float) -> Notice | None:
        """The next toast, if a second has passed since the last.

        Args:
            lives: The runs that are carried or shown; what they said since the last call is taken in.
            now: Seconds of a clock that does not jump (`time.monotonic()`).
        """
        for live in lives:
            for event in live.news():
                key = (live.name, kind) if (kind := _kind(event, live)) else None
                if key is not None:
                    _, count = self._waiting.pop(key, (event, 0))
                    self._waiting[key] = (event, count + 1)
        if not self._waiting or now - self._told < _APART_SECONDS:
            return None
        self._told = now
        name, kind = next(iter(self._waiting))
        event, count = self._waiting.pop((name, kind))
        return _notice(clean(name, newlines=False), event, count)


def _kind(event: Event, live: Live) -> str:
    """What newer events of the same kind replace; empty for what is no news."""
    match event:
        case CheckpointSaved() | NonFiniteStep():
            return event.type
        case Warned(name=name):
            return f"warned {name}"
        case Finished(status="failed") if live.is_own or live.history.ran_out:
            return ""  # it ends in a dialog
        case Finished() if live.detaching:
            return ""  # it goes on elsewhere
        case Finished():
            return event.type
        case _:
            return ""


def _notice(name: str, event: Event, count: int) -> Notice | None:
    times = f" ({count} times)" if count > 1 else ""
    match event:
        case CheckpointSaved(step=step, best=best):
            return Notice(name, f"checkpoint of step {step:,} saved{', the best so far' if best else ''}")
        case NonFiniteStep(step=step, what=what):
            return Notice(name, f"step {step:,} skipped: {clean(what)} is not finite{times}", "error")
        case Warned(name=warning, message=message):
            return Notice(name, f"{clean(warning).replace('_', ' ')}: {clean(message)}{times}", "warning")
        case Finished(status="failed", error=error):
            return Notice(name, f"failed: {clean(error)}", "error")
        case Finished(status=status, step=step):
            return Notice(name, f"{clean(status)} at step {step:,}")
        case _:
            return None
