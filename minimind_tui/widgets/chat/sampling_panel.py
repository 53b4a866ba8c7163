"""Sampling settings and the system prompt, folded until they are asked for."""

from dataclasses import dataclass

from textual import on
from textual.app import ComposeResult
from textual.containers import Grid, Horizontal, Vertical
from textual.content import Content
from textual.events import Resize
from textual.message import Message
from textual.widgets import Checkbox, Input, Label, Static, TextArea

from engine.clean import clean
from engine.errors import UserError
from minimind_tui.core.sampling import Sampling

_TITLES = {
    "temperature": "temperature",
    "top_k": "top-k",
    "top_p": "top-p",
    "min_p": "min-p",
    "repetition_penalty": "repetition",
    "max_new_tokens": "max tokens",
    "seed": "seed",
}
_CELLS = 20
"""A field with its title."""


class Tick(Checkbox):
    """A check box whose state can be read without colour."""

    def __init__(self, label: str, value: bool, *, id: str) -> None:
        super().__init__(label, value, id=id, compact=True)
        self.BUTTON_INNER = "X" if value else " "

    def watch_value(self) -> None:
        self.BUTTON_INNER = "X" if self.value else " "
        super().watch_value()


class SamplingPanel(Vertical):
    """A form that is read as one types; what is wrong stands under it, and the last good settings stay in force."""

    HELP = (
        "Temperature 1 samples from the model's own distribution, lower is more careful; greedy always takes the most "
        "probable token. Top-k, top-p and min-p cut improbable tokens off (0, 1 and 0 cut nothing); repetition above 1 "
        "makes repeats less probable. An empty seed is another one for every answer. The system prompt counts from the "
        "next answer on. Blind: side by side, names are hidden until you have voted."
    )

    @dataclass
    class Changed(Message):
        """Something else is set, and it is valid."""

        sampling: Sampling
        system: str
        blind: bool

    def __init__(self, sampling: Sampling, system: str, blind: bool, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._sampling, self._system, self._blind = sampling, system, blind

    def compose(self) -> ComposeResult:
        texts = self._sampling.texts
        with Grid():
            for name, title in _TITLES.items():
                with Horizontal(classes="field"):
                    yield Label(title)
                    yield Input(texts[name], placeholder="free" if name == "seed" else "", id=name, compact=True)
            yield Tick("greedy", self._sampling.greedy, id="greedy")
            yield Tick("blind", self._blind, id="blind")
        with Horizontal(classes="system"):
            yield Label("system prompt")
            yield TextArea(self._system, id="system", compact=True, highlight_cursor_line=False)
        yield Static("", id="problem")

    def on_mount(self) -> None:
        self.border_title = "Sampling"
        self.border_subtitle = "tab next field · escape folds"
        self._dim()

    def on_resize(self, event: Resize) -> None:
        self.query_one(Grid).styles.grid_size_columns = max(1, min(4, event.size.width // _CELLS))

    @on(Input.Changed)
    @on(Checkbox.Changed)
    @on(TextArea.Changed)
    def _changed(self) -> None:
        problem = self.query_one("#problem", Static)
        greedy = self.query_one("#greedy", Checkbox).value
        texts = {name: self.query_one(f"#{name}", Input).value for name in _TITLES}
        for field in self.query(Input):
            field.remove_class("-wrong")
        self._dim()
        try:
            sampling = Sampling.read(texts, greedy=greedy)
        except UserError as error:
            self.query_one(f"#{error.where}").add_class("-wrong")
            problem.update(Content.styled(f"✗ {clean(error.what, newlines=False)}", "$text-error"))
            return
        problem.update("")
        system, blind = self.query_one("#system", TextArea).text, self.query_one("#blind", Checkbox).value
        self.post_message(self.Changed(sampling, system, blind))

    def _dim(self) -> None:
        """What greedy decoding does not look at stands back."""
        greedy = self.query_one("#greedy", Checkbox).value
        for name in ("temperature", "top_k", "top_p", "min_p", "seed"):
            self.query_one(f"#{name}", Input).set_class(greedy, "-idle")
