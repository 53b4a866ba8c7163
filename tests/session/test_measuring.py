"""The speed of a few real steps, and what a plan makes of it."""

from dataclasses import replace

import pytest

from engine.runs.folder import list_runs
from engine.session.measuring import measure_speed
from engine.session.planning import plan_request
from tests.training.tiny import OF_STAGE, World, request


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"))


def test_a_few_steps_tell_the_time_and_leave_nothing(world: World) -> None:
    wanted = request("pretrain", world.texts, world.tokenizer, "long", max_steps=10_000)
    speed = measure_speed(wanted)
    assert 0 < speed.fastest <= speed.seconds_per_step <= speed.slowest and speed.tokens_per_second > 0
    assert not [run for run in list_runs() if run.name.startswith("measured-")]
    plan = plan_request(wanted, speed=speed)
    low, high = plan.time["seconds_range"]
    assert low <= plan.time["seconds"] <= high and plan.time["tokens_per_second"] == speed.tokens_per_second
    twice = plan_request(replace(wanted, assignments=(*wanted.assignments, "max_steps=20000")), speed=speed)
    assert twice.time["seconds"] == pytest.approx(2 * plan.time["seconds"])


def test_answers_are_timed_by_the_step(world: World) -> None:
    settings = {**OF_STAGE["grpo"], "max_steps": 100}
    wanted = request("grpo", world.prompts, world.tokenizer, "answers", world.start(), **settings)
    speed = measure_speed(wanted)
    assert plan_request(wanted, speed=speed).time["seconds"] == 100 * speed.seconds_per_step
