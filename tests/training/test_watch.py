"""Warnings by name: synthetic series for every condition, and real runs that go wrong."""

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine.runs.events import Evaluated, Event, Step, Warned
from engine.runs.folder import RunFolder
from engine.stages.supervised import Supervised
from engine.text.batching import Batch
from engine.training.watch import Watch
from tests.training.tiny import World, same_bits, tensors


def _loss_warnings(curve: Callable[[float], float], noise: float, steps: int = 1000, seed: int = 0) -> list[Warned]:
    """What is said about a loss over the share of the run, with normal noise."""
    dice, watch = random.Random(seed), Watch(steps)
    return [
        warned
        for step in range(1, steps + 1)
        for warned in watch.step(step, curve(step / steps) + dice.gauss(0, noise), 1)
    ]


def _reported(step: int, **metrics: float) -> Step:
    return Step(step=step, epoch=0.0, tokens=1000 * step, metrics=metrics)


@pytest.mark.parametrize(("steps", "noise"), [(80, 0.0), (200, 0.05), (1000, 0.15), (20_000, 0.3)])
def test_a_loss_that_never_falls(steps: int, noise: float) -> None:
    [warned] = _loss_warnings(lambda _: 5.5, noise, steps)
    assert warned.name == "loss_not_falling" and "hardly fallen" in warned.message
    assert 0.3 * steps <= warned.step < steps


@pytest.mark.parametrize("noise", [0.05, 0.3])
def test_a_loss_that_rises_again(noise: float) -> None:
    for curve, share in (
        (lambda p: 3 - 5 * min(p, 0.4) + (1 if p > 0.6 else 0), 0.6),
        (lambda p: 3 + 5 * p, 0.3),
        (lambda p: 2 + math.exp(-20 * p) + 3 * max(p - 0.5, 0), 0.5),
    ):
        [warned] = _loss_warnings(curve, noise)
        assert warned.name == "loss_not_falling" and "risen" in warned.message
        assert share * 1000 <= warned.step <= (share + 0.3) * 1000


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
@pytest.mark.parametrize(
    "curve",
    [
        lambda p: 2 + 5 * math.exp(-8 * p),  # pretraining
        lambda p: 1 + 4 * math.exp(-50 * p),  # all is learnt in the first steps
        lambda p: 1.9 - 0.4 * p,  # fine-tuning: slow and noisy
        lambda p: 4 - 3 * min(p / 0.3, 1),  # learnt, then flat
        lambda p: 0.5 * math.exp(-20 * p) + 0.001 * p,  # learnt by heart
    ],
)
def test_losses_that_fall_are_left_alone(curve: Callable[[float], float], noise: float) -> None:
    assert [_loss_warnings(curve, noise, seed=seed) for seed in range(10)] == [[]] * 10


def test_nothing_is_said_where_it_cannot_be_told() -> None:
    assert _loss_warnings(lambda _: 5.5, 0.1, steps=35) == []  # too short
    assert [_loss_warnings(lambda _: 2.0, 2.0, seed=seed) for seed in range(5)] == [[]] * 5  # nothing but noise
    early = Watch(1000)
    assert [w for step in range(1, 299) for w in early.step(step, 5.5, 1)] == []
    rewards = Watch(1000, falling=False)
    assert [w for step in range(1, 1001) for w in rewards.step(step, 0.0, 1)] == []


def test_validation_at_its_best_is_the_better_witness() -> None:
    watch, said = Watch(1000), []
    for step in range(1, 1001):
        said += watch.step(step, 5.5, 1)
        if step % 100 == 0:
            said += watch.evaluation(Evaluated(step=step, metrics={"val_loss": 3 - step / 1000}))
    assert said == []


def test_a_condition_is_said_again_when_it_came_back() -> None:
    losses = [5.0] * 400 + [2.0] * 300 + [4.0] * 300
    watch = Watch(1000)
    said = [warned.step for step, loss in enumerate(losses, 1) for warned in watch.step(step, loss, 1)]
    assert len(said) == 2 and said[0] == 300 and 700 < said[1] <= 850


def _norms(values: list[float]) -> list[int]:
    watch = Watch(1000)
    return [w.step for step, value in enumerate(values) for w in watch.report(_reported(step, grad_norm=value))]


def test_gradient_norms() -> None:
    calm = [1.0 + 0.3 * (number % 3) for number in range(30)]
    assert _norms([*calm, 30.0, 30.0, *calm]) == []  # two are chance
    assert _norms([*calm, 30.0, 40.0, 50.0, 60.0, 60.0]) == [32]
    assert _norms([*calm, 30.0, math.nan, 40.0, math.inf, 50.0]) == [34]
    assert _norms([1.0, 1.0, 90.0, 90.0, 90.0, 90.0]) == []  # who knows what is usual
    assert _norms([*calm, *[30.0] * 5, *calm, *[30.0] * 5]) == [32, 67]
    decline = [50 * math.exp(-number / 10) + 0.1 for number in range(100)]
    assert _norms(decline) == []


def _speeds(values: list[float], seconds: float = 10.0) -> list[int]:
    watch, tokens, said = Watch(1000), 0.0, []
    for step, value in enumerate(values):
        tokens += seconds * value
        event = Step(step=step, epoch=0.0, tokens=int(tokens), metrics={"tokens_per_second": value})
        said += [warned.step for warned in watch.report(event)]
    return said


def test_speed() -> None:
    usual = [1000.0, 1100.0, 900.0] * 10
    assert _speeds([*usual, *[400.0] * 10]) == [34]
    assert _speeds([*usual, *[400.0] * 4, *usual]) == []  # over before it mattered
    assert _speeds([*usual, *[600.0] * 20]) == []
    assert _speeds([*usual, *[400.0] * 20], seconds=1.0) == []  # 20 seconds are no while
    assert _speeds([1000.0, *[400.0] * 20, 1000.0]) == []  # the first report is no median
    assert len(_speeds([*usual, *[400.0] * 6, *usual, *[400.0] * 6])) == 2


def _validations(values: list[float]) -> list[int]:
    watch = Watch(1000)
    return [
        warned.step
        for step, value in enumerate(values)
        for warned in watch.evaluation(Evaluated(step=step, metrics={"val_loss": value}))
    ]


def test_memory_that_keeps_rising() -> None:
    def named(held: Callable[[int], float]) -> list[int]:
        watch = Watch(400)
        events = [Step(step=n, epoch=0.0, tokens=n, metrics={"memory_bytes": held(n)}) for n in range(1, 121)]
        return [said.step for event in events for said in watch.report(event) if said.name == "memory_rising"]

    mib = 1 << 20
    assert named(lambda n: (1000 + 5 * n) * mib)[0] == 60, "the first 20 do not count, then 40 are looked at"
    assert not named(lambda n: (1000 + 50 * min(n, 20)) * mib), "a run may find its level"
    assert not named(lambda n: (1000 + n) * mib), "32 MiB in 1,000 are no leak yet"
    assert not named(lambda n: (1000 + 300 * (n % 7)) * mib), "up and down is no trend"


def test_validation_that_rises() -> None:
    assert _validations([3.0, 2.0, 2.1, 2.2, 2.3, 2.4]) == [4]
    assert _validations([3.0, 2.0, 2.2, 2.1, 2.3, 2.2, 2.4]) == []  # up and down
    assert _validations([2.0, 2.001, 2.002, 2.003]) == []  # by nothing
    assert _validations([0.001, 0.002, 0.003, 0.004]) == []
    assert _validations([3.0, 1.0, 2.0, 1.1, 1.2, math.nan, 1.3]) == []
    assert _validations([3.0, 1.0, 2.0, 1.1, 1.2, math.nan, 1.3, 1.4]) == [7]
    assert _validations([2.0, 2.1, 2.2, 2.3, 1.0, 1.1, 1.2, 1.3]) == [3, 7]
    watch = Watch(100)
    assert list(watch.evaluation(Evaluated(step=1, metrics={"reward": 1.0}))) == []


def test_steps_without_a_trained_token() -> None:
    watch = Watch(1000)
    said = [w for step in range(1, 301) for w in watch.step(step, 1.0, 0 if step in (5, 7, 9, 200) else 1)]
    assert [(warned.name, warned.step) for warned in said if warned.name == "nothing_trained"] == [
        ("nothing_trained", 5), ("nothing_trained", 200),
    ]  # fmt: skip


def test_a_history_is_read_as_it_was_lived() -> None:
    events: list[Event] = []
    for step in range(1, 101):
        norm = 50.0 if step >= 90 else 1.0
        events.append(_reported(step, loss=5.0, grad_norm=norm, tokens_per_second=100.0))
        if step % 10 == 0:
            events.append(Evaluated(step=step, metrics={"val_loss": 1 + step / 100}))
    whole = [(warned.name, warned.step) for warned in Watch(100).replay(events)]
    assert whole == [("loss_not_falling", 30), ("loss_rising_on_validation", 40), ("grad_norm_exploding", 92)]
    for cut in (20, 45, 99, 105):
        resumed = Watch(100)
        first = resumed.replay(events[:cut])
        assert [(warned.name, warned.step) for warned in first + resumed.replay(events[cut:])] == whole


def _warnings(run: RunFolder) -> list[str]:
    return [event.name for event in run.history() if isinstance(event, Warned)]


REAL: dict[str, Any] = {"max_steps": 80, "lr_schedule": "constant", "warmup_steps": 0, "sample_tokens": 0}


def test_real_runs(world: World) -> None:
    """A healthy one, one with a learning rate that explodes, one with a learning rate of nothing."""
    assert _warnings(world.trained("sft", "fine", learning_rate=1e-2, **REAL)) == []
    wild = world.trained("sft", "wild", learning_rate=10.0, grad_clip=0.0, **REAL)
    assert "loss_not_falling" in _warnings(wild)
    assert _warnings(world.trained("sft", "still", learning_rate=1e-9, **REAL)) == ["loss_not_falling"]


def test_a_resumed_run_does_not_repeat_itself(world: World) -> None:
    import threading

    from engine.errors import Interrupted
    from engine.session import carry_out

    changes = {**REAL, "learning_rate": 1e-9, "eval_interval": 10, "dropout": 0.1}
    whole = world.trained("sft", "whole", **changes)
    run, interrupt = world.begun("sft", "cut", **changes), threading.Event()

    def listen(event: Event) -> None:
        if isinstance(event, Step) and event.step == 50:
            interrupt.set()

    with pytest.raises(Interrupted):
        carry_out(run, interrupt=interrupt, listener=listen)
    assert _warnings(run) == ["loss_not_falling"]
    carry_out(run, resume=True)
    assert _warnings(run) == _warnings(whole) == ["loss_not_falling"]
    assert same_bits(tensors(run), tensors(whole))


def test_a_real_step_without_a_trained_token(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Supervised.collect

    def collect(self: Supervised, round: int) -> list[list[Batch]]:
        steps = real(self, round)
        if round == 2:
            for batch in steps[0]:
                np.copyto(batch.loss_weights, 0)
        return steps

    monkeypatch.setattr(Supervised, "collect", collect)
    run = world.trained("sft", max_steps=5)
    [warned] = [event for event in run.history() if isinstance(event, Warned)]
    assert (warned.name, warned.step) == ("nothing_trained", 3)
    assert not any(event.type == "non_finite_step" for event in run.history())
