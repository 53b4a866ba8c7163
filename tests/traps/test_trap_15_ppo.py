"""PPO: the reward on the last real token, advantages and whitening over response tokens only, truncated is not
terminated, and an early stop that takes no step."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.model.attention import DocumentAttention
from engine.model.heads import ScalarModel, load_scalar_model
from engine.runs.events import Step
from engine.session import carry_out
from engine.stages.answers import Answer, PolicyBatch, policy_batch
from tests.stages.assembled import Assembled, answer_log_probs, assemble, made_answer, same, shake
from tests.training.tiny import World, tensors

PLAIN: dict[str, Any] = {"whiten": False, "kl_coefficient": 0.0, "gae_lambda": 0.95, "gamma": 1.0}


def _answers(made: Assembled, truncated: tuple[bool, ...] = (False, False, False)) -> list[Answer]:
    """Answers of 3, 7 and 5 tokens with rewards of 1, −2 and 0.5."""
    lengths, rewards = (3, 7, 5), (1.0, -2.0, 0.5)
    return [
        made_answer(made.stage, sample, range(50 + sample, 50 + sample + length), reward, "length" if cut else "stop")
        for sample, (length, reward, cut) in enumerate(zip(lengths, rewards, truncated, strict=True))
    ]


def _judged(made: Assembled, answers: list[Answer]) -> PolicyBatch:
    batch = policy_batch([(answer, 0.0) for answer in answers])
    assert batch is not None
    return made.stage._with_advantages(made.stage.with_scores(batch, old=True), answers)  # type: ignore[no-any-return]


def _split(answers: list[Answer], values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return np.split(values, np.cumsum([len(answer.rollout.ids) for answer in answers])[:-1])


@torch.no_grad()
def _values(made: Assembled, answer: Answer) -> Tensor:
    """The critic's value after the prompt, after each token of the answer; of this document alone."""
    critic = made.stage._critic
    ids = torch.tensor([*answer.prompt, *answer.rollout.ids])
    model = critic.transformer if isinstance(critic, ScalarModel) else made.stage.model
    head = critic.score if isinstance(critic, ScalarModel) else critic
    model.eval()
    hidden = model(ids, torch.arange(len(ids)), DocumentAttention([0, len(ids)], torch.device("cpu")))
    found: Tensor = (hidden @ head.weight.T)[len(answer.prompt) - 1 :, 0]
    return found


def test_the_reward_stands_on_the_last_real_token(world: World) -> None:
    """A critic of zeros and λ = 0: what is left of an advantage is the token's own reward."""
    made = assemble(world.begun("ppo", **PLAIN | {"gae_lambda": 0.0}))
    answers = _answers(made)
    for answer, advantages in zip(answers, _split(answers, _judged(made, answers).tokens["advantage"]), strict=True):
        assert advantages.tolist() == [0.0] * (len(advantages) - 1) + [answer.reward]


def test_advantages_run_over_response_tokens_only(world: World) -> None:
    """A critic of zeros: A_t = λ^(T − 1 − t) · R within each answer; nothing crosses into the next one."""
    made = assemble(world.begun("ppo", **PLAIN))
    answers = _answers(made)
    batch = _judged(made, answers)
    for answer, advantages in zip(answers, _split(answers, batch.tokens["advantage"]), strict=True):
        last = len(advantages) - 1
        assert advantages.tolist() == pytest.approx([answer.reward * 0.95 ** (last - t) for t in range(last + 1)])
    assert batch.count == len(batch.tokens["advantage"]) == 3 + 7 + 5


@pytest.mark.parametrize("critic", ["own", "shared"])
@pytest.mark.parametrize("treatment", ["mask", "score"])
def test_truncated_is_not_terminated(world: World, critic: str, treatment: str) -> None:
    """With `mask` the critic's value of what would follow stands in for the reward of an answer that was cut off."""
    made = assemble(world.begun("ppo", critic=critic, truncated=treatment, **PLAIN | {"gamma": 0.9}))
    shake(made.stage._critic, 0.3)
    answers = _answers(made, truncated=(False, True, False))
    batch = _judged(made, answers)
    parts = [_split(answers, batch.tokens[name]) for name in ("value", "advantage", "return")]
    for answer, values, advantages, returns in zip(answers, *parts, strict=True):
        expected = _values(made, answer)
        assert values.tolist() == pytest.approx(expected[:-1].tolist(), abs=1e-5)
        assert abs(values).max() > 0.01
        cut_off = answer.rollout.truncated and treatment == "mask"
        following, beyond = 0.0, float(expected[-1]) if cut_off else 0.0
        by_hand = []
        for place in reversed(range(len(values))):
            reward = answer.reward if place == len(values) - 1 and not cut_off else 0.0
            delta = reward + 0.9 * beyond - float(values[place])
            following = delta + 0.9 * 0.95 * following
            beyond = float(values[place])
            by_hand.append(following)
        assert advantages.tolist() == pytest.approx(by_hand[::-1], abs=1e-5)
        assert returns.tolist() == pytest.approx((advantages + values).tolist(), abs=1e-6)


def test_penalised_answers_are_terminated_with_the_lowest_reward(world: World) -> None:
    made = assemble(world.begun("ppo", truncated="penalise", max_new_tokens=3, rewards={"length": 1, "tags": 2},
                                **PLAIN | {"gae_lambda": 0.0}))  # fmt: skip
    answers, [batch, *_] = made.stage._judged_batches(0)
    assert all(answer.rollout.truncated and answer.reward == 0 < answer.scored.total for answer in answers)
    assert batch.tokens["advantage"].tolist() == [0.0] * batch.count


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_the_divergence_in_the_reward_costs_at_each_token(world: World, estimator: str) -> None:
    settings: dict[str, Any] = PLAIN | {"kl_coefficient": 0.3, "gae_lambda": 0.0, "kl_estimator": estimator}
    made = assemble(world.begun("ppo", temperature=1.4, **settings))
    shake(made.stage.model)
    answers = _answers(made)
    batch = _judged(made, answers)
    advantages = _split(answers, batch.tokens["advantage"])
    for answer, document, found in zip(answers, batch.batch.documents(), advantages, strict=True):
        policy, start = (
            answer_log_probs(model, document.input_ids, document.loss_weights, heat=1.4).detach()
            for model in (made.stage.model, made.stage.policy_reference.model)
        )
        ratio = policy - start
        cost = 0.3 * (ratio if estimator == "k1" else torch.exp(-ratio) - 1 + ratio)
        assert cost.abs().max() > 0.01
        cost[-1] -= answer.reward
        assert found.tolist() == pytest.approx((-cost).tolist(), abs=1e-4)


def test_whitening_is_over_all_response_tokens_of_the_round(world: World) -> None:
    rounds = []
    for whiten in (False, True):
        made = assemble(world.begun("ppo", str(whiten), **PLAIN | {"whiten": whiten}))
        shake(made.stage._critic, 0.1)
        _, batches = made.stage._judged_batches(0)
        assert len(batches) == 2
        rounds.append([batch.tokens for batch in batches])
    plain, white = (np.concatenate([tokens["advantage"] for tokens in found]) for found in rounds)
    assert white.tolist() == pytest.approx(((plain - plain.mean()) / plain.std()).tolist(), abs=1e-4)
    assert abs(white.mean()) < 1e-5 and white.std() == pytest.approx(1, abs=1e-4)
    for before, after in zip(*rounds, strict=True):
        assert np.array_equal(before["return"], after["return"]), "the critic learns the rewards as they are"
        assert abs(after["advantage"].mean()) > 1e-3, "not each micro-batch for itself"


@pytest.mark.parametrize("critic", ["own", "shared"])
def test_no_value_comes_from_another_document(world: World, critic: str) -> None:
    """There is no padding to read from: another neighbour, of another length, changes nothing of an answer."""
    made = assemble(world.begun("ppo", critic=critic, **PLAIN))
    shake(made.stage._critic, 0.3)
    first, second, third = _answers(made)
    longer = made_answer(made.stage, 7, range(90, 101), 5.0)
    names = ("value", "advantage", "return", "old", "reference")
    for neighbour in (first, third, longer):
        alone, beside = _judged(made, [second]).tokens, _judged(made, [neighbour, second]).tokens
        for name in names:
            assert beside[name][-7:].tolist() == pytest.approx(alone[name].tolist(), abs=1e-5)
    swapped = replace(longer, rollout=replace(longer.rollout, ids=longer.rollout.ids[::-1]), reward=-9.0)
    one, other = (_judged(made, [neighbour, second]) for neighbour in (longer, swapped))
    assert not np.allclose(one.tokens["value"][:-7], other.tokens["value"][:-7])
    for name in names:
        assert np.array_equal(one.tokens[name][-7:], other.tokens[name][-7:])


def test_prompt_tokens_have_no_loss(world: World) -> None:
    """A prompt's values and log-probabilities enter no term: every sum is over the answers' tokens."""
    made = assemble(world.begun("ppo", **PLAIN))
    shake(made.stage._critic, 0.3)
    answers = _answers(made)
    batch = _judged(made, answers)
    values = [_values(made, answer)[:-1] for answer in answers]
    returns = _split(answers, batch.tokens["return"])
    squares = sum(float(((v - torch.from_numpy(r)) ** 2).sum()) for v, r in zip(values, returns, strict=True))
    outcome = made.step([batch])
    assert outcome.terms["value_loss"] == pytest.approx(0.5 * squares / (3 + 7 + 5), rel=1e-4)
    assert outcome.terms["loss"] == pytest.approx(-float(batch.tokens["advantage"].mean()), rel=1e-4)


def test_an_early_stop_takes_no_step(world: World) -> None:
    """The second mini-batch sees a policy that has moved too far: it and the rest of the round are left out."""
    settings: dict[str, Any] = {"ppo_epochs": 3, "mini_batches": 2, "learning_rate": 3e-2, "warmup_steps": 0}
    made = assemble(world.begun("ppo", early_stop_kl=1e-4, **settings))
    for number in range(2):
        seen = []
        for place, batches in enumerate(made.stage.collect(number)):
            before, moments = made.weights(), made.moments()
            outcome = made.step(batches)
            if place == 0:
                made.stage.settle()
            seen.append(outcome.applied)
            assert same(made.weights(), before) is not outcome.applied
            assert same(made.moments(), moments) is not outcome.applied, "nor do momentum and its step count move"
            assert bool(batches) is (place < 2), "the rest of the round has no micro-batches"
            if place == 1:
                assert outcome.terms["kl_old"] > 1e-4 and outcome.norm > 0
        assert seen == [True] + 5 * [False], "and the next round begins anew"
        assert made.stage.metrics()["stopped_early"] == pytest.approx(5 / 6)
    free = assemble(world.begun("ppo", "free", early_stop_kl=0.0, **settings))
    assert [outcome.applied for outcome in free.round(0)] == [True] * 6


def test_a_run_with_early_stops_goes_on_and_says_so(world: World) -> None:
    settings: dict[str, Any] = {"ppo_epochs": 2, "mini_batches": 2, "learning_rate": 3e-2, "early_stop_kl": 1e-4}
    run = world.begun("ppo", max_steps=12, **settings)
    summary = carry_out(run)
    steps = [event.metrics for event in run.history() if isinstance(event, Step)]
    assert summary["status"] == "done" and summary["skipped_steps"] == 9 and len(steps) == 12
    assert math.fsum(found["stopped_early"] for found in steps if "stopped_early" in found) > 3


@pytest.mark.parametrize("critic", ["own", "shared"])
def test_both_kinds_of_critic_train(world: World, critic: str) -> None:
    run = world.begun("ppo", critic=critic, max_steps=40, learning_rate=1e-2, value_clip=0.0, early_stop_kl=0.0)
    carry_out(run)
    found = [e.metrics["value_loss"] for e in run.history() if isinstance(e, Step) and "value_loss" in e.metrics]
    assert np.mean(found[-6:]) < 0.5 * np.mean(found[:6])
    head = next(tensor for name, tensor in tensors(run).items()
                if name.startswith("critic") and name.endswith((":score.weight", ":weight")))  # fmt: skip
    assert head.abs().max() > 0.01


def test_whom_the_value_loss_moves(world: World) -> None:
    """An own critic leaves the actor alone; a shared one pulls at its trunk. Rates differ by module."""
    pulled = {}
    for critic in ("own", "shared"):
        made = assemble(world.begun("ppo", critic, critic=critic, critic_lr_ratio=7.0, value_clip=0.0, **PLAIN))
        shake(made.stage._critic, 0.3)
        batch = _judged(made, _answers(made)).with_tokens(advantage=np.zeros(15, dtype=np.float32))
        found = made.gradient([batch])
        pulled[critic] = sum(float(g.abs().sum()) for name, g in found.items() if name.startswith("model."))
        assert sum(float(g.abs().sum()) for name, g in found.items() if name.startswith("critic.")) > 0
        names = {parameter: name.partition(".")[0] for name, parameter in made.update.named}
        groups = made.update.optimizer.param_groups
        rates = {names[parameter]: group["rate"] for group in groups for parameter in group["params"]}
        assert rates == {"model": 1.0, "critic": 7.0}
    assert pulled["own"] == 0 < pulled["shared"]


@pytest.mark.parametrize("critic", ["own", "shared"])
def test_the_critic_is_in_the_checkpoint(world: World, critic: str) -> None:
    run = world.trained("ppo", critic=critic)
    saved = tensors(run)
    made = assemble(world.begun("ppo", "other", critic=critic))
    before = made.weights()
    made.stage.load_model(run.select("newest"))
    after = made.weights()
    moved = {name for name in after if name.startswith("critic.") and not torch.equal(before[name], after[name])}
    assert moved == {name for name in after if name.startswith("critic.")}
    moments = [name for name in saved if name.startswith("optimizer") and ":critic." in name]
    assert len(moments) == 3 * len(moved)


def test_a_critic_that_begins_as_a_reward_model(world: World) -> None:
    """Its values are the reward model's scores, at every token."""
    judge = world.trained("reward", max_steps=20, learning_rate=1e-2)
    made = assemble(world.begun("ppo", critic_from="reward", **PLAIN))
    scorer = load_scalar_model(judge.select("newest"))
    assert same(dict(scorer.state_dict()), dict(made.stage._critic.state_dict()))
    batch = _judged(made, _answers(made))
    assert np.abs(batch.tokens["value"]).max() > 0.01


def test_positions_of_a_prompt_do_not_depend_on_its_batch(world: World) -> None:
    """There is no left padding whose positions could be counted: documents begin at 0, whatever stands before."""
    made = assemble(world.begun("ppo"))
    first, second, _ = _answers(made)
    batch = policy_batch([(first, 0.0), (second, 0.0)])
    assert batch is not None
    moved = made.stage.to_device(batch.batch)
    lengths = np.diff(batch.batch.cu_seqlens)
    assert moved.positions.tolist() == [*range(lengths[0]), *range(lengths[1])]
    assert [document.tolist() for document in np.split(moved.documents.numpy(), [3])] == [[0] * 3, [1] * 7]
