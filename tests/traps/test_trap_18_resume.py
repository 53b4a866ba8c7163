"""Resume exactness: 2N steps equal N, resume and N to the last bit, and so does a run that was killed."""

import json
import random
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from engine.errors import Interrupted
from engine.runs.control import send
from engine.runs.events import ControlAcknowledged, Event, Finished, Step
from engine.runs.folder import RunFolder
from engine.session import begin, carry_out
from tests.training.tiny import OF_STAGE, World, losses, request, same_bits, tensors, told


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"))


HARD: dict[str, Any] = {"dropout": 0.2, "accumulation_steps": 3, "batch_size": 2, "max_steps": 14, "eval_interval": 4}
"""Mid-epoch from the first step on, with dropout and accumulation; several epochs on this data."""


def _interrupted_at(run: RunFolder, step: int, resume: bool = False) -> None:
    """Carries a run out until a step was made."""
    interrupt = threading.Event()

    def watch(event: Event) -> None:
        if isinstance(event, Step) and event.step == step:
            interrupt.set()

    with pytest.raises(Interrupted):
        carry_out(run, resume=resume, interrupt=interrupt, listener=watch)
    assert run.checkpoint_steps()[-1] == step


@pytest.mark.parametrize(("stage", "packing"), [("pretrain", True), ("mid-train", True), ("sft", False)])
@pytest.mark.parametrize("log_interval", [1, 4])
def test_two_halves_equal_the_whole(world: World, stage: str, packing: bool, log_interval: int) -> None:
    settings = {**HARD, "packing": packing, "log_interval": log_interval}
    whole = world.trained(stage, "whole", **settings)
    halves = world.begun(stage, "halves", **settings)
    for number, step in enumerate((4, 8) if log_interval == 4 else (5, 7)):
        _interrupted_at(halves, step, resume=number > 0)
    carry_out(halves, resume=True)
    assert same_bits(tensors(whole), tensors(halves))
    assert list(told(halves.history())) == list(told(whole.history()))
    assert whole.samples.read_text() == halves.samples.read_text()


@pytest.mark.parametrize("stage", list(OF_STAGE))
@pytest.mark.parametrize("log_interval", [1, 4])
def test_two_halves_equal_the_whole_in_every_other_stage(world: World, stage: str, log_interval: int) -> None:
    """Trackers, rollouts, critics, adapters and references included; also the rollouts' file."""
    steps = {"epochs": 4} if stage == "spo" else {"max_steps": 8}
    dropout = 0.0 if stage in ("ppo", "grpo", "spo") else 0.2  # refused where the policy is to be what answered
    settings = {"dropout": dropout, "eval_interval": 4, "log_interval": log_interval, **steps}
    whole = world.trained(stage, "whole", **settings)
    halves = world.begun(stage, "halves", **settings)
    for number, step in enumerate((4, 8) if log_interval == 4 else (2, 6)):
        if step < 8:
            _interrupted_at(halves, step, resume=number > 0)
    carry_out(halves, resume=True)
    assert same_bits(tensors(whole), tensors(halves))
    assert list(told(halves.history())) == list(told(whole.history()))
    for path in (whole.samples, whole.rollouts):
        if path.exists():
            assert path.read_text() == (halves.path / path.name).read_text()


def test_dropout_is_alive_in_these_runs(world: World) -> None:
    assert losses(world.trained("sft", "wet", **HARD)) != losses(
        world.trained("sft", "dry", **{**HARD, "dropout": 0.0})
    )


def test_interrupted_before_the_last_evaluation(world: World) -> None:
    whole = world.trained("sft", "whole", max_steps=3)
    other = world.begun("sft", "other", max_steps=3)
    _interrupted_at(other, 3)
    summary = carry_out(other, resume=True)
    assert summary["status"] == "done" and summary["val_loss"] is not None
    assert list(told(other.history())) == list(told(whole.history()))


def test_commands_from_before_are_not_obeyed_again(world: World) -> None:
    run = world.begun("sft")
    send(run, "stop")  # to a new run: it never begins its first step
    assert carry_out(run)["steps"] == 0
    send(run, "stop")  # nobody listens
    assert carry_out(run, resume=True)["status"] == "done"
    assert sum(isinstance(event, ControlAcknowledged) for event in run.history()) == 1


def test_killed_at_any_moment(world: World) -> None:
    """`kill -9` of a real process, several times; what comes out equals the undisturbed run."""
    settings = {**HARD, "max_steps": 60, "eval_interval": 25, "save_interval": 5, "keep_checkpoints": 2}
    whole = world.trained("sft", "whole", **settings)
    run = begin(request("sft", world.talks, world.tokenizer, "killed", **settings))
    dice = random.Random(4)
    for _ in range(3):
        process = _resume(run)
        seen = _steps(run)
        _wait(lambda seen=seen, process=process: _steps(run) > seen or process.poll() is not None)
        time.sleep(dice.random() * 0.15)
        process.kill()
        process.wait()
        assert not run.is_running()
    process = _resume(run)
    assert process.wait(120) == 0
    assert same_bits(tensors(run), tensors(whole))
    history = run.history()
    assert list(told(history)) == list(told(whole.history()))
    assert [event.step for event in history if isinstance(event, Step)] == list(range(1, 61))
    assert sum(isinstance(event, Finished) for event in history) == 1
    assert not [path.name for path in run.checkpoints.iterdir() if path.name.startswith(".")]


def _resume(run: RunFolder, **how: Any) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "engine", "resume", str(run.path)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **how)


def _steps(run: RunFolder) -> int:
    """How many steps a run has reported, taken back or not."""
    return run.events.read_bytes().count(b'"type":"step"') if run.events.exists() else 0


def _wait(ready: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_signals_save_the_boundary_and_end_with_130(world: World) -> None:
    """And a SIGHUP that was ignored by inheritance, as nohup does it, stays ignored."""
    begun: list[subprocess.Popen[bytes]] = []

    def begin_with(name: str, hangup: signal.Handlers) -> "tuple[RunFolder, subprocess.Popen[bytes]]":
        run = begin(request("sft", world.talks, world.tokenizer, name, max_steps=1_000_000, batch_size=1))
        begun.append(_resume(run, preexec_fn=lambda: signal.signal(signal.SIGHUP, hangup)))
        return run, begun[-1]

    ended = [
        (*begin_with("interrupted", signal.SIG_DFL), signal.SIGINT),
        (*begin_with("hung-up", signal.SIG_DFL), signal.SIGHUP),
        (*begin_with("nohup", signal.SIG_IGN), signal.SIGTERM),
    ]
    try:
        for run, process, number in ended:
            _wait(lambda run=run: _steps(run) > 3)
            if run.name == "nohup":
                process.send_signal(signal.SIGHUP)
                seen = _steps(run)
                _wait(lambda run=run, seen=seen: _steps(run) > seen + 3)
            process.send_signal(number)
            assert process.wait(60) == 130
            step = run.checkpoint_steps()[-1]
            assert step == [event.step for event in run.history() if isinstance(event, Step)][-1]
            assert run.state() == "stopped"
            assert json.loads((run.checkpoint(step) / "state.json").read_text())["loop"]["step"] == step
    finally:
        for process in begun:
            process.kill()
