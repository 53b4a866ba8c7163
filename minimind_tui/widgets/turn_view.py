"""What one side said in a conversation."""

from textual.content import Content
from textual.widgets import Static

from engine.clean import clean
from minimind_tui.core.transcript import FAILED, STOPPED, Turn, split_thoughts, thought_tokens
from minimind_tui.widgets.states import MUTED

_REASONS = {
    "stop": "ended by itself",
    "length": "cut at max tokens",
    "context": "context is full",
    STOPPED: "stopped",
    FAILED: "failed",
}
_THOUGHT = f"{MUTED} italic"
_LIVE = 5000
"""Characters of an answer that are shown while it grows."""
_ROOMY, _NARROW = 60, 44
"""Cells from which on the note under an answer says everything, and below which it says little."""


Part = tuple[str, str]
"""A text and its style."""


class TurnView(Static):
    """A turn in a box: who speaks above, how it went below, thoughts folded until they are asked for.

    Args:
        role: `user` or `model`, which decides the look.
        speaker: Stands in the border.

    Attributes:
        turn: What is shown.
        unfolded: Whether thoughts are shown.
    """

    def __init__(self, role: str, speaker: str) -> None:
        super().__init__(classes=f"-{role}")
        self.name_speaker(speaker)
        self.turn = Turn("user" if role == "user" else "assistant", "")
        self.unfolded = False
        self._prompt = ""

    def name_speaker(self, speaker: str) -> None:
        """Puts a name into the border."""
        self.border_title = Content(clean(speaker, newlines=False))

    def show(self, turn: Turn, *, prompt: str = "", note: str = "") -> None:
        """Shows a turn.

        Args:
            turn: As it stands.
            prompt: The text that it continues.
            note: Stands under it instead of how it went.
        """
        self.turn, self._prompt = turn, prompt
        self._paint()
        self.border_subtitle = Content(note or (_note(turn, self.size.width) if turn.role == "assistant" else ""))

    def fold(self) -> None:
        """Shows the thoughts, or only how long they are."""
        self.unfolded = not self.unfolded
        self._paint()

    def _paint(self) -> None:
        turn = self.turn
        parts = [(clean(self._prompt), MUTED)] if self._prompt else []
        parts += _answer(turn, self.unfolded) if turn.role == "assistant" else [(clean(turn.text), "")]
        if turn.stop_reason == STOPPED:
            parts.append((" [stopped]", f"bold {MUTED}"))
        if turn.role == "assistant" and not turn.stop_reason:
            parts = _end(parts)
        self.update(Content.assemble(*parts))


def _answer(turn: Turn, unfolded: bool) -> list[Part]:
    parts: list[Part] = []
    said = split_thoughts(turn.text)
    for place, (thought, text) in enumerate(said):
        if not thought:
            after = place and said[place - 1][0]
            parts.append((clean(text.lstrip("\n") if after else text), ""))
        elif not text.strip():
            continue
        elif unfolded:
            parts.append((f"▾ thought{_tokens(turn)}\n{clean(text.strip())}\n", _THOUGHT))
        else:
            parts.append((f"▸ thought{_tokens(turn)} · t unfolds\n", _THOUGHT))
    return parts


def _end(parts: list[Part]) -> list[Part]:
    """The end of a long text: laying out all of it again with every new word would hold up the keys."""
    room, kept = _LIVE, list[Part]()
    for text, style in reversed(parts):
        if len(text) >= room:
            return [("⋯ ", MUTED), (text[-room:], style), *kept]
        kept.insert(0, (text, style))
        room -= len(text)
    return kept


def _tokens(turn: Turn) -> str:
    count = thought_tokens(turn)
    return f" · {count:,} tokens" if count else ""


def _note(turn: Turn, width: int) -> str:
    """How an answer went: tokens, speed, why it ended, and what its randomness came from."""
    reason = _REASONS.get(turn.stop_reason, "")
    if not turn.count:
        return reason or "loading …"
    if width and width < _NARROW:
        return " · ".join(filter(None, (f"{turn.count:,} at {turn.speed:,.0f}/s", reason)))
    seed = f"seed {turn.seed}" if reason and turn.seed is not None and (not width or width >= _ROOMY) else ""
    return " · ".join(filter(None, (f"{turn.count:,} tokens", f"{turn.speed:,.0f} tokens/s", reason, seed)))
