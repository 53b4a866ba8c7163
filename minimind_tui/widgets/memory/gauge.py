"""How much memory a run would take, against what there is, and what would help."""

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from engine.clean import clean
from minimind_tui.core.memory import Memory
from minimind_tui.widgets.memory.bars import part_bars, plan_bar, verdict
from minimind_tui.widgets.memory.suggestions import Suggestions
from minimind_tui.widgets.states import MUTED

_NARROWEST = 26
_OTHER = "  t: other"


class MemoryGauge(Vertical):
    """The plan of what is being edited; it moves with every keystroke, the changes below follow after a pause."""

    DEFAULT_CSS = "MemoryGauge { height: auto; & > Static { height: auto; } }"

    def compose(self) -> ComposeResult:
        yield Static("", id="gauge")
        yield Static("", id="would-help")
        yield Suggestions(short=True, id="suggestions")
        yield Static("", id="assumed")

    def on_mount(self) -> None:
        self._shown: tuple[Memory | None, str, str] = (None, "", "")
        self.query_one("#would-help").display = False

    def on_resize(self) -> None:
        self._paint()

    def show(self, plan: Memory | None, problem: str = "", device: str = "") -> None:
        """Shows a plan, or why there is none; `device` is what it was asked for."""
        self._shown = plan, problem, device
        self._paint()

    def show_changes(self, plan: Memory | None) -> None:
        """Shows the changes that would help."""
        changes, heading = plan.changes if plan else (), self.query_one("#would-help", Static)
        head = "what saves memory" if plan is not None and plan.fits else "what would help"
        heading.update(Content.assemble("\n", (head, "bold"), ("  F: choose", MUTED)))
        heading.display = bool(changes)
        self.query_one(Suggestions).show(changes)

    def _paint(self) -> None:
        plan, problem, device = self._shown
        gauge = self.query_one("#gauge", Static)
        gauge.display = plan is not None or bool(problem)
        if plan is None:
            why = f"\nno plan of its memory: {clean(problem)}"
            said = Content.assemble((why, "$text-warning"), (_OTHER, MUTED))
        else:
            said = Content("\n").join(_lines(plan, device, max(_NARROWEST, self.size.width)))
        gauge.update(said)
        self.query_one("#assumed", Static).update(Content("\n").join(_notes(plan) if plan else ()))


def _lines(plan: Memory, device: str, width: int) -> list[Content]:
    place = clean(device or plan.device, newlines=False)
    lines = [
        Content(""),
        Content.assemble(("memory ", "bold"), f"on {place}", (_OTHER, MUTED)),
        plan_bar(plan, width),
        verdict(plan),
        Content.styled(plan.range, MUTED),
        *part_bars(plan, width),
    ]
    if plan.tight:
        lines.append(Content.styled("memory is given out closely: a step takes about a third longer", MUTED))
    lines += [Content.styled(plan.room, MUTED)]  # empty at first: its line stays, so that nothing moves below
    lines += [Content.styled(plan.pace, MUTED)] if plan.pace else []
    return lines


def _notes(plan: Memory) -> list[Content]:
    """What the plan rests on."""
    notes = [] if plan.verified else ["an estimate: no run on such a device has checked it yet"]
    return [Content(""), *(Content.styled(f"· {clean(note)}", MUTED) for note in (*notes, *plan.notes))]


def gauge_line(plan: Memory | None, width: int) -> Content:
    """The plan in one line, for where there is no room beside the form."""
    if plan is None:
        return Content("")
    said = verdict(plan)
    room = width - said.cell_length - 9
    bar = (" ", plan_bar(plan, min(room, 40))) if room >= 8 else ()
    return Content.assemble(("memory", MUTED), *bar, "  ", said)
