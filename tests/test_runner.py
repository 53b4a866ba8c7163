"""Runs in threads and as processes of their own; all of them speak only through their folders."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from engine.errors import EngineError, Interrupted, UserError
from engine.runner import RunHandle, ThreadRun, start_process
from engine.runs.events import ControlAcknowledged, Event, Finished, RanOutOfMemory, Resumed, Step
from engine.runs.folder import find_run
from tests.training.tiny import World, losses, request, same_bits, tensors, told


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"))


def _wait(ready: Callable[[], object], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_thread_run_is_the_same_run(world: World) -> None:
    alone = world.trained("sft", "alone")
    thread = ThreadRun(request("sft", world.talks, world.tokenizer, "thread"))
    assert thread.join(90) and not thread.alive and thread.error is None
    assert thread.run is not None and thread.run.state() == "done"
    assert same_bits(tensors(thread.run), tensors(alone))
    assert list(told(thread.drain())) == list(told(alone.history())) and thread.drain() == []


def test_a_request_that_cannot_be_carried_out(world: World) -> None:
    thread = ThreadRun(request("sft", world.folder / "missing.jsonl", world.tokenizer))
    assert thread.join(90) and isinstance(thread.error, UserError)
    assert thread.run is None and thread.drain() == [] and not thread.alive
    thread.send("stop")
    with pytest.raises(UserError, match=r"missing\.jsonl"):
        thread.detach()


def test_detach_hands_the_run_to_a_process(world: World) -> None:
    """What comes out is what an undisturbed run gives; the process hears what it is told from the first moment."""
    settings = {"max_steps": 500, "dropout": 0.1, "batch_size": 2, "log_interval": 10}
    whole = world.trained("sft", "whole", **settings)
    thread = ThreadRun(request("sft", world.talks, world.tokenizer, "detached", **settings))
    seen: list[Event] = []
    _wait(lambda: seen.extend(thread.drain()) or any(isinstance(event, Step) for event in seen))
    handle = thread.detach()
    assert isinstance(thread.error, Interrupted)
    assert handle.alive and handle.run is not None
    with pytest.raises(EngineError, match="being run already"):
        thread.detach()  # it goes on elsewhere: another writer is refused
    handle.send("save")
    _wait(lambda: not handle.alive)
    events = handle.run.history()
    assert isinstance(events[-1], Finished) and events[-1].status == "done"
    assert any(isinstance(event, ControlAcknowledged) and event.command == "save" for event in events)
    assert sum(isinstance(event, Resumed) for event in events) == 1
    assert same_bits(tensors(handle.run), tensors(whole)) and losses(handle.run) == losses(whole)
    assert handle.drain()[-1] == events[-1]


def test_a_finished_run_is_not_detached(world: World) -> None:
    thread = ThreadRun(request("sft", world.talks, world.tokenizer, max_steps=1))
    assert thread.join(90)
    with pytest.raises(EngineError, match="ended before"):
        thread.detach()


def test_a_process_that_cannot_go_on(world: World) -> None:
    run = world.begun("sft")
    run.resolved.write_text("{")
    with pytest.raises(EngineError, match="at once"):
        start_process(run)
    assert not RunHandle(run).alive


_KILLED = """
import sys, time
from pathlib import Path
from engine.runner import start_process
from engine.runs.folder import RunFolder
handle = start_process(RunFolder(Path(sys.argv[1])), force=True)
while handle.run.state() in ("running", "interrupted"):
    time.sleep(0.1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_a_process_that_the_kernel_ends_says_so_and_what_would_fit(world: World) -> None:
    """A control group holds the run's process and the one that started it; the kernel ends the larger one."""
    group = Path("/sys/fs/cgroup/memory") if Path("/sys/fs/cgroup/memory").exists() else Path("/sys/fs/cgroup")
    group /= f"minimind-runner-{os.getpid()}"
    big = {"hidden_size": 512, "intermediate_size": 4096, "num_hidden_layers": 8}
    run = world.begun("sft", "killed", max_steps=2, **big)
    try:
        group.mkdir()
        limits = [group / name for name in ("memory.max", "memory.limit_in_bytes") if (group / name).exists()]
        for file in limits:
            file.write_text(str(700 << 20))
    except OSError:
        pytest.skip("control groups cannot be made here")
    if not limits:
        pytest.skip("control groups cannot limit memory here")
    try:
        command = ["sh", "-c", 'echo $$ > "$1"/cgroup.procs && exec "$2" -c "$3" "$4"', "sh", str(group),
                   sys.executable, _KILLED, str(run.path)]  # fmt: skip
        ended = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        _wait(lambda: not (group / "cgroup.procs").read_text())
    finally:
        with suppress(OSError):
            group.rmdir()
    assert ended.returncode == 0, ended.stderr
    *_, said, end = find_run("killed").history()
    assert isinstance(said, RanOutOfMemory) and said.phase == "unknown" and "kernel ended it" in said.what
    assert isinstance(end, Finished) and end.exit_code == 3 and run.state() == "failed"
    assert said.plan["breakdown"]["weights"] > 200e6 and not said.plan["fits"]
