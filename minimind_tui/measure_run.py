"""The part of the measurement that has a run: started by `minimind_tui.measure` on a pseudo-terminal.

One run goes on in a thread of this process. Slices with the app on its Train screen alternate with slices without any
screen, so that what else happens on the machine meets both alike; of each slice the beginning is left out.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import click

from engine.errors import EngineError
from engine.process import prepare
from engine.runner import RunHandle, ThreadRun
from engine.runs.events import Event, Step
from minimind_tui.__main__ import SWITCH_INTERVAL

_PROFILE = "starter/pretrain"
_SETTINGS = ("max_steps=1000000", "eval_interval=1000000", "save_interval=1000000", "log_interval=2")
_WARM_STEPS, _WARM_SECONDS = 20, 120.0
_SETTLE, _SETTLE_BARE = 2.0, 0.5
_PROBE_SECONDS = 0.005
_PLAIN_INTERVAL = sys.getswitchinterval()


def speed(events: list[Event], begin: float, end: float) -> float:
    """Tokens a second between the first and the last step that were reported within a time span (seconds since 1970).

    Raises:
        EngineError: There were not two.
    """
    steps = [event for event in events if isinstance(event, Step) and begin <= event.time <= end]
    if len(steps) < 2:
        raise EngineError("the slice was too short for two steps", hint="--seconds makes it longer")
    return (steps[-1].tokens - steps[0].tokens) / (steps[-1].time - steps[0].time)


@dataclass
class _Seen:
    """Of a slice with the app: when it began, how late the event loop was, and what the screen's thread took."""

    begin: float = 0.0
    lags: list[float] = field(default_factory=list)
    processor_ms: float = 0.0


class Measurement:
    """One run and its slices.

    Args:
        seconds: What is measured of each slice.

    Attributes:
        screen_ms: Milliseconds of the processor that the screen's thread took in a second, for each slice with it.
    """

    def __init__(self, run: ThreadRun, seconds: float) -> None:
        self._run, self._seconds = run, seconds
        self._events: list[Event] = []
        self.screen_ms: list[float] = []

    def warm_up(self) -> None:
        """Waits until the run has settled.

        Raises:
            EngineError: It ended instead.
        """
        deadline = time.monotonic() + _WARM_SECONDS
        while not any(isinstance(event, Step) and event.step >= _WARM_STEPS for event in self._events):
            if not self._run.alive or time.monotonic() > deadline:
                raise self._run.error or EngineError("the run to measure did not begin")
            time.sleep(0.1)
            self._events += self._run.drain()

    def bare(self) -> float:
        """Tokens a second without a screen, as `engine train` runs."""
        sys.setswitchinterval(_PLAIN_INTERVAL)
        time.sleep(_SETTLE_BARE)
        begin = time.time()
        time.sleep(self._seconds)
        return self._speed(begin)

    def watched(self) -> float:
        """Tokens a second with the app's Train screen in front."""
        seen = self._with_app(probe=False)
        self.screen_ms.append(seen.processor_ms / self._seconds)
        return self._speed(seen.begin, seen.begin + self._seconds)

    def lags(self) -> list[float]:
        """Milliseconds by which the app's event loop is late, many times."""
        return self._with_app(probe=True).lags

    def _speed(self, begin: float, end: float | None = None) -> float:
        end = end or time.time()
        self._events = self._run.drain()
        return speed(self._events, begin, end)

    def _with_app(self, *, probe: bool) -> "_Seen":
        from textual.pilot import Pilot

        from minimind_tui.app import MinimindApp
        from minimind_tui.core.live import Live

        sys.setswitchinterval(SWITCH_INTERVAL)
        app, seen = MinimindApp(), _Seen()
        assert self._run.run is not None
        live = Live(RunHandle(self._run.run))  # with a tail of its own: the measurement hears all events too

        async def look(pilot: Pilot[object]) -> None:
            app.own = app.shown = live
            app.switch_mode("train")
            await asyncio.sleep(_SETTLE)
            seen.begin, used = time.time(), time.thread_time()
            if probe:
                seen.lags = await _late(self._seconds)
            else:
                await asyncio.sleep(self._seconds)
            seen.processor_ms = (time.thread_time() - used) * 1000
            app.exit()

        asyncio.run(app.run_async(auto_pilot=look))
        return seen

    def ratio(self, repeats: int) -> tuple[float, float, float]:
        """The median speed without a screen, the median of with over without, and half the spread of that."""
        bare, ratios = list[float](), list[float]()
        for turn in range(repeats):
            with_screen, without = (self.watched(), self.bare()) if turn % 2 else (self.bare(), self.watched())[::-1]
            bare.append(without)
            ratios.append(with_screen / without)
        return median(bare), median(ratios), (max(ratios) - min(ratios)) / 2


async def _late(seconds: float) -> list[float]:
    """By how many milliseconds a short sleep took longer than asked."""
    found, end = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        await asyncio.sleep(_PROBE_SECONDS)
        found.append((time.perf_counter() - began - _PROBE_SECONDS) * 1000)
    return found


def quantile(values: list[float], share: float) -> float:
    """The value that a share of all values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


@contextmanager
def busy_process() -> Iterator[None]:
    """Another process that keeps a core busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@click.command()
@click.argument("result", type=click.Path(path_type=Path))
@click.argument("seconds", type=float)
@click.argument("repeats", type=int)
@click.option("--busy", is_flag=True)
def command(result: Path, seconds: float, repeats: int, busy: bool) -> None:
    """Writes what was measured to RESULT as JSON."""
    from engine.session import TrainRequest

    run = ThreadRun(TrainRequest(_PROFILE, assignments=_SETTINGS, name="measured"))
    measurement = Measurement(run, seconds)
    measurement.warm_up()
    lags = measurement.lags()
    found = {f"lag_p{share}": quantile(lags, share / 100) for share in (50, 90, 99)}
    found["speed"], found["ratio"], found["ratio_spread"] = measurement.ratio(repeats)
    found["screen"] = median(measurement.screen_ms)
    if busy:
        with busy_process():
            found["busy_speed"], found["busy_ratio"], found["busy_ratio_spread"] = measurement.ratio(repeats)
    result.write_text(json.dumps(found), encoding="utf-8")
    run.interrupt()
    run.join()


if __name__ == "__main__":
    prepare()
    command()
