"""Chat: talk with any checkpoint while runs go on."""

from collections.abc import Iterator
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input, Label, Select, Static

from engine.clean import clean
from engine.errors import EngineError
from engine.runs.folder import find_run
from minimind_tui.core.library import Library, RunSummary, stage_of
from minimind_tui.screens.area import Area
from minimind_tui.core.talk import Answer, Partners, Question, Turn
from minimind_tui.widgets.turn_view import TurnView
from minimind_tui.widgets.vim import FollowScroll

_DRAIN_SECONDS = 0.1
_STOPS = {"stop": "ended by itself", "length": "cut at max tokens", "context": "context is full"}
_NOTHING = "no checkpoint yet"
STOPPED = "[stopped]"


class ChatScreen(Area):
    """A conversation with a checkpoint."""

    MODE = "chat"
    AUTO_FOCUS = "#prompt"
    HELP_TEXT = (
        "Choose a checkpoint above, type below. A pretrained checkpoint continues your text; one that was trained on "
        "conversations answers. Escape stops an answer and keeps what was said; a second escape leaves the input, so "
        "that 1, 2 and 3 switch the areas."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop/leave", tooltip="Stop the answer, or leave the input", id="chat.stop"),
        Binding("ctrl+n", "new", "New chat", tooltip="Forget the conversation (also /new)", id="chat.new"),
        Binding("ctrl+o", "choose", "Checkpoint", tooltip="Choose the checkpoint", id="chat.choose"),
        Binding("ctrl+t", "settings", "Sampling", tooltip="Temperature and length", id="chat.settings"),
        Binding("f1", "app.keys", "Keys", tooltip="All keys of this screen", id="chat.help"),
        Binding("question_mark", "app.keys", show=False),
        Binding("i", "type", "Type", show=False, id="chat.type"),
    ]

    def compose_body(self) -> Iterator[Widget]:
        with Horizontal(id="sampling"):
            yield Select[str]([], prompt=_NOTHING, id="checkpoint", compact=True)
            yield Label("temperature")
            yield Input(format(self.mini.state.get("chat.temperature", 0.7), "g"), id="temperature", type="number", compact=True)
            yield Label("max tokens")
            yield Input(str(self.mini.state.get("chat.max_new_tokens", 256)), id="max-tokens", type="integer", compact=True)
        with FollowScroll(id="talk"):
            yield Static("", id="empty-talk")
        yield Input(placeholder="…", id="prompt")

    def on_mount(self) -> None:
        super().on_mount()
        self._library, self._partners = Library(), Partners()
        self._choices: dict[str, RunSummary] = {}
        self._wanted, self._talking_with = "", ""
        self._turns: list[Turn] = []
        self._answer: Answer | None = None
        self._view: TurnView | None = None
        self._asked = 0
        self.query_one("#sampling").border_title = "Checkpoint"
        self.set_interval(_DRAIN_SECONDS, self.collect)
        self.read_checkpoints()

    def on_screen_resume(self) -> None:
        self.read_checkpoints()

    def talk_with(self, run: str) -> None:
        """Chooses a run's newest checkpoint, when the list of them has been read; empty: the newest of all."""
        self._wanted = run
        self.read_checkpoints()

    @work(thread=True, exclusive=True, group="library", exit_on_error=False)
    def read_checkpoints(self) -> None:
        """Reads in a thread which runs have checkpoints."""
        found: dict[str, RunSummary] = {}
        for summary in self._library.runs():
            if summary.checkpoints:
                found[f"{summary.name}@newest"] = summary
                if summary.best_step not in (None, summary.checkpoints[-1]):
                    found[f"{summary.name}@best"] = summary
        self.app.call_from_thread(self._offer, found)

    def _offer(self, found: dict[str, RunSummary]) -> None:
        select: Select[str] = self.query_one("#checkpoint", Select)
        if [*found] != [*self._choices]:
            chosen = select.value
            select.prompt = "choose a checkpoint" if found else _NOTHING
            select.set_options([(Content(clean(name, newlines=False)), name) for name in found])
            if isinstance(chosen, str) and chosen in found:
                select.value = chosen
        self._choices = found
        wanted = f"{self._wanted}@newest" if self._wanted else ""
        if wanted in found:
            select.value = wanted
            self._wanted = ""
        elif not isinstance(select.value, str) and found:
            select.value = next((name for name, one in found.items() if not _completes(one)), next(iter(found)))
        self._introduce()

    @on(Select.Changed, "#checkpoint")
    def _changed(self) -> None:
        if self._reference() != self._talking_with:
            self._talking_with = self._reference()
            self.action_new()
        if self.query_one("#checkpoint").has_focus_within:
            self.call_after_refresh(self.action_type)

    def _reference(self) -> str:
        value = self.query_one("#checkpoint", Select).value
        return value if isinstance(value, str) else ""

    def _introduce(self) -> None:
        """Says what this checkpoint does with a message."""
        summary = self._choices.get(self._reference())
        prompt = self.query_one("#prompt", Input)
        empty = self.query_one("#empty-talk", Static)
        empty.display = self._view is None
        if summary is None:
            empty.update(
                Content.from_markup("No checkpoint to talk with yet.\nTrain one: [b]escape[/b], then [b]1[/b].")
            )
            prompt.placeholder = "train a model first"
            return
        does = "continues your text" if _completes(summary) else "answers you"
        at = summary.best_step if self._reference().endswith("@best") else summary.checkpoints[-1]
        empty.update(Content(f"{clean(summary.name)} at step {at or 0:,} {does}."))
        prompt.placeholder = "begin a text, enter lets it go on" if _completes(summary) else "ask something"

    @on(Input.Submitted, "#prompt")
    def _send(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        if text == "/new":
            self.action_new()
            return
        if not text or (self._answer is not None and self._answer.alive):
            return
        summary = self._choices.get(self._reference())
        if summary is None:
            self.notify("There is no checkpoint to talk with yet.", severity="warning")
            return
        try:
            which = self._reference().rpartition("@")[2]
            folder = find_run(str(summary.run.path)).select(which)
        except EngineError as error:
            self.mini.show_error(error)
            return
        event.input.clear()
        self._ask(text, summary, Question(
            folder, (*self._turns, Turn("user", text)), _completes(summary), self._temperature(), self._max_tokens(),
            self._asked,
        ))  # fmt: skip

    def _ask(self, text: str, summary: RunSummary, question: Question) -> None:
        self._asked += 1
        self.query_one("#empty-talk").display = False
        talk = self.query_one("#talk", FollowScroll)
        self._prompt = text if question.completes else ""
        if not question.completes:
            mine = TurnView("user", "you")
            talk.mount(mine)
            mine.show(text)
        self._view = TurnView("model", summary.name)
        talk.mount(self._view)
        self._view.show("", note="loading …", prompt=self._prompt)
        talk.following = True
        talk.follow()
        self._turns = [*question.turns]
        self._answer = Answer(self._partners, question)

    def collect(self) -> None:
        """Takes in what came of the answer."""
        answer, view = self._answer, self._view
        if answer is None or view is None:
            return
        alive = answer.alive
        text = view.text + answer.drain()
        figures = answer.last
        said = f"{figures.tokens} tokens · {figures.tokens_per_second:,.0f} tokens/s" if figures else ""
        if alive:
            view.show(text, note=said or "loading …", prompt=self._prompt)
            self.query_one("#talk", FollowScroll).follow()
            return
        self._answer = None
        if answer.error is not None:
            asked, prompt = self._turns.pop(), self.query_one("#prompt", Input)
            prompt.value = prompt.value or asked.text
            view.show(text, note="failed", prompt=self._prompt)
            self.mini.show_error(answer.error)
            return
        reason = figures.stop_reason if figures else ""
        if not reason:
            text += f" {STOPPED}"
        view.show(text, note=f"{said} · {_STOPS.get(reason, 'stopped')}".lstrip(" ·"), prompt=self._prompt)
        self.query_one("#talk", FollowScroll).follow()
        self._turns.append(Turn("assistant", text.removesuffix(f" {STOPPED}")))

    def _temperature(self) -> float:
        return self._number("#temperature", self.mini.state.get("chat.temperature", 0.7), 0.0, 10.0)

    def _max_tokens(self) -> int:
        return int(self._number("#max-tokens", self.mini.state.get("chat.max_new_tokens", 256), 1, 100_000))

    def _number(self, selector: str, fallback: float, low: float, high: float) -> float:
        """The number in a field, within its limits; the last good one where there is none."""
        try:
            return min(high, max(low, float(self.query_one(selector, Input).value)))
        except ValueError:
            return fallback

    @on(Input.Changed, "#temperature, #max-tokens")
    def _keep_sampling(self) -> None:
        self.mini.state.keep("chat.temperature", self._temperature())
        self.mini.state.keep("chat.max_new_tokens", self._max_tokens())

    @on(Input.Submitted, "#temperature, #max-tokens")
    def action_type(self) -> None:
        """Back to the input."""
        self.query_one("#prompt").focus()

    def action_stop(self) -> None:
        """Stops the answer; without one, leaves the input."""
        if self._answer is not None and self._answer.alive:
            self._answer.stop()
        else:
            self.query_one("#talk").focus()

    def action_new(self) -> None:
        """Starts over."""
        if self._answer is not None:
            self._answer.stop()
        self._answer = self._view = None
        self._turns = []
        self.query_one("#prompt", Input).clear()
        self.query(TurnView).remove()
        self._introduce()

    def action_choose(self) -> None:
        """Opens the list of checkpoints."""
        select: Select[str] = self.query_one("#checkpoint", Select)
        select.focus()
        select.expanded = True

    def action_settings(self) -> None:
        """Into the sampling settings."""
        self.query_one("#temperature").focus()


def _completes(summary: RunSummary) -> bool:
    """Whether the checkpoint continues text: its stage reads running text only."""
    stage = stage_of(summary)
    return stage is not None and stage.reads == ("text",)
