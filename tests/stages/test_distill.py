"""Distillation as a stage: its terms, who may be the teacher, and that the student comes near to it."""

from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import UserError
from engine.model.loading import load_model
from engine.model.lora import merge
from engine.runs.events import Evaluated, Step
from engine.session import begin
from tests.stages.assembled import assemble, logits_of
from tests.training.tiny import World, losses, request


def test_alpha_1_is_plain_fine_tuning(world: World) -> None:
    world.trained("sft", "teacher", hidden_size=24, max_steps=4)
    plain = world.trained("sft", "plain", start_from="start")
    run = world.trained("distill", teacher="teacher", alpha=1.0)
    assert losses(run) == pytest.approx(losses(plain), rel=1e-6)
    steps = [event.metrics for event in run.history() if isinstance(event, Step)]
    assert all(found["divergence"] > 0 for found in steps), "it is still shown"


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_the_student_comes_near_to_its_teacher(world: World, direction: str) -> None:
    """From the divergence alone, without a look at the answers."""
    world.trained("sft", "teacher", hidden_size=24, learning_rate=1e-2, max_steps=30)
    run = world.trained("distill", teacher="teacher", alpha=0.0, direction=direction, learning_rate=1e-2, max_steps=60,
                        eval_interval=30)  # fmt: skip
    steps = [event.metrics for event in run.history() if isinstance(event, Step)]
    first, last = (np.mean([found["divergence"] for found in part]) for part in (steps[:3], steps[-3:]))
    assert last < 0.3 * first
    validated = [event.metrics["val_loss"] for event in run.history() if isinstance(event, Evaluated)]
    assert len(validated) == 2 and validated[-1] < steps[0]["cross_entropy"] - 1


def test_no_teacher_is_refused(world: World) -> None:
    world.start()
    with pytest.raises(UserError, match="no teacher is named"):
        begin(request("distill", world.talks, world.tokenizer, "none", "start"))


def test_an_adapter_may_teach(world: World) -> None:
    """With what it makes of its base, which it may share with the student."""
    tuned = world.trained("lora", "tuned", learning_rate=3e-2, max_steps=20)
    made = assemble(world.begun("distill", teacher="tuned"))
    merged = load_model(tuned.select("newest"))
    merge(merged)
    ids = list(range(40, 60))
    with torch.no_grad():
        assert (logits_of(made.stage._teacher, ids) - logits_of(merged, ids)).abs().max() <= 1e-5
    assert made.round(0)[0].terms["divergence"] > 1e-4, "it is not its base"


def test_experts_may_learn_from_a_dense_teacher(world: World) -> None:
    world.trained("sft", "experts", num_experts=4, num_experts_per_tok=2, max_steps=1)
    run = world.trained("distill", start_from="experts", teacher="start", max_steps=3)
    steps = [event.metrics for event in run.history() if isinstance(event, Step)]
    for found in steps:
        expected = 0.5 * found["cross_entropy"] + 0.5 * 1.5**2 * found["divergence"] + 0.01 * found["balance"]
        assert found["loss"] == pytest.approx(expected, rel=0.01)


def test_from_random_weights_on_running_text(world: World) -> None:
    """A student may begin from nothing, and read what its teacher was pretrained on."""
    world.trained("pretrain", "teacher", max_steps=4)
    settings: dict[str, Any] = {"teacher": "teacher", "max_steps": 2}
    run = begin(request("distill", world.texts, world.tokenizer, "new", **settings))
    made = assemble(run)
    assert not run.companion("start").exists() and made.round(0)[0].applied
