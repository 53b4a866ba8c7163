"""The log and the samples of a run."""

import re
import time
from collections.abc import Iterator

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from engine.clean import clean
from engine.runs.events import Sampled
from minimind_tui.core.history import ERROR, INFO, LEVELS, WARNING, Line, RunHistory
from minimind_tui.core.samples import SampleBook
from minimind_tui.widgets.states import MUTED
from minimind_tui.widgets.vim import FollowScroll, VimScroll

_LINES, _SAMPLE_LENGTH = 300, 400
_STYLES = {WARNING: "$warning", ERROR: "$error"}
_SIGNS = {INFO: "  ", WARNING: "▲ ", ERROR: "✗ "}
_SHOWN = {INFO: "all", WARNING: "warnings and errors", ERROR: "errors"}
_CONTROL_TAG = re.compile(r"<\|[^|<>\s]{1,40}\|>(?:(?:system|user|assistant|tool)\n)?")


class LogPane(FollowScroll):
    """What happened, the newest at the bottom; it follows until it is scrolled up, and again at the end."""

    HELP = (
        "What the run said, the newest at the bottom. It follows until you scroll up, and again from its end (G). "
        "L shows all lines, warnings and errors, or errors only; f opens the run's whole log file."
    )

    def compose(self) -> ComposeResult:
        yield Static("", id="log-text")

    def on_mount(self) -> None:
        self._shown: tuple[object, ...] = ()
        self.level = INFO

    def next_level(self) -> None:
        """From now on the next more serious lines only, or all again."""
        self.level = LEVELS[(LEVELS.index(self.level) + 1) % len(LEVELS)]

    def show(self, history: RunHistory) -> None:
        """Shows a run's log."""
        key = (history, len(history.log), self.level)
        if key == self._shown:
            return
        self._shown = key
        self.border_title = "Log" if self.level == INFO else f"Log: {_SHOWN[self.level]}"
        least = LEVELS.index(self.level)
        lines = [line for line in history.log if LEVELS.index(line.level) >= least][-_LINES:]
        nothing = Content.styled("nothing of this kind" if history.log else "nothing yet", MUTED)
        self.query_one(Static).update(Content("\n").join(map(_line, lines)) if lines else nothing)
        self.follow()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self.border_subtitle = "" if self.following else "held: G follows again"


def _line(line: Line) -> Content:
    clock = time.strftime("%H:%M:%S ", time.localtime(line.time))
    return Content.assemble((clock, MUTED), (_SIGNS[line.level] + line.text, _STYLES.get(line.level, "")))


class SamplesPane(VimScroll):
    """What the model says to the same prompts as it learns: all prompts at a step, or one prompt in full."""

    HELP = (
        "What the model says to the same prompts as it learns. Comma and full stop lead to earlier and later steps; "
        "the newest is followed until then. [ and ] choose one prompt, to read its answers in full, or all prompts."
    )

    def compose(self) -> ComposeResult:
        yield Static("", id="samples-text")

    def on_mount(self) -> None:
        self.border_title = "Samples"
        self._shown: tuple[object, ...] = ()
        self._book = SampleBook()
        self.prompt: int | None = None
        self.step: int | None = None

    def walk(self, by: int) -> None:
        """Goes to a later step, or an earlier one; beyond the last the newest is followed."""
        self.step = self._book.beside(self.step, self.prompt, by)
        self._paint()

    def choose(self, by: int) -> None:
        """Goes to the next prompt, or the one before; before the first and after the last stand all of them."""
        places = [None, *range(len(self._book.prompts))]
        self.prompt = places[(places.index(self.prompt) + by) % len(places)]
        self._paint()

    def show(self, history: RunHistory) -> None:
        """Shows a run's samples."""
        newest = history.samples[-1] if history.samples else None
        if (key := (history, len(history.samples), newest)) == self._shown:
            return
        if self._shown[:1] != (history,):
            self.prompt = self.step = None
        self._shown, self._book = key, SampleBook(history.samples)
        self._paint()

    def _paint(self) -> None:
        steps = self._book.steps_of(self.prompt)
        step = self.step if self.step in steps else steps[-1] if steps else None
        if step is None:
            self.border_title, self.border_subtitle = "Samples", ""
            text = "none yet: they come with each evaluation (e: evaluate now)"
            self.query_one(Static).update(Content.styled(text, MUTED))
            return
        place = "" if len(steps) == 1 else f" · {steps.index(step) + 1} of {len(steps)}"
        which = "" if self.prompt is None else f" · prompt {self.prompt + 1} of {len(self._book.prompts)}"
        self.border_title = Content(f"Samples · step {step:,}{place}{which}")
        self.border_subtitle = Content("" if len(steps) == 1 else ", . steps  [ ] prompts")
        said = self._book.at(step, self.prompt)
        parts = map(_short, said) if self.prompt is None else [part for one in said for part in _full(one)]
        self.query_one(Static).update(Content("\n").join(parts))


def _short(sample: Sampled) -> Content:
    return Content.assemble((f"{one_line(sample.prompt)} ", MUTED), "→ ", one_line(sample.text) + _end(sample))


def _full(sample: Sampled) -> Iterator[Content]:
    yield Content.styled(clean(_CONTROL_TAG.sub("", sample.prompt).strip()), MUTED)
    yield Content.assemble("→ ", clean(sample.text) + _end(sample))


def _end(sample: Sampled) -> str:
    """An answer that was cut shows it."""
    return "" if sample.stop_reason == "stop" else " …"


def one_line(text: str) -> str:
    """A text in one line, cleaned, its control tags left out, its beginning only."""
    plain = " ".join(_CONTROL_TAG.sub(" ", text).split())
    return clean(plain if len(plain) <= _SAMPLE_LENGTH else plain[:_SAMPLE_LENGTH] + "…", newlines=False)
