"""Which mean a policy loss takes: 10 tokens against 1,000, in the stages' own loss."""

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.settings.rollout import GrpoSettings
from engine.settings.spo import SpoSettings
from engine.stages.answers import PolicyBatch, policy_batch
from tests.stages.assembled import Assembled, answer_log_probs, assemble, made_answer
from tests.training.tiny import World

SHORT, LONG = 10, 1000
SHARES = {
    "sequence": (1 / 2, 1 / 2),
    "token": (SHORT / (SHORT + LONG), LONG / (SHORT + LONG)),
    "constant": (SHORT / (2 * LONG), LONG / (2 * LONG)),
}
"""What an answer's mean over its tokens weighs in the loss."""
LOSSES = [
    ("grpo", {"loss_type": "grpo"}, "sequence"),
    ("grpo", {"loss_type": "dapo"}, "token"),
    ("grpo", {"loss_type": "dr_grpo"}, "constant"),
    ("grpo", {"loss_type": "cispo"}, "token"),
    ("grpo", {"loss_type": "reinforce"}, "token"),
    ("spo", {"loss_type": "grpo"}, "sequence"),
    ("spo", {"loss_type": "dapo"}, "token"),
    ("ppo", {"aggregation": "sequence"}, "sequence"),
    ("ppo", {"aggregation": "token"}, "token"),
]


def _assembled(world: World, stage: str, **settings: Any) -> Assembled:
    world.trained("sft", "long", max_position_embeddings=2048, max_steps=1)
    more = {"max_steps": 8} if stage == "spo" else {}
    made = assemble(
        world.begun(stage, start_from="long", max_new_tokens=LONG, grad_clip=0.0, learning_rate=1e-30, weight_decay=0.0,
                    **more, **settings)
    )  # fmt: skip
    made.stage.model.eval()
    return made


def _batches(made: Assembled, advantages: tuple[float, float], together: bool) -> list[PolicyBatch]:
    """A short and a long answer as the stages gather them, in one micro-batch or in two."""
    dice, stage = random.Random(3), made.stage
    answers = [made_answer(stage, sample, [dice.randrange(10, 320) for _ in range(length)])
               for sample, length in enumerate((SHORT, LONG))]  # fmt: skip
    pairs = list(zip(answers, advantages, strict=True))
    gathered = [policy_batch(pairs)] if together else [policy_batch([pair]) for pair in pairs]
    found = [stage.with_scores(batch, old=True) for batch in gathered if batch]
    if hasattr(stage, "_critic"):
        found = [batch.with_tokens(value=batch.tokens["old"], **{"return": batch.tokens["old"] + 1}) for batch in found]
    return found


def _mean_log_probs(made: Assembled, batch: PolicyBatch) -> list[Tensor]:
    return [answer_log_probs(made.stage.model, d.input_ids, d.loss_weights).mean() for d in batch.batch.documents()]


@pytest.mark.parametrize(("stage", "settings", "aggregation"), LOSSES)
def test_what_an_answer_weighs(world: World, stage: str, settings: dict[str, Any], aggregation: str) -> None:
    """By the gradient: that of Σ share · advantage · mean log-probability, however micro-batches are cut."""
    made = _assembled(world, stage, **settings)
    for advantages in ((1.0, 0.0), (0.0, 1.0), (2.0, -1.0)):
        [whole] = _batches(made, advantages, together=True)
        weighed = zip(SHARES[aggregation], advantages, _mean_log_probs(made, whole), strict=True)
        loss = -torch.stack([share * advantage * mean for share, advantage, mean in weighed]).sum()
        parameters = dict(made.stage.model.named_parameters())
        expected = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
        for batches in ([whole], _batches(made, advantages, together=False)):
            found = made.gradient(batches)
            for name, gradient in expected.items():
                assert torch.allclose(found[f"model.{name}"], gradient.double(), rtol=1e-3, atol=1e-6), name


@pytest.mark.parametrize(("aggregation", "shares"), [("sequence", (0.5, 0.5)), ("token", (0.01, 0.99))])
def test_the_value_loss_is_averaged_as_the_policy_loss(
    world: World, aggregation: str, shares: tuple[float, float]
) -> None:
    """The critic begins at 0, the returns of the short answer are 2, of the long one 4: ½·R² a token."""
    made = _assembled(world, "ppo", aggregation=aggregation, value_clip=0.0)
    [batch] = _batches(made, (0.0, 0.0), together=True)
    returns = batch.tokens["old"] * 0 + 4
    returns[:SHORT] = 2
    outcome = made.step([batch.with_tokens(**{"return": returns})])
    assert outcome.terms["value_loss"] == pytest.approx(shares[0] * 2 + shares[1] * 8, rel=2e-3)


def test_the_default_is_not_the_length_biased_one() -> None:
    assert GrpoSettings().loss_type == SpoSettings().loss_type == "dapo"
