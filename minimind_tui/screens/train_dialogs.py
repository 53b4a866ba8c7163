"""Small dialogs of the Train screen: the log interval, stopping at once, runs to compare with, the log file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, OptionList, Static
from textual.widgets.option_list import Option

from engine.clean import clean
from engine.runs.folder import RunFolder
from engine.runs.summary import RunSummary
from minimind_tui.core.charts import LETTERS
from minimind_tui.core.run_list import best_text
from minimind_tui.core.runlog import log_tail
from minimind_tui.widgets.states import MUTED
from minimind_tui.widgets.vim import BETWEEN_BUTTONS, VimScroll

if TYPE_CHECKING:
    from minimind_tui.app import MinimindApp


class LogIntervalDialog(ModalScreen[int | None]):
    """Asks how many steps lie between two reports."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Cancel", id="dialog.cancel")]

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -small") as dialog:
            dialog.border_title, dialog.border_subtitle = "Log interval", "enter applies · escape cancels"
            yield Static("Steps between two reports of the run, 1 or more:", classes="paragraph")
            yield Input(type="integer", max_length=7, compact=True)
            yield Static("", id="problem")

    @on(Input.Submitted)
    def _apply(self, event: Input.Submitted) -> None:
        if event.value.isdigit() and int(event.value) >= 1:
            self.dismiss(int(event.value))
        else:
            self.query_one("#problem", Static).update(Content.styled("a whole number, 1 or more", "$text-error"))


class StopNowDialog(ModalScreen[bool]):
    """Asks whether a run is to end without waiting for its step."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *BETWEEN_BUTTONS,
        Binding("S,y", "answer(True)", "Stop now", id="dialog.stop_now"),
        Binding("escape,c,q,n", "answer(False)", "Cancel", id="dialog.cancel"),
    ]

    def __init__(self, name: str) -> None:
        super().__init__()
        self._run_name = name

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "Stop now"
            yield Static(Content(f"Stop {clean(self._run_name, newlines=False)} without waiting for its step?"))
            yield Static(
                "What is being computed is given up; the last finished step is saved. Stop & save waits for the step.",
                classes="paragraph",
            )
            with Horizontal(classes="buttons"):
                yield Button("(S) Stop now", id="stop", variant="warning", compact=True)
                yield Button("(c) Cancel", id="cancel", compact=True)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "stop")

    def action_answer(self, answer: bool) -> None:
        """Ends the dialog."""
        self.dismiss(answer)


class RunChoice(OptionList):
    """Runs to choose from; enter is done with choosing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "select", "Choose", id="compare.choose"),
        Binding("enter", "screen.apply", "Show them", id="list.open"),
        Binding("j", "cursor_down", "Down", show=False, id="list.down"),
        Binding("k", "cursor_up", "Up", show=False, id="list.up"),
        Binding("g", "first", "First", show=False, id="list.first"),
        Binding("G", "last", "Last", show=False, id="list.last"),
    ]


class CompareDialog(ModalScreen[list[RunFolder] | None]):
    """Which runs' curves are drawn beside the shown one's.

    Args:
        shown: The run on the screen; it is not offered.
        chosen: What is drawn already.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "clear", "None", id="compare.none"),
        Binding("escape,o,q", "dismiss", "Cancel", id="dialog.cancel"),
    ]

    def __init__(self, shown: RunFolder | None, chosen: Sequence[RunFolder]) -> None:
        super().__init__()
        self._shown_run, self._chosen = shown, list(chosen)
        self._runs: list[RunSummary] = []

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -compare") as dialog:
            dialog.border_title = "Compare with"
            dialog.border_subtitle = "space chooses · enter shows them · c none · escape cancels"
            yield RunChoice()
            yield Static(Content.styled("reading the runs …", MUTED), id="problem")

    def on_mount(self) -> None:
        self._read()

    @work(thread=True, exit_on_error=False)
    def _read(self) -> None:
        self.app.call_from_thread(self._offer, cast("MinimindApp", self.app).library.runs())

    def _offer(self, runs: list[RunSummary]) -> None:
        stage = next((run.stage for run in runs if run.run == self._shown_run), "")
        self._runs = [run for run in runs if run.run != self._shown_run and run.step > 1]
        self._runs.sort(key=lambda run: run.stage != stage)
        self._chosen = [run.run for run in self._runs if run.run in self._chosen]
        choice = self.query_one(RunChoice)
        choice.add_options([Option(self._label(run)) for run in self._runs])
        choice.highlighted = 0 if self._runs else None
        choice.focus()
        self._say("" if self._runs else "there is no other run with curves yet")

    def _label(self, run: RunSummary) -> Content:
        sign = "[x] " if run.run in self._chosen else "[ ] "
        name = clean(run.name, newlines=False)
        return Content.assemble(sign, name, (f"  {run.stage} · {run.state} · {best_text(run)}", MUTED))

    @on(OptionList.OptionSelected)
    def _toggle(self, event: OptionList.OptionSelected) -> None:
        run = self._runs[event.option_index]
        if run.run in self._chosen:
            self._chosen.remove(run.run)
        elif len(self._chosen) == len(LETTERS):
            self._say(f"{len(LETTERS)} at most: more cannot be told apart")
        else:
            self._chosen.append(run.run)
        event.option_list.replace_option_prompt_at_index(event.option_index, self._label(run))

    def _say(self, text: str) -> None:
        self.query_one("#problem", Static).update(Content.styled(text, MUTED))

    def action_apply(self) -> None:
        """Draws the chosen ones."""
        self.dismiss(self._chosen)

    def action_clear(self) -> None:
        """Draws the shown run alone."""
        self.dismiss([])


class LogFileDialog(ModalScreen[None]):
    """The end of a run's log file."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,f", "dismiss", "Close", id="dialog.close"),
        Binding("r", "read", "Read again", id="log.read"),
    ]

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -log") as dialog:
            dialog.border_title = Content(clean(str(self._path), newlines=False))
            dialog.border_subtitle = "r reads it again · escape closes"
            with VimScroll():
                yield Static("")

    def on_mount(self) -> None:
        self.query_one(VimScroll).focus()
        self.action_read()

    @work(thread=True, exclusive=True, exit_on_error=False)
    def action_read(self) -> None:
        """Reads the file in a thread and shows its end."""
        try:
            text = log_tail(self._path)
        except OSError as error:
            text = clean(f"it cannot be read: {error}")
        self.app.call_from_thread(self._show, text)

    def _show(self, text: str) -> None:
        scroll = self.query_one(VimScroll)
        scroll.query_one(Static).update(Content(text.rstrip() or "it is empty"))
        scroll.call_after_refresh(scroll.scroll_end, animate=False)
