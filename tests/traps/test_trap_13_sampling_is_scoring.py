"""What is sampled from is what is scored: same temperature, nothing cut off; the first ratio is 1."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine.errors import UserError
from engine.generation.settings import SamplingSettings
from engine.model.lora import adapters
from engine.runs.events import Step, Warned
from engine.runs.folder import RunFolder
from engine.stages import policy
from engine.training.device import Device
from tests.stages.assembled import answer_log_probs, assemble, shake
from tests.training.tiny import World

STAGES = ["grpo", "ppo", "spo"]


def _steps(run: RunFolder) -> list[dict[str, float]]:
    return [event.metrics for event in run.history() if isinstance(event, Step) and "ratio" in event.metrics]


def _warnings(run: RunFolder) -> list[str]:
    return [event.name for event in run.history() if isinstance(event, Warned)]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("temperature", [0.6, 1.7])
def test_the_first_ratio_is_1_and_later_ones_are_not(world: World, stage: str, temperature: float) -> None:
    """Two updates a round; sampled and scored log-probabilities are the same at any temperature."""
    twice: dict[str, dict[str, Any]] = {
        "grpo": {"updates_per_rollout": 2},
        "spo": {"updates_per_rollout": 2},
        "ppo": {"ppo_epochs": 2, "mini_batches": 1},
    }
    run = world.trained(stage, temperature=temperature, learning_rate=1e-2, **twice[stage])
    steps = _steps(run)
    assert [found["ratio"] for found in steps[::2]] == pytest.approx([1.0] * len(steps[::2]), abs=1e-6)
    assert all(found["kl_old"] == pytest.approx(0, abs=1e-6) for found in steps[::2])
    assert all(found["kl_old"] > 1e-6 for found in steps[1::2] if found["grad_norm"])
    assert max(found["sampler_distance"] for found in steps) <= 1e-5
    assert "sampler_is_not_scorer" not in _warnings(run)


@pytest.mark.parametrize("stage", STAGES)
def test_the_first_ratio_in_bfloat16(world: World, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "has_bfloat16", lambda self: True)
    run = world.trained(stage, dtype="bfloat16", temperature=1.3, **({"max_steps": 4} if stage != "spo" else {}))
    steps = _steps(run)
    per_round = {"grpo": 2, "ppo": 2, "spo": 1}[stage]
    assert [found["ratio"] for found in steps[::per_round]] == pytest.approx([1.0] * len(steps[::per_round]), abs=1e-3)
    assert np.mean([found["sampler_distance"] for found in steps]) <= 5e-3
    assert "sampler_is_not_scorer" not in _warnings(run)


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_sampled_is_the_whole_distribution_at_the_temperature(world: World, stage: str) -> None:
    """Against whole softmaxes, answer by answer; every token of the vocabulary can be drawn."""
    made = assemble(world.begun(stage, temperature=1.7))
    for group in made.stage.answer([0, 1, 2], 8, "rollout", 0):
        for answer in group:
            ids = [*answer.prompt, *answer.rollout.ids]
            weights = np.arange(len(ids)) >= len(answer.prompt)
            expected = answer_log_probs(made.stage.model, ids, weights.tolist(), heat=1.7)
            assert answer.rollout.log_probs == pytest.approx(expected.tolist(), abs=1e-5)
    said = {token for group in made.stage.answer([0, 1], 60, "many") for a in group for token in a.rollout.ids}
    assert len(said) > 290, "320 tokens, nothing cut off"


def test_old_log_probs_come_from_the_forward_pass_of_training(world: World) -> None:
    """Whatever the sampler thought of its tokens, the ratio begins at exactly 1."""
    made = assemble(world.begun("grpo", num_generations=8))
    [batches, _] = made.stage.collect(0)
    assert batches
    lied = [batch.with_tokens(sampled=batch.tokens["sampled"] - 0.3) for batch in batches]
    outcome = made.step(lied)
    assert outcome.terms["ratio"] == 1 and outcome.terms["kl_old"] == 0
    assert outcome.terms["sampler_distance"] == pytest.approx(0.3, abs=1e-4)
    [(name, message)] = made.warned
    assert name == "sampler_is_not_scorer" and "0.3 nats" in message
    made.step(lied)
    assert len(made.warned) == 1, "it is said once"


def test_a_single_update_is_its_own_old_policy(world: World) -> None:
    """Nobody asks the policy twice, and nothing is clipped: the gradient is −A·∇log π."""
    made = assemble(world.begun("grpo", updates_per_rollout=1, clip_low=0.01, clip_high=0.01))
    [batches] = made.stage.collect(0)
    assert all("old" not in batch.tokens for batch in batches)
    outcome = made.step(batches)
    assert outcome.terms["ratio"] == 1 and outcome.terms["clip_share"] == 0 and outcome.norm > 0


@pytest.mark.parametrize("stage", STAGES)
def test_rollouts_cut_to_the_top_are_seen(world: World, stage: str) -> None:
    """A user's own choice: measured, not warned of. The ratio still begins at 1."""
    run = world.trained(stage, rollout_top_k=5, **({"max_steps": 2} if stage != "spo" else {}))
    steps = _steps(run)
    assert steps[0]["ratio"] == pytest.approx(1, abs=1e-6)
    assert min(found["sampler_distance"] for found in steps) > 1
    assert "sampler_is_not_scorer" not in _warnings(run)


def test_sampling_at_another_temperature_is_warned_of(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = policy.roll_out

    def hotter(model: Any, prompts: Any, copies: int, settings: SamplingSettings, *rest: Any, **more: Any) -> Any:
        return sample(model, prompts, copies, replace(settings, temperature=3.0), *rest, **more)

    monkeypatch.setattr(policy, "roll_out", hotter)
    run = world.trained("grpo", max_steps=4, temperature=0.8)
    assert _warnings(run).count("sampler_is_not_scorer") == 1


@pytest.mark.parametrize("stage", STAGES)
def test_dropout_is_refused(world: World, stage: str) -> None:
    """The policy that is scored would not be the one that answered."""
    with pytest.raises(UserError, match="dropout"):
        world.begun(stage, dropout=0.1)


def test_sampling_and_scoring_are_in_evaluation_mode(world: World) -> None:
    """Whatever mode the loop left the policy in."""
    made = assemble(world.begun("ppo", lora_rank=2, mini_batches=1))
    shake(made.stage.model)
    made.stage.model.train()
    for layer in adapters(made.stage.model).values():
        layer.config = replace(layer.config, dropout=0.5)
    [batches] = list(made.stage.collect(0))
    for batch in batches:
        assert np.abs(batch.tokens["old"] - batch.tokens["sampled"]).max() <= 1e-5
    assert abs(made.step(batches).terms["ratio"] - 1) > 1e-4, "dropout is alive in the update"
