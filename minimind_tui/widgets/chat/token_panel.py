"""How probable each token of an answer was, and what else could have stood there."""

import math

from rich.cells import cell_len, set_cell_size
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.events import Resize
from textual.widgets import Static

from engine.clean import clean
from minimind_tui.core.probabilities import Bar, bars, facts, token_sheet
from minimind_tui.core.transcript import Turn
from minimind_tui.widgets.states import MUTED
from minimind_tui.widgets.token_view import TokenView

_NAME, _BAR = 18, 24
_EIGHTHS = " ▏▎▍▌▋▊▉"


class TokenPanel(Vertical):
    """An answer as tokens, coloured by how improbable they were; under it the alternatives of the one at the cursor."""

    HELP = (
        "The hotter a token, the less probable it was to the model; without colours signs say so. Below are the "
        "most probable tokens of that place, under the model itself (temperature 1) and, after the bar, as the "
        "sampling settings left them. p or escape goes back to the talk."
    )

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._turn = Turn("assistant", "")

    def compose(self) -> ComposeResult:
        yield TokenView(empty="no token of this answer was generated here")
        yield Static(id="facts")
        yield Static(id="choices")
        yield Static(id="legend")

    def show(self, turn: Turn) -> None:
        """Shows an answer's tokens."""
        self._turn = turn
        view = self.query_one(TokenView)
        view.border_title = Content(f"{clean(turn.speaker, newlines=False)}: how probable each token was")
        view.border_subtitle = Content(_whole(turn))
        view.show(token_sheet(turn), cursor=1 if turn.given and turn.tokens else 0)
        self.query_one("#legend", Static).update(view.legend())

    def on_resize(self, event: Resize) -> None:
        self._detail()

    @on(TokenView.Moved)
    def _detail(self) -> None:
        index = self.query_one(TokenView).cursor - bool(self._turn.given)
        facts_line, choices = self.query_one("#facts", Static), self.query_one("#choices", Static)
        if not 0 <= index < len(self._turn.tokens):
            facts_line.update(Content.styled("given, not generated" if self._turn.given else "", MUTED))
            choices.update("")
            return
        token = self._turn.tokens[index]
        facts_line.update(Content(clean(facts(token), newlines=False)))
        choices.update(Content("\n").join(_bar(bar, self.size.width) for bar in bars(token)))


def _whole(turn: Turn) -> str:
    """What the tokens say together."""
    if not turn.tokens:
        return ""
    mean = -sum(token.score.logprob for token in turn.tokens) / len(turn.tokens)
    return f"{len(turn.tokens):,} tokens · {mean:.2f} nats each · perplexity {math.exp(min(mean, 50)):,.1f}"


def _bar(bar: Bar, width: int) -> Content:
    room = max(4, min(_BAR, width - _NAME - 31))
    name = clean(bar.name, newlines=False)
    name = name if cell_len(name) <= _NAME else set_cell_size(name, _NAME - 1) + "…"
    eighths = round(bar.probability * room * 8)
    drawn = "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
    return Content.assemble(
        ("▶ " if bar.said else "  ", "bold"),
        (set_cell_size(name, _NAME), "bold" if bar.said else ""),
        (f" {drawn:<{room}}", "$accent" if bar.said else "$primary"),
        f" {bar.probability:6.1%}",
        (f"  drawn at {bar.sampled:6.1%}", MUTED),
    )
