"""The pane that says everything about one run."""

from collections.abc import Iterator

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from engine.clean import clean
from engine.runs.events import Sampled
from minimind_tui.core.run_details import USER, RunDetails
from minimind_tui.core.run_list import age, best_text, steps_text
from minimind_tui.widgets.panes import one_line
from minimind_tui.widgets.states import MUTED, content_style, mark
from minimind_tui.widgets.vim import VimScroll

_LABEL = 11


class DetailsPane(VimScroll):
    """How a run stands, what it was made of, which settings were its own, and what its model said last."""

    HELP = (
        "Everything about the run under the cursor: why it ended, from which checkpoint it was started and what was "
        "started from it, its data, and the settings that neither the program nor the profile gave, by their origin."
    )

    def compose(self) -> ComposeResult:
        yield Static("", id="details-text")

    def on_mount(self) -> None:
        self.border_title = "Run"
        self._shown: RunDetails | None = None

    def show(self, details: RunDetails | None) -> None:
        """Shows a run; another run begins at the top."""
        if details == self._shown and details is not None:
            return
        before, self._shown = self._shown, details
        self.border_title = Content(clean(details.summary.name, newlines=False)) if details else "Run"
        self.query_one(Static).update(Content("\n").join(_lines(details)) if details else "")
        if before is None or details is None or before.summary.run != details.summary.run:
            self.scroll_home(animate=False)


def _lines(details: RunDetails) -> Iterator[Content]:
    summary = details.summary
    style = content_style(summary.state)
    stands = [
        f"step {steps_text(summary)}",
        best_text(summary) if summary.metric else "",
        f"began {_ago(summary.began)}",
    ]
    stands += [f"last word {_ago(summary.said)}"] if age(summary.said) != age(summary.began) else []
    yield Content.assemble((f"{mark(summary.state)} {clean(summary.state, newlines=False)}", style),
                           *(f" · {part}" for part in stands if part))  # fmt: skip
    if details.plight:
        yield Content.styled(clean(details.plight), "$text-error" if summary.state == "failed" else "")
    own = [group for group in details.changed if group[0] == USER]
    yield from map(_settings, own)
    for label, text in details.facts:
        yield Content.assemble((f"{label:<{_LABEL}}", MUTED), clean(text, newlines=False))
    yield from map(_settings, details.changed[len(own) :])
    if details.samples:
        yield Content.styled(f"said at step {details.samples[-1].step:,}", MUTED)
    for sample in details.samples:
        yield _sample(sample)


def _settings(group: tuple[str, tuple[tuple[str, str], ...]]) -> Content:
    origin, values = group
    head = f"{'set by you' if origin == USER else clean(origin, newlines=False):<{_LABEL}}"
    said = ", ".join(f"{name} {value}" for name, value in values)
    return Content.assemble((head + " " * (len(head) > _LABEL), MUTED), clean(said, newlines=False))


def _ago(then: float) -> str:
    word = age(then)
    return "just now" if word == "now" else f"{word} ago"


def _sample(sample: Sampled) -> Content:
    end = "" if sample.stop_reason == "stop" else " …"
    return Content.assemble((f"  {one_line(sample.prompt)} ", MUTED), "→ ", one_line(sample.text) + end)
