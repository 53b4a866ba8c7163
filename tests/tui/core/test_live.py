import threading
from pathlib import Path

from engine.runner import RunHandle
from engine.runs.control import Inbox
from engine.runs.events import CheckpointSaved
from engine.runs.folder import create_run
from engine.runs.history import EventWriter
from minimind_tui.core.live import Live


def test_a_run_carried_elsewhere_is_told_through_its_folder(home: Path) -> None:
    run = create_run("one")
    live = Live(RunHandle(run))
    for command, value in (("pause", None), ("set_log_interval", 7), ("stop", None), ("stop_now", None)):
        live.send(command, value)
    told = [(command.name, command.value) for command in Inbox(run.control, threading.Event(), fresh=True).take()]
    assert told == [("pause", None), ("set_log_interval", 7), ("stop", None), ("stop_now", None)]


def test_news_are_told_once_and_only_from_then_on(home: Path) -> None:
    run = create_run("one")
    write = EventWriter(run)
    write(CheckpointSaved(time=5, step=1, path="x", best=False, seconds=0.1))
    live = Live(RunHandle(run))
    write(CheckpointSaved(step=2, path="x", best=False, seconds=0.1))
    live.drain()
    assert [saved.step for saved in live.history.saved] == [1, 2]
    assert [event.step for event in live.news() if isinstance(event, CheckpointSaved)] == [2]
    assert live.news() == []
