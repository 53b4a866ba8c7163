"""The terminal below the app, on real pseudo-terminals; and what is copied out of it."""

import asyncio
import fcntl
import logging
import os
import pty
import subprocess
import sys
import termios
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.app import App
from textual.events import Resize
from textual.geometry import Size

from engine.errors import EngineError, UserError
from minimind_tui.app import MinimindApp
from minimind_tui.core import clipboard
from minimind_tui.core.applog import LARGEST, failure, note, open_log, tail
from minimind_tui.core.clipboard import LONGEST, Copied, deliver, fits
from minimind_tui.state import log_path, state_folder
from minimind_tui.terminal import _PatientStream, copy, guarded_output, released_output
from tests.tui.conftest import until


def _on_a_terminal(work: Callable[[], None]) -> bytes:
    """Runs something in a child on a pseudo-terminal; what the terminal saw."""
    child, terminal = pty.fork()
    if child == 0:
        try:
            sys.stderr = sys.__stderr__ = os.fdopen(os.dup(2), "w")
            work()
        finally:
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
    os.close(terminal)
    return shown


def test_stray_output_goes_to_the_log(tmp_path: Path) -> None:
    """What C code and other programs write is not on the screen, what the app draws is."""
    log = tmp_path / "tui.log"

    def work() -> None:
        with guarded_output(log):
            os.write(1, b"stray one\n")
            os.write(2, b"stray two\n")
            os.system("echo from a program; echo its complaint >&2")
            print("drawn", file=sys.__stderr__, flush=True)
        os.write(2, b"after")

    shown = _on_a_terminal(work)
    assert b"drawn" in shown and b"after" in shown
    assert b"stray" not in shown and b"program" not in shown and b"complaint" not in shown
    assert log.read_text() == "stray one\nstray two\nfrom a program\nits complaint\n"


def test_an_editor_has_the_terminal_and_afterwards_the_guard_is_back(tmp_path: Path) -> None:
    log = tmp_path / "tui.log"

    def work() -> None:
        with guarded_output(log):
            with released_output():
                subprocess.run([sys.executable, "-c", "import os; print(os.isatty(1), os.isatty(2), 'editor')"])
            os.write(1, b"stray again")

    shown = _on_a_terminal(work)
    assert b"True True editor" in shown and b"stray" not in shown
    assert log.read_text() == "stray again"


def test_the_size_of_the_terminal_is_seen_below_the_guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")

    def work() -> None:
        import shutil
        import struct

        fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 97, 0, 0))
        with guarded_output(tmp_path / "tui.log"):
            print(shutil.get_terminal_size(), file=sys.__stderr__, flush=True)

    assert b"columns=97, lines=31" in _on_a_terminal(work)


def test_a_log_that_cannot_be_written_leaves_everything_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    def work() -> None:
        with guarded_output(tmp_path / "file" / "tui.log"), released_output():
            os.write(1, b"seen")

    assert b"seen" in _on_a_terminal(work)


def test_a_log_of_a_megabyte_is_put_aside_at_the_start(home: Path) -> None:
    log_path().parent.mkdir()
    log_path().write_text("x" * (LARGEST + 1))
    root, shown = logging.getLogger(), warnings.showwarning
    handlers = root.handlers[:]
    root.handlers.clear()
    try:
        path = open_log()
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("an odd shape", stacklevel=1)
        logging.getLogger("other.code").warning("a library speaks")
    finally:
        logging.captureWarnings(False)
        for handler in root.handlers:
            handler.close()
        root.handlers[:], warnings.showwarning = handlers, shown
    assert path.with_name("tui.log.1").stat().st_size == LARGEST + 1
    assert "a library speaks" in path.read_text() and "an odd shape" in path.read_text()


def test_an_error_nobody_expected_is_explained_and_its_story_is_in_the_log(home: Path) -> None:
    try:
        raise ValueError("seven")
    except ValueError as error:
        shown = failure(error, "read_runs")
    assert isinstance(shown, EngineError) and shown.what == "ValueError: seven" and shown.where == "read_runs"
    assert "Traceback" in log_path().read_text() and "test_terminal.py" in log_path().read_text()
    known = UserError("known")
    assert failure(known) is known


def test_the_end_of_a_log(home: Path) -> None:
    assert tail(log_path()) == (0, [])
    note("one")
    note("two \udc80")
    size, lines = tail(log_path())
    assert size == log_path().stat().st_size and [line[20:] for line in lines] == ["one", "two \\udc80"]
    assert tail(log_path(), 35) == (size, lines[1:]), "a line that is cut is left out"


def test_what_was_copied_lies_in_a_file_that_only_the_user_reads(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMUX", raising=False)
    copied = deliver("你好 \udc80")
    file = state_folder() / "clipboard.txt"
    assert copied == Copied(terminal=True, tmux=False, file=file)
    assert file.read_text() == "你好 ?" and file.stat().st_mode & 0o077 == 0
    assert str(copied) == f"sent to the terminal's clipboard (if it allows OSC 52); also in {file}"


def test_a_long_text_is_not_promised_to_the_clipboard(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMUX", raising=False)
    assert fits("x" * (LONGEST * 3 // 4)) and not fits("x" * (LONGEST * 3 // 4 + 3))
    copied = deliver("x" * LONGEST)
    assert str(copied).startswith("too long for the terminal's clipboard; also in ")


def test_without_a_disk_and_without_tmux_nothing_is_claimed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMUX", "/nowhere,1,0")
    state_folder().write_text("a file where the folder should be")
    copied = deliver("x" * LONGEST)
    assert not copied.anywhere
    assert str(copied) == "too long for the terminal's clipboard; no file could be written"


def test_tmux_gets_it_as_a_buffer(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "tmux"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked; cat > {tmp_path}/given\n')
    program.chmod(0o755)
    monkeypatch.setenv("TMUX", "/tmp/tmux,1,0")
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    assert clipboard.deliver("text").tmux
    assert (tmp_path / "asked").read_text() == "load-buffer -w -\n" and (tmp_path / "given").read_text() == "text"


async def test_the_toast_tells_where_it_went(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMUX", raising=False)
    app: App[None] = App()
    async with app.run_test() as pilot:
        copy(app, "engine train", "the \x1b[31mcommand [b]")
        await until(pilot, lambda: len(app._notifications) == 1)
        (toast,) = app._notifications
        assert "the ␛[31mcommand [b]: sent to the terminal's clipboard (if it allows OSC 52)" in toast.message
        assert app.clipboard == "engine train"


def test_writing_to_a_terminal_that_is_gone_does_not_fail() -> None:
    end, terminal = pty.openpty()
    stream = _PatientStream(terminal)
    os.close(end)
    for _ in range(1000):
        stream.write("x" * 100 + "\udc80\n")
    stream.flush()
    stream.close()


async def test_a_storm_of_sizes_ends_with_the_last_one(app: MinimindApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        for number in range(50):
            size = Size(60 + number % 40, 16 + number % 20)
            app.post_message(Resize(size, size))
            await asyncio.sleep(0.005)
        app.post_message(Resize(Size(40, 10), Size(40, 10)))
        await until(pilot, lambda: app.screen.query_one("#too-small").display)
        assert app.screen.size == (40, 10)
