"""How a run's state is coloured."""

from minimind_tui.core.last_words import OUT_OF_MEMORY

_TONES = {
    "running": "success",
    "done": "success",
    "paused": "warning",
    "stopping": "warning",
    "detaching": "warning",
    "stopped": "warning",
    "interrupted": "warning",
    "failed": "error",
    OUT_OF_MEMORY: "error",
}
_RICH = {"success": "green", "warning": "yellow", "error": "red", "": "dim"}
MARKS = {"success": "●", "warning": "◐", "error": "✗", "": "·"}


MUTED = "$foreground 60%"
"""The style of what stands back; `$text-muted` would lose its share here."""


def tone(state: str) -> str:
    """`success`, `warning`, `error`, or nothing for states that mean neither; a reason after a colon is left out."""
    return _TONES.get(state.partition(":")[0], "")


def content_style(state: str) -> str:
    """The style of a state in Textual's content."""
    return f"${tone(state)}" if tone(state) else MUTED


def cell_style(state: str) -> str:
    """The style of a state in a table's cell."""
    return _RICH[tone(state)]


def mark(state: str) -> str:
    """A sign for a state that can be read without colour."""
    return "✓" if state == "done" else MARKS[tone(state)]
