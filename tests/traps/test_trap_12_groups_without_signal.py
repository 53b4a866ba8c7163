"""Groups whose answers are all worth the same: counted, left out, and a step without any other changes nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.runs.events import Step, Warned
from engine.runs.folder import RunFolder
from engine.session import carry_out
from tests.stages.assembled import Assembled, assemble, same, write_reward
from tests.training.tiny import World, tensors

HALF = "return len(answer) % 5 / 4 if int(prompt[-1]['content'].split(':')[0]) % 2 else 0.25"
"""Rewards that differ within a group for odd rows only."""


def _metrics(run: RunFolder) -> list[dict[str, float]]:
    return [event.metrics for event in run.history() if isinstance(event, Step)]


@pytest.mark.parametrize("extra", [{}, {"kl_coefficient": 0.5, "updates_per_rollout": 1}, {"loss_type": "reinforce"}])
def test_a_run_without_any_signal_changes_nothing(world: World, extra: dict[str, Any]) -> None:
    """No answer of random words is well formed; the divergence from the start is left out with its group."""
    run = world.begun("grpo", rewards={"format": 1.0}, weight_decay=0.1, **extra)
    summary = carry_out(run)
    assert summary["status"] == "done" and summary["steps"] == summary["skipped_steps"] == 8
    shares = [found["no_signal_share"] for found in _metrics(run) if "no_signal_share" in found]
    assert set(shares) == {1.0} and len(shares) >= 4
    before = tensors(RunFolder(run.path.parent / "start"))
    after = tensors(run)
    assert not [name for name in after if name.startswith("optimizer")]
    assert all(after[name].equal(before[name]) for name in after)
    rows = [json.loads(line) for line in run.rollouts.read_text().splitlines()]
    assert rows and {row["advantage"] for row in rows} == {0.0}
    [warned] = [event for event in run.history() if isinstance(event, Warned)]
    assert warned.name == "nothing_to_learn_from" and "worth the same" in warned.message


def _odd(made: Assembled, number: int) -> list[int]:
    """The rows of a round with a signal."""
    rows = made.stage.store.columns["rows"]
    asked = [int(rows[sample]) for prompts in made.stage.prompts_of(number) for sample in prompts]
    return sorted(row for row in asked if row % 2)


def test_they_are_left_out_of_the_batch_and_counted(world: World, tmp_path: Path) -> None:
    reward = write_reward(tmp_path / "half.py", HALF)
    made = assemble(
        world.begun("grpo", rewards={"python": 1.0}, reward_python=str(reward), batch_size=4, num_generations=8)
    )
    counted = 0
    for number in range(3):
        [batches, *again] = made.stage.collect(number)
        made.stage.settle()
        with_signal = _odd(made, number)
        kept = sorted({int(row) for batch in batches for row in batch.batch.rows})
        assert kept == with_signal and all(batches is other for other in again)
        assert sum(len(batch) for batch in batches) == 8 * len(with_signal), "a group stays whole"
        share = made.stage.metrics()["no_signal_share"]
        asked = sum(map(len, made.stage.prompts_of(number)))
        assert share == pytest.approx(1 - len(with_signal) / asked)
        counted += 0 < share < 1
    assert counted


def test_a_step_without_signal_leaves_weights_and_momentum(world: World, tmp_path: Path) -> None:
    """One prompt a round: where it has no signal, AdamW does not coast on what it learnt before."""
    reward = write_reward(tmp_path / "half.py", HALF)
    settings: dict[str, Any] = {"batch_size": 1, "accumulation_steps": 1, "updates_per_rollout": 1, "weight_decay": 0.1}
    made = assemble(
        world.begun("grpo", rewards={"python": 1.0}, reward_python=str(reward), num_generations=8, **settings)
    )
    changed = []
    for number in range(8):
        before, moments = made.weights(), made.moments()
        [outcome] = made.round(number)
        changed.append(outcome.applied)
        assert outcome.applied is bool(_odd(made, number))
        assert same(made.weights(), before) is not outcome.applied
        assert same(made.moments(), moments) is not outcome.applied
    first = changed.index(True)
    assert False in changed[first:], "a step without signal after one with"


@pytest.mark.parametrize("std", ["population", "sample", "none"])
def test_rounding_is_no_signal(world: World, tmp_path: Path, std: str) -> None:
    """0.1 + 0.2 is not 0.3 in floating point; divided by its own deviation that would be an advantage of 1."""
    reward = write_reward(tmp_path / "rounding.py", "return 0.1 + 0.2 if len(answer) % 2 else 0.3")
    run = world.begun("grpo", rewards={"python": 1.0}, reward_python=str(reward), advantage_std=std, max_steps=4)
    assert carry_out(run)["skipped_steps"] == 4
    rows = [json.loads(line) for line in run.rollouts.read_text().splitlines()]
    assert len({row["reward"] for row in rows}) == 2 and {row["advantage"] for row in rows} == {0.0}


def test_the_deviation_has_a_floor(world: World, tmp_path: Path) -> None:
    """Small differences of reward stay small."""
    reward = write_reward(tmp_path / "small.py", "return 0.5 + 0.001 * (len(answer) % 2)")
    settings: dict[str, Any] = {"rewards": {"python": 1.0}, "reward_python": str(reward), "max_steps": 2}
    largest = []
    for floor in (1e-4, 0.1):
        run = world.trained("grpo", f"floor-{floor}", std_floor=floor, **settings)
        rows = [json.loads(line) for line in run.rollouts.read_text().splitlines()]
        largest.append(max(abs(row["advantage"]) for row in rows))
    assert largest[0] >= 1 and 0 < largest[1] <= 0.001 / 0.1
