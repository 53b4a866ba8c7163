"""The dry run of the largest step: what it computes, and that nothing of it remains."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from engine.training import rehearsal
from engine.training.rehearsal import rehearse
from engine.training.update import back_propagate
from tests.stages.assembled import Assembled, assemble, same
from tests.stages.started import world as world
from tests.stages.started import world_and_start as world_and_start
from tests.training.tiny import TIMELIKE, World

EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
INFLUENCED = {
    "dropout and experts": ("pretrain", {"dropout": 0.2, "packing": True, "accumulation_steps": 2} | EXPERTS),
    "adapter": ("lora", {"lora_dropout": 0.2, "dropout": 0.1}),
    "float16": ("sft", {"dtype": "float16", "accumulation_steps": 2}),
    "reference": ("dpo", {"dropout": 0.1}),
    "groups": ("grpo", {"kl_coefficient": 0.1}),
    "critic": ("ppo", {}),
    "trackers": ("spo", {}),
}


def _whole(made: Assembled) -> tuple[dict[str, Any], ...]:
    """Everything that two rounds leave behind."""
    for number in range(2):
        made.round(number)
    return made.weights(), made.moments(), made.stage.state(), made.stage.metrics()


@pytest.mark.parametrize(("stage", "settings"), INFLUENCED.values(), ids=INFLUENCED)
def test_a_run_with_it_is_the_run_without_it(world: World, stage: str, settings: dict[str, Any]) -> None:
    first = _whole(assemble(world.begun(stage, "without", **settings)))
    made = assemble(world.begun(stage, "with", **settings))
    for _ in made.stage.collect(0):  # something is noted that was not reported yet
        break
    noted = made.stage.state()
    rehearse(made.stage, made.precision)
    assert made.stage.state() == noted
    second = _whole(made)
    assert same(first[0], second[0]) and same(first[1], second[1])
    assert {**first[2], "figures": 0} == {**second[2], "figures": 0}
    reported = [{name: value for name, value in one[3].items() if name not in TIMELIKE} for one in (first, second)]
    assert reported[0] == reported[1]


def test_the_middle_of_a_run_stays_what_it_was(world: World) -> None:
    made = assemble(world.begun("pretrain", "middle", dropout=0.2, **EXPERTS))
    made.round(0)
    before = made.weights(), made.moments(), made.stage.state(), torch.get_rng_state()
    rehearse(made.stage, made.precision)
    after = made.weights(), made.moments(), made.stage.state(), torch.get_rng_state()
    assert same(before[0], after[0]) and same(before[1], after[1])
    assert before[2] == after[2] and before[2]["experts"]["tokens"] > 0
    assert torch.equal(before[3], after[3])
    assert all(parameter.grad is None for _, parameter in made.update.named)


def test_a_rehearsal_that_fails_leaves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = assemble(world.begun("pretrain", "fails", dropout=0.2, accumulation_steps=2, **EXPERTS))
    passes: list[int] = []

    def twice(*args: Any) -> Any:
        if passes:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        passes.append(1)
        return back_propagate(*args)

    monkeypatch.setattr(rehearsal, "back_propagate", twice)
    before = made.stage.state(), torch.get_rng_state()
    with pytest.raises(RuntimeError, match="can't allocate"):
        rehearse(made.stage, made.precision)
    assert passes and made.stage.state() == before[0] and torch.equal(torch.get_rng_state(), before[1])
    assert all(parameter.grad is None for _, parameter in made.update.named)


@pytest.mark.parametrize(("accumulation", "passes"), [(1, 1), (3, 2)])
def test_gradients_live_in_the_second_pass(
    world: World, monkeypatch: pytest.MonkeyPatch, accumulation: int, passes: int
) -> None:
    made = assemble(world.begun("sft", "passes", accumulation_steps=accumulation))
    there: list[bool] = []

    def watched(*args: Any) -> Any:
        there.append(any(parameter.grad is not None for _, parameter in made.update.named))
        return back_propagate(*args)

    monkeypatch.setattr(rehearsal, "back_propagate", watched)
    rehearse(made.stage, made.precision)
    each = len(made.stage.largest())
    assert there == ([False, True] * each if passes == 2 else [False] * each)


ACCUMULATES = [
    ("sft", {"accumulation_steps": 1}, False),
    ("sft", {"accumulation_steps": 2}, True),
    ("sft", {"accumulation_steps": 2, "batch_size": 64}, False),  # all rows are one micro-batch
    ("grpo", {"accumulation_steps": 2}, True),
    ("ppo", {"accumulation_steps": 2, "mini_batches": 2}, False),
    ("ppo", {"accumulation_steps": 4, "mini_batches": 2}, True),
]


@pytest.mark.parametrize(("stage", "settings", "expected"), ACCUMULATES)
def test_whether_a_step_takes_several_micro_batches(
    world: World, stage: str, settings: dict[str, Any], expected: bool
) -> None:
    made = assemble(world.begun(stage, "several", **settings))
    steps = [batches for number in range(2) for batches in made.stage.collect(number)]
    assert made.stage.accumulates is expected is any(len(batches) > 1 for batches in steps)


def _batches(made: Assembled, rounds: int) -> Iterator[Any]:
    for number in range(rounds):
        for step in made.stage.collect(number):
            yield from step


@pytest.mark.parametrize("stage", ["pretrain", "reason", "distill", "dpo", "reward"])
def test_the_largest_is_one_that_is_formed(world: World, stage: str) -> None:
    made = assemble(world.begun(stage, "largest", max_steps=0, epochs=2))
    formed = list(_batches(made, made.stage.rounds))
    found = made.stage.largest()
    assert 1 <= len(found) <= 2
    for batch in found:
        assert any(np.array_equal(batch.input_ids, one.input_ids) for one in formed)
        made.stage.loss(batch)
    assert max(len(batch.input_ids) for batch in found) == max(len(one.input_ids) for one in formed)


POLICIES = {
    "grpo": ("grpo", {}),
    "grpo once": ("grpo", {"updates_per_rollout": 1}),
    "grpo reference": ("grpo", {"kl_coefficient": 0.1}),
    "ppo": ("ppo", {}),
    "ppo shared": ("ppo", {"critic": "shared"}),
    "spo": ("spo", {}),
    "spo prioritised": ("spo", {"prioritised": True}),
    "spo global": ("spo", {"tracker": "global", "prioritised": True, "kl_coefficient": 0.1}),
}


@pytest.mark.parametrize(("stage", "settings"), POLICIES.values(), ids=POLICIES)
def test_no_rollout_is_larger_than_the_largest(world: World, stage: str, settings: dict[str, Any]) -> None:
    made = assemble(world.begun(stage, "largest", **settings))
    found = made.stage.largest()
    formed = list(_batches(made, 3))
    assert formed
    for batch in found:
        assert {name: values.dtype for name, values in batch.tokens.items()} == {
            name: values.dtype for name, values in formed[0].tokens.items()
        }
        assert all(len(values) == batch.count for values in batch.tokens.values())
        assert np.array_equal(batch.batch.loss_weights[batch.batch.cu_seqlens[:-1]], np.zeros(len(batch)))
    prompts = made.stage.settings.training.batch_size * made.stage.answers_a_prompt
    assert max(batch.count for batch in found) == prompts * made.stage.sampling.max_new_tokens
    assert max(map(len, (batch.batch.input_ids for batch in found))) >= max(len(b.batch.input_ids) for b in formed)


def test_companions_are_the_frozen_models_that_are_kept(world: World) -> None:
    world.trained("reward", "judge", max_steps=1)
    kept: dict[str, tuple[dict[str, Any], int]] = {
        "pretrain": ({}, 0),
        "dpo": ({}, 1),
        "distill": ({}, 1),
        "ppo": ({}, 1),
        "grpo": ({"rewards": {"model": 1.0}, "reward_model": "judge", "kl_coefficient": 0.1}, 2),
    }
    for stage, (settings, count) in kept.items():
        made = assemble(world.begun(stage, stage, **settings))
        found = list(made.stage.companions())
        assert len(found) == count
        assert made.stage.model not in found
    for stage, settings in (("dpo", {"reference_log_probs": "precomputed"}), ("distill", {"teacher_top_k": 4})):
        assert not list(assemble(world.begun(stage, f"{stage}-once", **settings)).stage.companions())
