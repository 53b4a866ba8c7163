"""Memory ran out, or would: what happened, what takes how much, and what to change."""

from collections.abc import Iterator
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.events import Resize
from textual.screen import ModalScreen
from textual.widgets import Static

from engine.clean import clean
from minimind_tui.core.memory import Change
from minimind_tui.core.shortage import Shortage
from minimind_tui.widgets.memory.bars import legend, part_bars, plan_bar, verdict
from minimind_tui.widgets.memory.suggestions import Suggestions
from minimind_tui.widgets.states import MUTED
from minimind_tui.widgets.vim import VimScroll

_LABEL = 9


class ShortageDialog(ModalScreen[Change | bool | None]):
    """The answer is a change, True to go on without one, or None to leave everything as it is.

    Attributes:
        shortage: What it tells.
    """

    AUTO_FOCUS = "Suggestions"
    HELP = (
        "Memory did not suffice. Nothing that was saved is lost: a run goes on from its newest checkpoint, with the "
        "change that you choose and, where that is said, with the same effective batch; what was changed shows "
        "“adjusted after OOM” as its origin. Changes that a run which has begun to learn cannot go on with are dimmed."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "go_on", "Start all the same", tooltip="Without a change, although it may not fit",
                id="shortage.go_on"),
        Binding("escape,q", "dismiss", "Leave it", id="shortage.leave"),
    ]  # fmt: skip

    def __init__(self, shortage: Shortage) -> None:
        super().__init__()
        self.shortage = shortage

    def compose(self) -> ComposeResult:
        shortage = self.shortage
        name = clean(shortage.name, newlines=False)
        with Vertical(classes="dialog -error") as dialog:
            happened = "is not expected to fit" if shortage.predicted else "ran out of memory"
            dialog.border_title = Content(f"{name} {happened}")
            begins = "begins with it" if shortage.predicted and shortage.saved is None else "goes on with it"
            dialog.border_subtitle = f"enter {begins} · s all the same · escape leaves it"
            with VimScroll(id="story"):
                yield Static("")
            yield Static("", id="choose")
            yield Suggestions()

    def on_mount(self) -> None:
        shortage, choose = self.shortage, self.query_one("#choose", Static)
        changes = shortage.plan.changes if shortage.plan else ()
        self.query_one(Suggestions).show(changes, shortage.barred)
        self.query_one(Suggestions).display = bool(changes)
        said = "What would help:" if changes else "No change of settings is known to help."
        choose.update(Content.styled(said, "bold"))

    def on_resize(self, event: Resize) -> None:
        self.call_after_refresh(self._tell)

    def _tell(self) -> None:
        story = self.query_one("#story", VimScroll)
        width = story.scrollable_content_region.width
        lines = _lines(self.shortage, width, roomy=self.has_class("-tall"))
        story.query_one(Static).update(Content("\n").join(lines))

    @on(Suggestions.Chosen)
    def _chosen(self, event: Suggestions.Chosen) -> None:
        self.dismiss(event.change)

    def action_go_on(self) -> None:
        """Without a change."""
        self.dismiss(True)


def _lines(shortage: Shortage, width: int, *, roomy: bool) -> Iterator[Content]:
    yield Content.styled(clean(shortage.what, newlines=False), "bold")
    if shortage.detail:
        yield Content(clean(shortage.detail, newlines=False))
    width_of_label = _LABEL if roomy else 0
    facts = [
        Content.assemble((f"{label:<{width_of_label}} ", MUTED), clean(text, newlines=False))
        for label, text in shortage.facts
    ]
    if facts:
        yield Content("\n" if roomy else " · ").join(facts)
    plan = shortage.plan
    if plan is None:
        return
    yield plan_bar(plan, width)
    yield verdict(plan)
    yield from part_bars(plan, width)
    yield legend()
