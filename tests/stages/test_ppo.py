"""PPO as a stage: its critics, where the divergence counts, mini-batches, and that it learns."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import UserError
from engine.model.heads import ScalarModel
from engine.runs.events import Step
from engine.session import begin, carry_out
from engine.text.tokenizer_training import train_tokenizer
from tests.stages.assembled import answer_log_probs, assemble, shake, write_reward
from tests.training.tiny import World, request, write_pairs

LETTERS = "return (len(answer) % 7) / 6"


@pytest.fixture
def by_length(tmp_path: Path) -> dict[str, Any]:
    """Rewards that differ from answer to answer."""
    return {"rewards": {"python": 1.0}, "reward_python": str(write_reward(tmp_path / "letters.py", LETTERS))}


def test_the_divergence_counts_once(world: World, by_length: dict[str, Any]) -> None:
    """In the loss its gradient pulls and rewards are as they came; in the reward the loss has nothing of it."""
    found = {}
    for place in ("loss", "reward"):
        settings: dict[str, Any] = {"kl_in": place, "kl_coefficient": 0.3, "kl_estimator": "k3", "whiten": False,
                                    "mini_batches": 1, "gae_lambda": 1.0}  # fmt: skip
        made = assemble(world.begun("ppo", place, **settings, **by_length))
        shake(made.stage.model)
        answers, batches = made.stage._judged_batches(0)
        ratio = torch.cat([
            answer_log_probs(made.stage.model, d.input_ids, d.loss_weights).detach()
            - answer_log_probs(made.stage.policy_reference.model, d.input_ids, d.loss_weights).detach()
            for batch in batches for d in batch.batch.documents()
        ])  # fmt: skip
        cost = torch.exp(-ratio) - 1 + ratio
        advantages = np.concatenate([batch.tokens["advantage"] for batch in batches])
        first = answers[0]
        spent = float(cost[: len(first.rollout.ids)].sum()) if place == "reward" else 0.0
        assert advantages[0] == pytest.approx(first.reward - 0.3 * spent, rel=1e-3), "a critic of zeros, λ = 1"
        outcome = made.step(batches)
        expected = -advantages.mean() + (0.3 * float(cost.mean()) if place == "loss" else 0.0)
        assert outcome.terms["loss"] == pytest.approx(expected, rel=1e-3)
        assert outcome.terms["kl_ref"] == pytest.approx(float(cost.mean()), rel=1e-3), "measured either way"
        found[place] = outcome.terms["kl_ref"]
    assert min(found.values()) > 0.01


def test_old_and_start_are_two_divergences(world: World, by_length: dict[str, Any]) -> None:
    """Within a round from the sampler, over the run from the start."""
    run = world.trained("ppo", ppo_epochs=2, mini_batches=1, learning_rate=1e-2, max_steps=16, early_stop_kl=0.0,
                        **by_length)  # fmt: skip
    steps = [event.metrics for event in run.history() if isinstance(event, Step)]
    assert steps[0]["kl_ref"] == pytest.approx(0, abs=1e-6)
    assert all(found["kl_old"] == pytest.approx(0, abs=1e-6) for found in steps[::2])
    assert steps[-2]["kl_ref"] > 1e-3 > steps[-2]["kl_old"]


def test_values_may_move_so_far_and_no_further(world: World, by_length: dict[str, Any]) -> None:
    """max((V − R)², (clip(V) − R)²)/2: beyond the clip the worse of the two counts, and its gradient is gone."""
    made = assemble(world.begun("ppo", value_clip=0.1, mini_batches=1, **by_length))
    _, batches = made.stage._judged_batches(0)
    losses = []
    for batch in batches:
        values = np.full(batch.count, -0.4, dtype=np.float32)  # the critic says 0 now: further away than 0.1
        changed = batch.with_tokens(value=values, **{"return": np.full(batch.count, 1.0, dtype=np.float32)})
        losses.append(changed)
    outcome = made.step(losses)
    assert outcome.terms["value_loss"] == pytest.approx(0.5 * (-0.3 - 1.0) ** 2, rel=1e-5)


def test_mini_batches_share_the_round(world: World, by_length: dict[str, Any]) -> None:
    made = assemble(world.begun("ppo", ppo_epochs=2, mini_batches=3, accumulation_steps=4, batch_size=2,
                                early_stop_kl=0.0, **by_length))  # fmt: skip
    steps = list(made.stage.collect(0))
    assert sorted(map(len, steps[:3])) == sorted(map(len, steps[3:])) == [1, 1, 2]
    for passes in (steps[:3], steps[3:]):
        samples = [int(one) for batches in passes for batch in batches for one in batch.batch.samples]
        assert sorted(samples) == sorted(sample for prompts in made.stage.prompts_of(0) for sample in prompts)
    with pytest.raises(UserError, match="mini_batches") as refused:
        assemble(world.begun("ppo", "too-many", mini_batches=3, accumulation_steps=2))
    assert refused.value.hint == "raise accumulation_steps to 3"


@pytest.mark.parametrize("shape", [{"tie_word_embeddings": True}, {"tie_word_embeddings": False}])
def test_a_critic_of_its_own_begins_as_the_start_with_values_of_0(world: World, shape: dict[str, Any]) -> None:
    world.trained("sft", "shaped", max_steps=1, **shape)
    made = assemble(world.begun("ppo", start_from="shaped", gradient_checkpointing=True))
    critic = made.stage._critic
    assert isinstance(critic, ScalarModel) and critic.score.weight.abs().max() == 0
    assert critic.transformer.gradient_checkpointing, "what saves the actor's memory saves the critic's"
    mine = dict(made.stage.model.model.state_dict())
    for name, tensor in critic.transformer.model.state_dict().items():
        assert torch.equal(tensor, mine[name]) and tensor.data_ptr() != mine[name].data_ptr()
    assert made.round(0)[0].applied


def test_its_critic_is_a_folder_that_transformers_reads(world: World, by_length: dict[str, Any]) -> None:
    from transformers import AutoModelForSequenceClassification

    run = world.trained("ppo", learning_rate=1e-2, **by_length)
    made = assemble(world.begun("ppo", "again", **by_length))
    made.stage.load_model(run.select("newest"))
    theirs = AutoModelForSequenceClassification.from_pretrained(run.select("newest") / "critic")
    batch = next(iter(made.stage.collect(0)))[0]
    [document, *_] = batch.batch.documents()
    moved = made.stage.to_device(document)
    with torch.no_grad():
        values = made.stage._critic.eval()(moved.tokens, moved.positions, moved.attention)
        for end in (3, 7):
            found = theirs(moved.tokens[None, :end]).logits[0, 0]
            assert float(found) == pytest.approx(float(values[end - 1]), abs=1e-5) != 0


def test_a_critic_of_other_tokens_is_refused(world: World, tmp_path: Path) -> None:
    other = tmp_path / "other"
    train_tokenizer(["user\nassistant\nsmall stones and old bread, books for two boats"] * 20, 320).save(other)
    carry_out(begin(request("sft", world.talks, other, "stranger", max_steps=1)))
    pairs = write_pairs(tmp_path / "pairs.jsonl", rows=12)
    carry_out(begin(request("reward", pairs, other, "strange-judge", "stranger", max_steps=1)))
    with pytest.raises(UserError, match="another tokenizer") as refused:
        assemble(world.begun("ppo", critic_from="strange-judge"))
    assert refused.value.where == "critic_from"


@pytest.mark.parametrize("critic", ["own", "shared"])
def test_it_learns(world: World, tmp_path: Path, critic: str) -> None:
    """Reinforcement learning for real: the reward is the share of the letter e."""
    file = write_reward(tmp_path / "e.py", "return answer.count('e') / max(len(answer), 1)")
    settings: dict[str, Any] = {"rewards": {"python": 1.0}, "reward_python": str(file), "batch_size": 8,
                                "learning_rate": 3e-2, "early_stop_kl": 0.0, "mini_batches": 1,
                                "ppo_epochs": 1, "max_steps": 40}  # fmt: skip
    run = world.trained("ppo", critic=critic, **settings)
    steps = [event.metrics for event in run.history() if isinstance(event, Step)]
    assert np.mean([found["reward"] for found in steps[-3:]]) > 2 * np.mean([found["reward"] for found in steps[:3]])
