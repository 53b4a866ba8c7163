"""GRPO: what groups teach, several updates on them, the divergence in the loss, what is logged and what is watched."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.runs.events import Evaluated, Step, Warned
from engine.runs.folder import RunFolder
from engine.session import begin, carry_out
from engine.text.records import open_records
from engine.training.watch import Watch
from tests.stages.assembled import answer_log_probs, assemble, shake, write_reward
from tests.training.tiny import OF_STAGE, World, request


def _steps(run: RunFolder) -> list[dict[str, float]]:
    return [event.metrics for event in run.history() if isinstance(event, Step)]


def _warnings(run: RunFolder) -> list[Warned]:
    return [event for event in run.history() if isinstance(event, Warned)]


def _rows(run: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.rollouts.read_text(encoding="utf-8").splitlines()]


def _groups(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    by_group: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_group.setdefault(row["group"], []).append(row)
    return list(by_group.values())


@pytest.fixture
def by_length(tmp_path: Path) -> dict[str, Any]:
    """Rewards that differ within almost every group: by the number of letters."""
    file = write_reward(tmp_path / "letters.py", "return (len(answer) % 7) ** 2 / 36")
    return {"rewards": {"python": 1.0}, "reward_python": str(file)}


@pytest.fixture
def many_e(tmp_path: Path) -> dict[str, Any]:
    """Rewards that are learnt soon: the share of the letter e."""
    file = write_reward(tmp_path / "e.py", "return answer.count('e') / max(len(answer), 1)")
    return {"rewards": {"python": 1.0}, "reward_python": str(file), "num_generations": 8}


def test_advantages_are_the_distance_to_the_group(world: World, by_length: dict[str, Any]) -> None:
    """As they are logged; each one for all tokens of its answer."""
    made = assemble(world.begun("grpo", num_generations=6, updates_per_rollout=1, **by_length))
    [batches] = made.stage.collect(0)
    made.stage.settle()
    groups = _groups(_rows(made.stage.context.run))
    assert len(groups) == 4 and {len(group) for group in groups} == {6}
    for group in groups:
        rewards = np.array([row["reward"] for row in group])
        expected = (rewards - rewards.mean()) / max(rewards.std(), 1e-4)
        assert [row["advantage"] for row in group] == pytest.approx(expected.tolist())
    logged = {tuple(row["answer_ids"]): row["advantage"] for row in _rows(made.stage.context.run)}
    seen = 0
    for batch in batches:
        for document in batch.documents():
            said = tuple(document.batch.input_ids[document.batch.loss_weights > 0].tolist())
            assert document.tokens["advantage"] == pytest.approx(logged[said], rel=1e-6)
            seen += 1
    assert seen == 24


def test_groups_may_be_compared_pairwise(world: World, by_length: dict[str, Any]) -> None:
    """How many answers one beats, less how many beat it: an outlier counts no more than the next best."""
    settings: dict[str, Any] = {"num_generations": 6, "compare": "pairwise", "advantage_std": "none", "max_steps": 2}
    run = world.trained("grpo", **settings, **by_length)
    distinct = 0
    for group in _groups(_rows(run)):
        rewards = [row["reward"] for row in group]
        wins = [np.mean([np.sign(mine - other) for other in rewards if other is not mine]) for mine in rewards]
        advantages = [row["advantage"] for row in group]
        assert np.argsort(advantages, kind="stable").tolist() == np.argsort(wins, kind="stable").tolist()
        scale = np.linalg.norm(advantages) / max(float(np.linalg.norm(wins)), 1e-9)
        assert advantages == pytest.approx((scale * np.array(wins)).tolist(), abs=1e-6)
        distinct += len(set(rewards)) > 2
    assert distinct


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_the_divergence_is_in_the_loss(world: World, by_length: dict[str, Any], estimator: str) -> None:
    """Mean over tokens of −A + β·KL, of a policy that has left its start."""
    made = assemble(world.begun("grpo", num_generations=6, updates_per_rollout=1, kl_coefficient=0.3, temperature=1.3,
                                kl_estimator=estimator, **by_length))  # fmt: skip
    shake(made.stage.model)
    [batches] = made.stage.collect(0)
    costs, advantages, k3 = [], [], []
    for batch in batches:
        advantages.append(batch.tokens["advantage"])
        for document in batch.batch.documents():
            policy, start = (
                answer_log_probs(model, document.input_ids, document.loss_weights, heat=1.3).detach()
                for model in (made.stage.model, made.stage.policy_reference.model)
            )
            ratio = policy - start
            k3.append(torch.exp(-ratio) - 1 + ratio)
            costs.append(ratio if estimator == "k1" else k3[-1])
    outcome = made.step(batches)
    expected = 0.3 * float(torch.cat(costs).mean()) - float(np.concatenate(advantages).mean())
    assert outcome.loss == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert outcome.terms["kl_ref"] == pytest.approx(float(torch.cat(k3).mean()), rel=1e-3)
    assert outcome.terms["kl_ref"] > 0.01


def test_without_a_divergence_no_reference_is_kept(world: World) -> None:
    run = world.begun("grpo")
    made = assemble(run)
    assert made.stage.policy_reference is None and not run.companion("start").exists()
    assert "kl_ref" not in made.round(0)[0].terms


def test_a_divergence_keeps_the_policy_near_its_start(world: World, many_e: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"updates_per_rollout": 1, "learning_rate": 1e-2, "max_steps": 16, **many_e}
    moved = {
        coefficient: _steps(world.trained("grpo", f"kl-{coefficient}", kl_coefficient=coefficient, **settings))
        for coefficient in (0.001, 3.0)
    }
    free, held = (np.mean([found["kl_ref"] for found in steps[-6:]]) for steps in moved.values())
    assert held < 0.3 * free


def test_several_updates_see_the_same_answers_with_real_ratios(world: World, by_length: dict[str, Any]) -> None:
    """The old policy stays the one that sampled: ratios leave 1, and at last the clip decides."""
    made = assemble(world.begun("grpo", num_generations=6, updates_per_rollout=4, learning_rate=3e-2, warmup_steps=0,
                                clip_low=0.05, clip_high=0.05, **by_length))  # fmt: skip
    steps = list(made.stage.collect(0))
    assert len(steps) == 4 and all(batches is steps[0] for batches in steps)
    first, *later = [made.step(batches).terms for batches in steps]
    assert first["ratio"] == 1 and first["clip_share"] == 0
    assert later[-1]["kl_old"] > first["kl_old"] == 0 and later[-1]["clip_share"] > 0.05


@pytest.mark.parametrize("loss_type", ["dr_grpo", "cispo"])
def test_an_answer_that_pays_becomes_likely(world: World, many_e: dict[str, Any], loss_type: str) -> None:
    run = world.trained("grpo", loss_type=loss_type, learning_rate=3e-2, max_steps=24, updates_per_rollout=1, **many_e)
    rewards = [found["reward"] for found in _steps(run)]
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3]) + 0.15


def test_rollouts_are_rows_that_can_be_read(world: World, by_length: dict[str, Any]) -> None:
    """Conversations with the prompt and what was said, and all that is known of it."""
    run = world.trained("grpo", num_generations=6, max_steps=4, **by_length)
    rows, records = _rows(run), list(open_records(run.rollouts).records())
    assert len(rows) == 2 * 4 * 6
    by_round = [np.mean([row["reward"] for row in rows if row["round"] == number]) for number in range(2)]
    assert [found["reward"] for found in _steps(run) if "reward" in found] == pytest.approx(by_round)
    assert [row["round"] for row in rows] == [0] * 24 + [1] * 24
    rows = [row for row in rows if "\0" not in row["conversations"][-1]["content"]]  # such rows are refused everywhere
    assert len(rows) == len(records) > 40 and {record.shape for record in records} == {"conversation"}
    prompts = {record.row: record for record in open_records(world.prompts).records()}
    for row, record in zip(rows, records, strict=True):
        asked = prompts[row["row"]]
        assert record.messages[:-1] == asked.messages and row["expected"] == asked.answer
        assert record.messages[-1].role == "assistant"
        assert len(row["answer_ids"]) == len(row["log_probs"]) <= 12 and row["stop_reason"] in ("stop", "length")
        assert row["reward"] == pytest.approx(row["rewards"]["python"])


RAISING = "return 1 / (len(answer) % 3)"
CASES = [(RAISING, "ZeroDivisionError"), ("return float('nan')", "nan"), ("return 'good'", "str")]


@pytest.mark.parametrize(("body", "said"), CASES)
def test_a_reward_that_fails_never_kills_the_run(world: World, tmp_path: Path, body: str, said: str) -> None:
    """It scores what was set for that, and is named once, with its error."""
    file = write_reward(tmp_path / "bad.py", body)
    run = world.begun("grpo", rewards={"python": 1.0, "length": 0.5}, reward_python=str(file), reward_failure=-0.25)
    assert carry_out(run)["status"] == "done"
    [warned] = [warned for warned in _warnings(run) if warned.name == "reward_failed"]
    assert "python" in warned.message and said in warned.message
    failed = [row for row in _rows(run) if row["rewards"]["python"] == -0.25]
    assert failed and all(row["reward"] == pytest.approx(-0.25 + 0.5 * row["rewards"]["length"]) for row in failed)


def test_a_check_that_nobody_can_do_is_named(world: World, tmp_path: Path) -> None:
    changed = tmp_path / "prompts.jsonl"
    lines = [json.loads(line) | {"check": "by hand"} for line in world.prompts.read_text().splitlines()]
    changed.write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = OF_STAGE["grpo"] | {"rewards": {"answer": 1.0}, "max_steps": 2}
    run = begin(request("grpo", changed, world.tokenizer, "", "start", **settings))
    carry_out(run)
    [warned] = [warned for warned in _warnings(run) if warned.name == "check_not_available"]
    assert "by hand" in warned.message


def test_right_answers_and_passes_are_counted(world: World) -> None:
    """pass_at_k: groups with a right answer; correct_share: right answers. Here every answer is right, or none."""
    made = assemble(world.begun("grpo"))
    judged = made.stage.judge

    def right(*arguments: Any) -> Any:
        groups = judged(*arguments)
        return [[replace(answer, correct=float(copy == 0)) for copy, answer in enumerate(group)] for group in groups]

    made.stage.judge = right
    made.round(0)
    found = made.stage.metrics()
    assert found["pass_at_k"] == 1 and found["correct_share"] == pytest.approx(1 / 4)


def test_the_guard_is_measured(world: World) -> None:
    """The loss of conversations, as fine-tuning measures it, before the first step and at every evaluation."""
    run = world.trained("grpo", guard_data=str(world.talks), guard_rows=10, eval_interval=4)
    found = [event.metrics["guard_loss"] for event in run.history() if isinstance(event, Evaluated)]
    assert len(found) == 3 and all(4 < loss < 6 for loss in found)
    sft = assemble(world.begun("sft", "check", start_from="start", max_rows=10, max_seq_len=256, val_fraction=0.0))
    sft.stage.model.load_state_dict(assemble(world.begun("sft", "same", start_from="grpo")).stage.model.state_dict())
    sft.stage.held_out = np.arange(len(sft.stage.store))
    assert found[-1] == pytest.approx(sft.stage.likelihood()["val_loss"], rel=1e-4)


def _evaluated(step: int, reward: float, guard: float) -> Evaluated:
    return Evaluated(step=step, metrics={"val_reward": reward, "guard_loss": guard})


def _heard(evaluations: Sequence[tuple[float, float]]) -> list[tuple[str, int]]:
    watch = Watch(1000, falling=False)
    return [(warned.name, warned.step) for step, (reward, guard) in enumerate(evaluations, start=1)
            for warned in watch.evaluation(_evaluated(step, reward, guard))]  # fmt: skip


def test_a_reward_that_rises_while_quality_falls_is_warned_of() -> None:
    name = "reward_rises_quality_falls"
    assert _heard([(0.1, 2.0), (0.3, 2.02), (0.5, 2.2)]) == [(name, 3)]
    assert _heard([(0.1, 2.0), (0.3, 2.2), (0.5, 2.6), (0.6, 3.0)]) == [(name, 2)], "once while it lasts"
    assert _heard([(0.1, 2.0), (0.3, 2.2), (0.5, 2.0), (0.6, 2.4)]) == [(name, 2), (name, 4)]
    assert _heard([(0.1, 2.0), (0.1, 2.4), (0.05, 3.0)]) == [], "nothing is gained: another matter"
    assert _heard([(0.1, 2.0), (0.3, 2.09), (0.5, 1.9), (0.6, 1.99)]) == [], "within 5 %"
    assert _heard([(0.1, 0.2), (0.3, 0.24), (0.5, 0.249)]) == [], "and within 0.05 nats"


def test_a_run_warns_of_it_too(world: World, many_e: dict[str, Any]) -> None:
    """Nothing but e is what pays; conversations are forgotten over it."""
    watched: dict[str, Any] = {"guard_data": str(world.talks), "guard_rows": 8, "eval_interval": 4}
    run = world.trained("grpo", updates_per_rollout=1, max_steps=24, learning_rate=3e-2, **many_e, **watched)
    assert [warned.name for warned in _warnings(run)] == ["reward_rises_quality_falls"]
