import os
import sys
from pathlib import Path

import pytest

from minimind_tui.state import State, load_keymap, state_folder
from minimind_tui.terminal import guarded_output


def test_state_survives_a_restart(home: Path) -> None:
    state = State()
    state.keep("app.screen", "chat")
    state.keep("data.row", 3)
    state.save()
    again = State.load()
    assert again.get("app.screen", "home") == "chat" and again.get("data.row", 0) == 3
    assert again.get("data.row", "a text") == "a text", "a value of another type is not taken"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"app.screen": 3}'])
def test_an_unreadable_state_is_the_default(home: Path, text: str) -> None:
    state_folder().mkdir()
    (state_folder() / "tui.json").write_text(text)
    assert State.load().get("app.screen", "home") == "home"


def test_the_keymap(home: Path) -> None:
    assert load_keymap() == {}
    (home / "keymap.toml").write_text('quit = "ctrl+x"\nnumber = 3\n')
    assert load_keymap() == {"quit": "ctrl+x"}
    (home / "keymap.toml").write_text("quit = ")
    assert load_keymap() == {}


def test_stray_output_goes_to_the_log(tmp_path: Path) -> None:
    """In a child on a pseudo-terminal: what C code writes is not on the screen, what the app draws is."""
    import pty

    log = tmp_path / "tui.log"
    child, terminal = pty.fork()
    if child == 0:
        sys.stderr = sys.__stderr__ = os.fdopen(os.dup(2), "w")
        with guarded_output(log):
            os.write(1, b"stray one")
            os.write(2, b"stray two")
            print("drawn", file=sys.__stderr__, flush=True)
        os.write(2, b"after")
        os._exit(0)
    shown = b""
    while True:
        try:
            part = os.read(terminal, 1024)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.waitpid(child, 0)
    assert b"drawn" in shown and b"after" in shown
    assert b"stray" not in shown
    assert log.read_text() == "stray onestray two"
