"""What a user may change, move or delete while a run is interrupted, and what not."""

import threading
from pathlib import Path
from typing import Any

import pytest

from engine.errors import CheckpointError, Interrupted
from engine.runs.events import Event, Step
from engine.runs.folder import RunFolder
from engine.session import carry_out
from tests.stages.assembled import write_reward
from tests.training.tiny import World, same_bits, tensors, told


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"))


def _interrupted(run: RunFolder, step: int) -> None:
    interrupt = threading.Event()

    def watch(event: Event) -> None:
        if isinstance(event, Step) and event.step == step:
            interrupt.set()

    with pytest.raises(Interrupted):
        carry_out(run, interrupt=interrupt, listener=watch)


@pytest.mark.parametrize("stage", ["grpo", "ppo", "spo"])
def test_a_run_goes_on_with_the_rewards_that_it_began_with(world: World, tmp_path: Path, stage: str) -> None:
    """The user's file is changed, then gone; where the settings came from stays written down."""
    file = write_reward(tmp_path / "letters.py", "return len(answer) % 7 / 6")
    settings: dict[str, Any] = {"rewards": {"python": 1.0}, "reward_python": str(file)}
    whole, cut = world.trained(stage, "whole", **settings), world.begun(stage, "cut", **settings)
    write_reward(file, "return -len(answer)")
    _interrupted(cut, 3)
    file.unlink()
    carry_out(cut, resume=True)
    assert list(told(cut.history())) == list(told(whole.history()))
    assert same_bits(tensors(cut), tensors(whole))
    assert cut.read_json(cut.resolved)["settings"]["reward_python"]["value"] == str(file)


def test_changed_guarded_rows_are_refused(world: World, tmp_path: Path) -> None:
    guarded = tmp_path / "guarded.jsonl"
    guarded.write_bytes(world.talks.read_bytes())
    run = world.begun("grpo", guard_data=str(guarded), guard_rows=4)
    _interrupted(run, 3)
    before = run.events.read_bytes()
    with guarded.open("a") as file:
        file.write("\n")
    with pytest.raises(CheckpointError, match="file of guarded rows has changed") as caught:
        carry_out(run, resume=True, allow_inexact=True)
    assert caught.value.where == str(guarded) and run.events.read_bytes() == before
    guarded.write_bytes(world.talks.read_bytes())
    carry_out(run, resume=True)
    assert run.state() == "done"
