"""Measures the app on this machine: `engine bench tui`, or `python -m minimind_tui.measure`.

The app runs on pseudo-terminals of 120×40 that are read as a terminal reads them, not headless: what it costs to write
the screen is in the figures. Times are medians; speeds are ratios of neighbouring slices of one run.
"""

import asyncio
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import click

from engine.cli.show import number, print_json, print_table, say
from engine.errors import EngineError
from engine.process import cores, prepare

if TYPE_CHECKING:
    from minimind_tui.core.series import Series

SIZE = (120, 40)
TOKENS, POINTS = 8_192, 100_000
_START_LIMIT, _RUN_LIMIT = 60.0, 600.0
_REPAINTS = 20


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        name: Stable, for programs.
        what: For people.
        target: What it should be at most, or at least where `at_least`; None where there is no target.
    """

    name: str
    what: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the target is met."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target


@contextmanager
def terminal(arguments: list[str], home: Path) -> Iterator[tuple[int, int]]:
    """A Python program on a pseudo-terminal; gives its process and the terminal's end."""
    size = struct.pack("HHHH", SIZE[1], SIZE[0], 0, 0)
    environment = {**os.environ, "MINIMIND_HOME": str(home), "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    for name in ("COLUMNS", "LINES", "NO_COLOR", "TMUX"):
        environment.pop(name, None)
    process, end = pty.fork()
    if process == 0:
        with suppress(OSError):
            fcntl.ioctl(1, termios.TIOCSWINSZ, size)
            os.execve(sys.executable, [sys.executable, *arguments], environment)
        os._exit(127)
    try:
        yield process, end
    finally:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(end)


def read(end: int, enough: Callable[[bytes], bool], seconds: float) -> bytes:
    """Reads a terminal until it has shown enough, or its program has ended, or time is over."""
    shown, deadline = b"", time.monotonic() + seconds
    while not enough(shown) and (left := deadline - time.monotonic()) > 0:
        if not select.select([end], [], [], left)[0]:
            break
        try:
            part = os.read(end, 65_536)
        except OSError:  # the program has ended
            break
        if not part:
            break
        shown = (shown + part)[-200_000:]
    return shown


def first_frame(repeats: int, home: Path) -> float:
    """Seconds from the start of the process until the areas stand on the terminal.

    Raises:
        EngineError: They never did.
    """
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        with terminal(["-m", "minimind_tui"], home) as (_, end):
            shown = read(end, _has_frame, _START_LIMIT)
            times.append(time.perf_counter() - began)
        if not _has_frame(shown):
            raise EngineError("the app has not shown its first frame", where=repr(shown[-200:]))
    return median(times)


def _has_frame(shown: bytes) -> bool:
    """Whether the last of the areas' names stands on the alternate screen."""
    return b"Chat" in shown.partition(b"\x1b[?1049h")[2]


def painting(repeats: int) -> dict[str, float]:
    """Milliseconds of the processor for painting widgets of the whole screen."""
    return asyncio.run(_painting(repeats))


async def _painting(repeats: int) -> dict[str, float]:
    from textual.app import App, ComposeResult

    from minimind_tui.core.tokens import TokenSheet
    from minimind_tui.widgets.curve import Curve
    from minimind_tui.widgets.token_view import TokenView

    class Widgets(App[None]):
        CSS = "TokenView, Curve { width: 120; height: 40; }"

        def compose(self) -> ComposeResult:
            yield TokenView()
            yield Curve()

    words = [" the", " 你好", "hel", "lo", "\n", " 😀", " world", ".", "<|im_end|>", " 3"]
    texts = [words[(place * 7 + place // 5) % len(words)] for place in range(TOKENS)]
    roles = [("user", "assistant")[place // 40 % 2] for place in range(TOKENS)]
    sheet = TokenSheet(
        texts, roles, [float(role == "assistant") for role in roles], [text.startswith("<|") for text in texts]
    )
    both = cycle([_noisy(POINTS), _noisy(POINTS)])  # in turn: a curve that is shown already is not drawn again
    figures: dict[str, float] = {}
    app = Widgets()
    async with app.run_test(size=SIZE) as pilot:
        tokens, curve = app.query_one(TokenView), app.query_one(Curve)

        def paint_tokens() -> None:
            tokens.show(sheet)
            tokens.render_lines(tokens.size.region)

        def scroll_tokens() -> None:
            tokens.scroll_to(y=(tokens.scroll_offset.y + 30) % 400, animate=False, force=True)
            tokens.render_lines(tokens.size.region)

        def redraw_curve() -> None:
            curve.show("loss", "", [next(both)])
            curve.render_lines(curve.size.region)

        for name, work in (("token_paint", paint_tokens), ("token_scroll", scroll_tokens), ("curve", redraw_curve)):
            work()
            await pilot.pause()
            figures[name] = median(_processor_ms(work) for _ in range(repeats))
    return figures


def _noisy(points: int) -> "Series":
    """A falling curve with noise."""
    from minimind_tui.core.series import Series

    series = Series()
    for step in range(points):
        series.append(step, 3 + (step * 2_654_435_761 % 1000) / 1000 - step / points)
    return series


def _processor_ms(work: Callable[[], None]) -> float:
    began = time.thread_time()
    work()
    return (time.thread_time() - began) * 1000


def beside_a_run(home: Path, *, seconds: float, repeats: int, busy: bool) -> dict[str, float]:
    """Lag of the app, and what its screen costs a run, both from one run in a thread, on a pseudo-terminal.

    Raises:
        EngineError: The measurement has failed.
    """
    result = home / "measured.json"
    arguments = ["-m", "minimind_tui.measure_run", str(result), str(seconds), str(repeats), *["--busy"] * busy]
    with terminal(arguments, home) as (_, end):
        shown = read(end, lambda shown: False, _RUN_LIMIT + 4 * repeats * (seconds + 5))
    try:
        found: dict[str, float] = json.loads(result.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError("the run beside the screen could not be measured", where=repr(shown[-600:])) from error
    return found


def prepare_starter(home: Path) -> None:
    """The starter world and its tokenizer, which the measured run needs."""
    environment = {**os.environ, "MINIMIND_HOME": str(home)}
    arguments = [sys.executable, "-m", "engine", "train", "starter/tokenizer"]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise EngineError("the starter tokenizer could not be trained", where=done.stderr[-600:])


def measure(*, repeats: int, seconds: float, busy: bool) -> list[Figure]:
    """Everything, in the order of the table."""
    with tempfile.TemporaryDirectory(prefix="minimind-measure-") as folder:
        home = Path(folder)
        say(f"first frame, {repeats} starts …")
        first_frame(1, home)  # compiled files and the disk's cache
        frame = first_frame(repeats, home)
        say("painting …")
        painted = painting(_REPAINTS)
        say(f"a run beside the screen, {repeats} pairs of {seconds:g} s{', then beside a busy process' * busy} …")
        prepare_starter(home)
        run = beside_a_run(home, seconds=seconds, repeats=repeats, busy=busy)
    figures = [
        Figure("first_frame", "first frame, from the start of the process", frame, "s", 0.8),
        Figure("token_paint", f"token view, {TOKENS:,} tokens: show and paint", painted["token_paint"], "CPU ms", 25),
        Figure("token_scroll", f"token view, {TOKENS:,} tokens: scroll and paint", painted["token_scroll"], "CPU ms"),
        Figure("curve", f"curve, {POINTS:,} points: draw and paint", painted["curve"], "CPU ms", 25),
        Figure("lag_p50", "event loop beside a run, lag, median", run["lag_p50"], "ms"),
        Figure("lag_p90", "event loop beside a run, lag, 90 %", run["lag_p90"], "ms"),
        Figure("lag_p99", "event loop beside a run, lag, 99 %", run["lag_p99"], "ms", 50),
        Figure("screen", "the screen's thread beside a run", run["screen"], "CPU ms/s"),
        Figure("speed", "the run without a screen", run["speed"], "tokens/s"),
        Figure("ratio", "the run's speed with the screen, over without", run["ratio"], "", 0.97, True),
        Figure("ratio_spread", "half the spread of that ratio over the pairs", run["ratio_spread"], ""),
    ]
    if busy:
        figures += [
            Figure("busy_speed", "beside a busy process: without a screen", run["busy_speed"], "tokens/s"),
            Figure("busy_ratio", "beside a busy process: with over without", run["busy_ratio"], "", 0.97, True),
            Figure("busy_ratio_spread", "half the spread of that ratio", run["busy_ratio_spread"], ""),
        ]
    return figures


@click.command()
@click.option("--repeats", type=click.IntRange(min=1), default=5, help="Starts, and pairs of slices.")
@click.option("--seconds", type=click.FloatRange(min=1), default=6.0, help="Seconds a slice.")
@click.option("--busy", is_flag=True, help="Also beside another busy process.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def command(repeats: int, seconds: float, busy: bool, as_json: bool) -> None:
    """Measures the app."""
    load = os.getloadavg()[0]
    try:
        figures = measure(repeats=repeats, seconds=seconds, busy=busy)
    except EngineError as error:
        say(f"engine: {error}")
        sys.exit(error.exit_code)
    if as_json:
        found = {figure.name: {**asdict(figure), "met": figure.met} for figure in figures}
        print_json({"cores": cores(), "load_before": load, "size": SIZE, "figures": found})
        return
    print(f"{cores()} cores, load before {load:.1f}, terminal {SIZE[0]}×{SIZE[1]}")
    rows = [
        (one.what, f"{number(one.value, 3)} {one.unit}".rstrip(), _target(one), _verdict(one.met)) for one in figures
    ]
    print_table(("measured", "value", "target", ""), rows)


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    return f"{'≥' if figure.at_least else '≤'} {figure.target:g} {figure.unit}".rstrip()


def _verdict(met: bool | None) -> str:
    return "" if met is None else "met" if met else "missed"


if __name__ == "__main__":
    prepare()
    command()
