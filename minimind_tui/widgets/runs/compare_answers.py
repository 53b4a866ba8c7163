"""What the models of several runs said to the same prompts, side by side."""

from collections.abc import Sequence

from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from engine.clean import clean
from engine.runs.events import Sampled
from minimind_tui.core.compare import Answers
from minimind_tui.widgets.panes import one_line
from minimind_tui.widgets.states import MUTED
from minimind_tui.widgets.vim import VimScroll

_MOST = 40
"""Prompts that are shown."""
_NARROW = 28
"""Columns narrower than this stand below each other."""


class CompareAnswers(VimScroll):
    """A block a prompt with each run's newest answer."""

    HELP = "The newest answer of each run to each prompt; prompts that several runs were given stand first."

    def on_mount(self) -> None:
        self.border_title = "Samples"
        self._shown: tuple[object, ...] | None = None

    async def show(self, names: Sequence[tuple[str, str]], answers: Sequence[Answers]) -> None:
        """Shows the prompts with their answers; nothing is made anew where nothing has changed."""
        beside = self.size.width // max(1, len(names)) >= _NARROW
        if (key := (tuple(names), tuple(answers), beside)) == self._shown:
            return
        self._shown = key
        await self.remove_children()
        if not answers:
            await self.mount(Static(Content.styled("none of these runs has said anything yet", MUTED)))
            return
        await self.mount_all(_block(each, names, Horizontal if beside else Vertical) for each in answers[:_MOST])


def _block(answers: Answers, names: Sequence[tuple[str, str]], box: type[Horizontal | Vertical]) -> Widget:
    between = "\n" if box is Horizontal else "  "
    said = [
        Static(_said(letter, sample, between), classes="answer")
        for (letter, _), sample in zip(names, answers.samples, strict=True)
    ]
    prompt = Static(Content.styled(one_line(answers.prompt), "bold"), classes="prompt")
    return Vertical(prompt, box(*said, classes="answers"), classes="block")


def _said(letter: str, sample: Sampled | None, between: str) -> Content:
    if sample is None:
        return Content.assemble((f"{letter} ", "$accent bold"), ("was not asked", MUTED))
    end = "" if sample.stop_reason == "stop" else " …"
    head = Content.assemble((f"{letter} ", "$accent bold"), (f"step {sample.step:,}", MUTED))
    return head + between + clean(sample.text.strip()) + end
