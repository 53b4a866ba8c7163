"""What the Profiles screen asks: a name, a stage, what becomes of changes, and whether to delete."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, OptionList, Static
from textual.widgets.option_list import Option

from engine.clean import clean
from engine.errors import ProfileError
from engine.settings.registry import STAGES
from engine.settings.writing import check_free_name
from minimind_tui.widgets.states import MUTED
from minimind_tui.widgets.vim import BETWEEN_BUTTONS


class ChoiceDialog(ModalScreen[str]):
    """A question with a few answers; each has a key, the last one is what escape means.

    Args:
        title: In the border.
        question: What is asked.
        answers: Key and text of each; the key is what the dialog returns, empty for the last.
    """

    BINDINGS: ClassVar[list[BindingType]] = BETWEEN_BUTTONS

    def __init__(self, title: str, question: str, answers: dict[str, str]) -> None:
        super().__init__()
        self._title, self._question, self._answers = title, question, answers
        self._none = list(answers)[-1]
        for key, text in answers.items():
            self._bindings.bind(key, f"answer('{key}')", text)
        self._bindings.bind("escape", f"answer('{self._none}')", answers[self._none], show=False)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = Content(self._title)
            yield Static(Content(clean(self._question)))
            with Horizontal(classes="buttons"):
                for key, text in self._answers.items():
                    yield Button(f"({key}) {text}", id=f"answer-{key}", compact=True)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.action_answer((event.button.id or "").removeprefix("answer-"))

    def action_answer(self, key: str) -> None:
        """Ends the dialog."""
        self.dismiss("" if key == self._none else key)


class NameDialog(ModalScreen[tuple[str, str] | None]):
    """Asks under which name and title a profile is saved.

    Args:
        why: What will be written.
        name: A suggestion.
        title: The title so far.
    """

    AUTO_FOCUS = "#name"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Cancel", id="profiles.no_name")]

    def __init__(self, why: str, name: str, title: str) -> None:
        super().__init__()
        self._why, self._suggestion, self._title_so_far = why, name, title

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -profile-name") as dialog:
            dialog.border_title = "Save as"
            dialog.border_subtitle = "enter saves · tab next field · escape cancels"
            yield Static(Content(clean(self._why)), classes="paragraph")
            with Horizontal():
                yield Label("name")
                yield Input(self._suggestion, id="name", compact=True)
            with Horizontal():
                yield Label("title")
                yield Input(self._title_so_far, placeholder="what it is for, in a line", id="title", compact=True)
            yield Static("", id="problem")

    def _problem(self) -> str:
        try:
            check_free_name(self.query_one("#name", Input).value.strip())
        except ProfileError as error:
            return f"{error.what}: {error.hint}"
        return ""

    @on(Input.Changed, "#name")
    def _say(self) -> None:
        self.query_one("#problem", Static).update(Content.styled(clean(self._problem()), "$text-error"))

    @on(Input.Submitted)
    def _submitted(self) -> None:
        if self._problem():
            self.app.bell()
            self.query_one("#name").focus()
        else:
            self.dismiss((self.query_one("#name", Input).value.strip(), self.query_one("#title", Input).value.strip()))


class StageDialog(ModalScreen[str | None]):
    """Asks for which stage a new profile is."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Cancel", id="profiles.no_stage"),
        Binding("j", "next(1)", "Down", show=False, id="list.down"),
        Binding("k", "next(-1)", "Up", show=False, id="list.up"),
    ]

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "New profile"
            dialog.border_subtitle = "enter takes the stage's defaults · escape cancels"
            width = max(len(stage.title) for stage in STAGES.values()) + 2
            yield OptionList(
                *[
                    Option(Content.assemble(f"{stage.title:<{width}}", (stage.purpose, MUTED)), id=stage.name)
                    for stage in STAGES.values()
                ],
                compact=True,
            )

    def action_next(self, by: int) -> None:
        """Moves in the list."""
        options = self.query_one(OptionList)
        options.action_cursor_down() if by > 0 else options.action_cursor_up()

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id)
