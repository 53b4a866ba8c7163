import threading
from pathlib import Path

import pytest

from engine.errors import UserError
from engine.runs.control import Command, Inbox, StopNow, send
from engine.runs.folder import RunFolder


def _inbox(run: RunFolder, fresh: bool = True) -> Inbox:
    return Inbox(run.control, threading.Event(), fresh=fresh)


def test_commands_arrive_once_and_in_order(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    inbox = _inbox(run)
    assert inbox.take() == []
    first, second = send(run, "pause"), send(run, "set_log_interval", 5)
    assert inbox.take() == [Command(first, "pause"), Command(second, "set_log_interval", 5)]
    assert inbox.take() == []


def test_a_resumed_run_hears_only_what_comes_now(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    send(run, "stop")
    inbox = _inbox(run, fresh=False)
    send(run, "save")
    assert [command.name for command in inbox.take()] == ["save"]
    assert [command.name for command in _inbox(run).take()] == ["stop", "save"]


def test_hurry(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    inbox = _inbox(run)
    send(run, "stop")
    inbox.hurry()
    send(run, "stop_now")
    with pytest.raises(StopNow):
        inbox.hurry()
    assert [command.name for command in inbox.take()] == ["stop", "stop_now"]
    inbox.hurry()
    inbox.interrupt.set()
    with pytest.raises(StopNow):
        inbox.hurry()


def test_lines_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    inbox = _inbox(run)
    lines = [
        b"\xff", b"[]", b'{"command":"explode","id":"1"}', b'{"command":"save"}', b"[" * 50_000,
        b'{"id":"2","command":"save","value":"x"}', b'{"id":"3","command":"save"}', b'{"id":"4","comm',
    ]  # fmt: skip
    run.control.write_bytes(b"\n".join(lines))
    assert [command.id for command in inbox.take()] == ["3"]
    with run.control.open("ab") as file:
        file.write(b'and":"stop"}\n')
    assert [command.id for command in inbox.take()] == ["4"]


def test_what_cannot_be_obeyed_is_refused(tmp_path: Path) -> None:
    for command, value in (("explode", None), ("set_log_interval", None), ("set_log_interval", 0)):
        with pytest.raises(UserError):
            send(RunFolder(tmp_path), command, value)
    assert not RunFolder(tmp_path).control.exists()
