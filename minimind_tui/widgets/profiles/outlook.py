"""What a run of the profile would be: its size, its memory, its steps, its learning rate, its command."""

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from engine.clean import clean
from minimind_tui.core.figures import number, share
from minimind_tui.core.forms import Draft
from minimind_tui.core.sketch import Sketch
from minimind_tui.widgets.memory.gauge import MemoryGauge
from minimind_tui.widgets.profiles.rate_curve import RateCurve
from minimind_tui.widgets.states import MUTED
from minimind_tui.widgets.vim import VimScroll

_BAR = 8


class Outlook(VimScroll):
    """Parameters by part, memory, tokens a step, the learning rate, and the command that trains it."""

    HELP = (
        "What a run of these settings would be: the model's parameters by part, the memory that its largest step takes "
        "against what there is (t plans for another device, b shows what else fits), the tokens of an optimizer step, "
        "the learning rate over the run, and the command line that starts it; y copies that."
    )

    def compose(self) -> ComposeResult:
        yield Static("", id="size")
        yield MemoryGauge(id="memory")
        yield Static("", id="pace")
        yield RateCurve(id="rates")
        yield Static("", id="command")

    def on_mount(self) -> None:
        self.border_title = "Outlook"

    @property
    def memory(self) -> MemoryGauge:
        """The part about memory."""
        return self.query_one(MemoryGauge)

    def show_nothing(self) -> None:
        """Of a profile that cannot be read nothing is known."""
        for part in self.query("#outlook > Static").results(Static):
            part.update("")
        self.memory.show(None)
        self.memory.show_changes(None)
        self.query_one(RateCurve).display = False

    def show(self, draft: Draft, sketch: Sketch) -> None:
        """Shows what is known of a draft."""
        self.query_one("#size", Static).update(_size(draft, sketch))
        self.query_one("#pace", Static).update(_pace(draft, sketch))
        curve = self.query_one(RateCurve)
        curve.display = bool(sketch.rates)
        curve.show(sketch.rates)
        self.query_one("#command", Static).update(_command(draft))


def _size(draft: Draft, sketch: Sketch) -> Content:
    lines = [Content.assemble((draft.stage.title, "bold"), "  ", (draft.stage.purpose, MUTED))]
    if sketch.problem:
        lines.append(Content.styled(f"✗ {clean(sketch.problem)}", "$text-error"))
    elif sketch.parts:
        lines += _parts(sketch)
    if draft.inherited_from:
        start = clean(draft.inherited_from, newlines=False)
        lines.append(Content.styled(f"the shape is inherited from {start}", MUTED))
    if sketch.start_problem:
        lines.append(Content.styled(f"it is not known yet: {clean(sketch.start_problem)}", "$text-warning"))
    return Content("\n").join(lines)


def _parts(sketch: Sketch) -> list[Content]:
    """A line and a bar for each part of the model."""
    total, known = sum(sketch.parts.values()), sketch.vocabulary is not None
    lines = [
        Content(""),
        Content.assemble(
            (f"{number(total)} parameters", "bold"), (", all trained" if known else ", no embedding", MUTED)
        ),
    ]
    for name, count in sketch.parts.items():
        filled = round(_BAR * count / total)
        if count:
            bar = ("━" * filled, "$primary"), ("·" * (_BAR - filled), MUTED)
            lines.append(Content.assemble(f"{name:<10}", *bar, f" {share(count / total):>4} ", (number(count), MUTED)))
    if known:
        lines.append(Content.styled(f"vocabulary of {sketch.vocabulary:,} tokens", MUTED))
    elif not sketch.start_problem:
        lines.append(Content.styled(f"vocabulary not known: {clean(sketch.vocabulary_problem)}", "$text-warning"))
    return lines


def _pace(draft: Draft, sketch: Sketch) -> Content:
    if not sketch.batch:
        return Content("")
    passes = f" × {draft.value('accumulation_steps')} passes" if draft.value("accumulation_steps") != 1 else ""
    lines = [
        Content(""),
        Content.assemble((f"{sketch.tokens:,} tokens", "bold"), " a step at most"),
        Content.styled(f"{draft.value('batch_size')} rows{passes} × {draft.value('max_seq_len')} tokens", MUTED),
    ]
    if sketch.steps:
        total = sketch.tokens * sketch.steps
        lines.append(
            Content.assemble(
                (f"{sketch.steps:,} steps", "bold"), (f" × {number(sketch.tokens)} = {number(total)}", MUTED)
            )
        )
        lines += [Content(""), Content.styled("learning rate over the run", MUTED)]
    else:
        passes = draft.value("epochs")
        lines.append(Content(f"steps: {passes} pass{'es' if passes != 1 else ''} over the data"))
        lines += [Content(""), Content.styled(f"learning rate, if it were {sketch.drawn_steps:,} steps", MUTED)]
    return Content("\n").join(lines)


def _command(draft: Draft) -> Content:
    command = draft.command()
    if not command:
        return Content.assemble("\n", ("w saves it; then it has a command", MUTED))
    return Content.assemble("\n", ("y copies: ", MUTED), clean(command, newlines=False))
