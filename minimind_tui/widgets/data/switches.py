"""The line that says how rows are read, with the keys that change it."""

from textual.content import Content
from textual.widgets import Static

from engine.clean import clean
from minimind_tui.core.reading import Reader, Reading
from minimind_tui.widgets.states import MUTED

_SHORT = 18


class Switches(Static):
    """Stage, view, length, tokenizer, template, checkpoints."""

    def show(self, reading: Reading, reader: Reader | None, mode: str, judges: tuple[str, str]) -> None:
        """Shows how rows are read.

        Args:
            reading: The way that is wanted.
            reader: What reads; None while it is loaded.
            mode: How a row is looked at.
            judges: Names of the checkpoint and of the one that it is compared with.
        """
        switches = [
            ("t", reading.title if reading.shape else "stage"),
            ("v", mode),
            ("x", f"{reading.max_seq_len:,}" if reading.max_seq_len else "whole"),
            ("T", reader.name if reader is not None else "loading …"),
            ("m", reading.template.rpartition("/")[2] or "own"),
            ("c", judges[0] or "none"),
        ]
        switches += [("C", judges[1] or "none")] if judges[0] else []
        parts = [Content.assemble((key, "bold"), f" {_short(value)}") for key, value in switches]
        self.update(Content.styled("  ", MUTED).join(parts))


def _short(text: str) -> str:
    shown = clean(text, newlines=False)
    return shown if len(shown) <= _SHORT else f"{shown[: _SHORT - 1]}…"
