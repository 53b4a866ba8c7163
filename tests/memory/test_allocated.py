"""What a piece of work allocates, measured; and what it makes of a run's largest step."""

import gc
import threading
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from engine.memory.allocated import allocated_peak, rehearsed_peak, step_peak
from engine.training.rehearsal import rehearse
from tests.stages.assembled import assemble
from tests.stages.started import world as world
from tests.stages.started import world_and_start as world_and_start
from tests.training.tiny import World

CPU = torch.device("cpu")


def _three_then_one() -> None:
    """Three tensors of 4,000 bytes at most."""
    first = torch.ones(1000)
    second = first + 1
    third = second + 1
    del first, second
    _ = third


def test_the_peak_of_what_lives_at_once() -> None:
    assert 12_000 <= allocated_peak(_three_then_one, CPU) <= 12_100  # type: ignore[operator]


def test_what_was_there_before_does_not_count() -> None:
    kept = [torch.ones(100_000)]
    assert allocated_peak(lambda: kept.append(torch.ones(1000)), CPU) == 4000


def test_threads_are_measured_apart() -> None:
    found: list[int | None] = []
    within, done = threading.Event(), threading.Event()

    def other() -> None:
        within.wait()
        found.append(allocated_peak(_three_then_one, CPU))
        done.set()

    def work() -> None:
        within.set()
        done.wait()
        _ = torch.ones(250)

    thread = threading.Thread(target=other)
    thread.start()
    assert allocated_peak(work, CPU) == 1000
    thread.join()
    assert found[0] is not None and 12_000 <= found[0] <= 12_100


def test_a_profiler_of_the_user_s_is_left_alone() -> None:
    done: list[Any] = []
    with profile(activities=[ProfilerActivity.CPU]) as own:
        assert allocated_peak(lambda: done.append(torch.ones(10) + 1), CPU) is None
    assert len(done) == 1
    assert any(event.key == "aten::add" for event in own.key_averages())


def test_what_work_raises_comes_through() -> None:
    def fail() -> None:
        _ = torch.ones(10)
        raise MemoryError

    with pytest.raises(MemoryError):
        allocated_peak(fail, CPU)
    assert allocated_peak(lambda: None, CPU) == 0  # nobody is profiling any more


def test_nothing_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    """A stray line would tear the screen of a terminal app; torch warns of blocks that it did not see begin."""
    rubbish: list[Any] = [torch.ones(10)]
    rubbish.append(rubbish)
    del rubbish

    def work() -> None:
        _three_then_one()
        gc.collect()

    allocated_peak(work, CPU)
    assert capfd.readouterr() == ("", "")


STAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "pretrain": ("pretrain", {"packing": True}),
    "accumulation": ("sft", {"accumulation_steps": 2}),
    "experts": ("sft", {"num_experts": 4, "num_experts_per_tok": 2, "accumulation_steps": 2}),
    "checkpointing": ("sft", {"gradient_checkpointing": True}),
    "dropout": ("sft", {"dropout": 0.1}),
    "lora": ("lora", {}),
    "distill": ("distill", {}),
    "dpo": ("dpo", {}),
    "dpo precomputed": ("dpo", {"reference_log_probs": "precomputed"}),
    "reward": ("reward", {}),
}


@pytest.mark.parametrize(("stage", "settings"), STAGES.values(), ids=STAGES)
def test_it_is_the_peak_of_a_real_step(world: World, stage: str, settings: dict[str, Any]) -> None:
    made = assemble(world.begun(stage, "real", **settings))
    found = rehearsed_peak(made.stage, made.precision, CPU)
    assert found is not None
    made.round(0)  # the optimizer's state exists from now on
    steps = [[batch] * (2 if made.stage.accumulates else 1) for batch in made.stage.largest()]
    real = max(allocated_peak(lambda step=step: made.step(step), CPU) or 0 for step in steps)  # type: ignore[misc]
    assert 0 <= found.work - real < 8192  # the random numbers' state, put aside
    state = made.update.optimizer.state
    assert found.optimizer == sum(value.nbytes for each in state.values() for value in each.values())


def test_another_profiler_sees_the_same(world: World) -> None:
    made = assemble(world.begun("sft", "kineto", accumulation_steps=2))
    rehearse(made.stage, made.precision)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as own:
        rehearse(made.stage, made.precision)
    live = peak = 0
    events = [event for event in own.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    assert allocated_peak(lambda: rehearse(made.stage, made.precision), CPU) == peak


def test_every_weight_is_counted_once(world: World) -> None:
    tied = assemble(world.begun("pretrain", "tied"))
    weights = sum(p.numel() for p in tied.stage.model.parameters())
    found = step_peak(tied.stage, 1000)
    assert (found.weights, found.companions, found.gradients, found.work) == (4 * weights, 0, 4 * weights, 1000)
    tensors = len(list(tied.stage.model.parameters()))
    assert found.optimizer == 8 * weights + 4 * tensors
    assert found.peak_bytes == 4 * weights + 8 * weights + 4 * tensors + 1000

    begun = assemble(world.begun("sft", "shape", start_from="start"))
    start = 4 * sum(p.numel() for p in begun.stage.model.parameters())
    dpo = step_peak(assemble(world.begun("dpo", "pairs")).stage, 0)
    assert (dpo.weights, dpo.companions) == (start, start)
    ppo = step_peak(assemble(world.begun("ppo", "critic")).stage, 0)
    head = 4 * 16  # one number of 16 features
    assert (ppo.weights, ppo.companions, ppo.gradients) == (2 * start + head, start, 2 * start + head)
    lora = step_peak(assemble(world.begun("lora", "adapter")).stage, 0)
    assert lora.weights == start + lora.gradients and 0 < lora.gradients < start / 4


def test_the_table_that_a_reward_model_leaves_unused_is_counted(world: World) -> None:
    untied = world.trained("sft", "untied", tie_word_embeddings=False, max_steps=1)
    made = assemble(world.begun("reward", "scores", start_from=untied.name))
    table = made.stage.model.lm_head.weight.nbytes
    assert step_peak(made.stage, 0).companions == table > 0
