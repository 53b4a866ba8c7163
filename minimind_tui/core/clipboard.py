"""Copying text out of the terminal, also over SSH and inside tmux. Without Textual.

A terminal is asked by OSC 52 to take a text; it never answers, some refuse, and long texts are cut. So the text always
goes to a file as well, and what is said afterwards promises no more than that.
"""

import os
import subprocess
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

from minimind_tui.state import state_folder

LONGEST = 74_000
"""Bytes in base64 that terminals take by OSC 52; xterm and others cut or drop longer ones."""
_TMUX_SECONDS = 2.0


@dataclass(frozen=True)
class Copied:
    """Where a text has gone.

    Attributes:
        terminal: It is short enough for the terminal's clipboard.
        tmux: It is tmux's newest buffer, and tmux was asked to pass it to the terminal.
        file: Where it lies; None if the disk did not take it.
    """

    terminal: bool
    tmux: bool
    file: Path | None

    @property
    def anywhere(self) -> bool:
        """Whether it can be fetched from somewhere."""
        return self.terminal or self.tmux or self.file is not None

    def __str__(self) -> str:
        ways = []
        if self.tmux:
            ways.append("in tmux's buffer")
        if self.terminal:
            ways.append("sent to the terminal's clipboard (if it allows OSC 52)")
        said = "; ".join(ways) or "too long for the terminal's clipboard"
        return said + (f"; also in {self.file}" if self.file else "; no file could be written")


def deliver(text: str) -> Copied:
    """Puts a text where it can be fetched; blocks for a moment, so call it from a thread.

    The terminal itself is the app's: `Copied.terminal` says whether the text may be sent there.
    """
    return Copied(fits(text), _to_tmux(text), _to_file(text))


def fits(text: str) -> bool:
    """Whether a terminal can be expected to take a text by OSC 52."""
    return len(b64encode(_bytes(text))) <= LONGEST


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", errors="replace")


def _to_file(text: str) -> Path | None:
    """Writes the text where the user can find it; only the user may read it."""
    path = state_folder() / "clipboard.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(_bytes(text))
    except OSError:
        return None
    return path


def _to_tmux(text: str) -> bool:
    """Gives the text to tmux where the app runs in it.

    With tmux's usual `set-clipboard external` an OSC 52 of the app is dropped; tmux's own (`-w`) is passed on.
    """
    if not os.environ.get("TMUX"):
        return False
    try:
        done = subprocess.run(
            ["tmux", "load-buffer", "-w", "-"], input=_bytes(text), capture_output=True, timeout=_TMUX_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0
