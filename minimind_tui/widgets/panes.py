"""The log and the samples of a run."""

import re
import time
from collections.abc import Sequence
from itertools import groupby

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from engine.clean import clean
from engine.runs.events import Sampled
from minimind_tui.core.history import ERROR, WARNING, Line, RunHistory
from minimind_tui.widgets.states import MUTED
from minimind_tui.widgets.vim import FollowScroll, VimScroll

_LINES, _SAMPLES, _SAMPLE_LENGTH = 300, 60, 400
_STYLES = {WARNING: "$warning", ERROR: "$error"}
_CONTROL_TAG = re.compile(r"<\|[^|<>\s]{1,40}\|>")


class LogPane(FollowScroll):
    """What happened, the newest at the bottom; it follows until it is scrolled up, and again at the end."""

    def compose(self) -> ComposeResult:
        yield Static("", id="log-text")

    def on_mount(self) -> None:
        self.border_title = "Log"
        self._shown: tuple[object, ...] = ()

    def show(self, history: RunHistory) -> None:
        """Shows a run's log."""
        key = (id(history), len(history.log))
        if key == self._shown:
            return
        self._shown = key
        self.query_one(Static).update(Content("\n").join(map(_line, history.log[-_LINES:])))
        self.follow()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self.border_subtitle = "" if self.following else "held: G follows again"


def _line(line: Line) -> Content:
    clock = time.strftime("%H:%M:%S ", time.localtime(line.time))
    return Content.assemble((clock, MUTED), (line.text, _STYLES.get(line.level, "")))


class SamplesPane(VimScroll):
    """What the model says to the same prompts as it learns, the newest first."""

    def compose(self) -> ComposeResult:
        yield Static("", id="samples-text")

    def on_mount(self) -> None:
        self.border_title = "Samples"
        self._shown: tuple[object, ...] = ()

    def show(self, history: RunHistory) -> None:
        """Shows a run's samples."""
        newest = history.samples[-1] if history.samples else None
        key = (id(history), len(history.samples), newest)
        if key == self._shown:
            return
        self._shown = key
        self.query_one(Static).update(_samples(history.samples[-_SAMPLES:]))


def _samples(samples: Sequence[Sampled]) -> Content:
    if not samples:
        return Content.styled("none yet: they come with each evaluation (e: evaluate now)", MUTED)
    parts: list[Content] = []
    for step, group in groupby(reversed(samples), key=lambda sample: sample.step):
        parts.append(Content.styled(f"step {step:,}", "$accent bold"))
        for sample in reversed(list(group)):
            end = "" if sample.stop_reason == "stop" else " …"
            parts.append(Content.assemble((f"{one_line(sample.prompt)} ", MUTED), "→ ", one_line(sample.text) + end))
    return Content("\n").join(parts)


def one_line(text: str) -> str:
    """A text in one line, cleaned, its control tags left out, its beginning only."""
    plain = " ".join(_CONTROL_TAG.sub(" ", text).split())
    return clean(plain if len(plain) <= _SAMPLE_LENGTH else plain[:_SAMPLE_LENGTH] + "…", newlines=False)
