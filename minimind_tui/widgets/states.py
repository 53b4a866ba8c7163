"""How a run's state is coloured."""

_TONES = {
    "running": "success",
    "done": "success",
    "paused": "warning",
    "stopping": "warning",
    "detaching": "warning",
    "stopped": "warning",
    "interrupted": "warning",
    "failed": "error",
}
_RICH = {"success": "green", "warning": "yellow", "error": "red", "": "dim"}
MARKS = {"success": "●", "warning": "◐", "error": "✗", "": "·"}


MUTED = "$foreground 60%"
"""The style of what stands back; `$text-muted` would lose its share here."""


def tone(state: str) -> str:
    """`success`, `warning`, `error`, or nothing for states that mean neither."""
    return _TONES.get(state, "")


def content_style(state: str) -> str:
    """The style of a state in Textual's content."""
    return f"${tone(state)}" if tone(state) else MUTED


def cell_style(state: str) -> str:
    """The style of a state in a table's cell."""
    return _RICH[tone(state)]


def mark(state: str) -> str:
    """A sign for a state that can be read without colour."""
    return "✓" if state == "done" else MARKS[tone(state)]
