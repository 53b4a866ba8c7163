"""SPO: what trackers begin with, what they keep, which prompts are used, and that all of it is in the checkpoint."""

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.runs.events import Step, Warned
from engine.runs.folder import RunFolder
from tests.stages.assembled import answer_log_probs, assemble, write_reward
from tests.training.tiny import World

LETTERS = "return (len(answer) % 7) / 3 - 1\n\nLOW, HIGH = -1, 1"


@pytest.fixture
def by_length(tmp_path: Path) -> dict[str, Any]:
    """Rewards from −1 to 1, nearly all different."""
    return {"rewards": {"python": 1.0}, "reward_python": str(write_reward(tmp_path / "letters.py", LETTERS))}


def _rows(run: RunFolder) -> list[dict[str, Any]]:
    """The answers of the rounds, without those that began the trackers."""
    return [row for row in map(json.loads, run.rollouts.read_text().splitlines()) if row["round"] >= 0]


def _mapped(reward: float) -> float:
    return (reward + 1) / 2


def _prompt_divergence(then: torch.nn.Module, now: torch.nn.Module, prompt: list[int], said: list[int]) -> float:
    """k3 a token of an answer that `then` gave: KL(then ‖ now)."""
    ids, weights = [*prompt, *said], [0.0] * len(prompt) + [1.0] * len(said)
    old, new = (answer_log_probs(model, ids, weights).detach() for model in (then, now))  # type: ignore[arg-type]
    return float((torch.exp(new - old) - 1 - (new - old)).mean())


def test_trackers_begin_with_first_rollouts(world: World, by_length: dict[str, Any]) -> None:
    """Their mean reward from 0 to 1 with the weight of 8 rewards; they are counted and take no step."""
    made = assemble(world.begun("spo", initial_rollouts=5, pool_size=8, **by_length))
    stage = made.stage
    pool = sorted(int(unit[0]) for unit in stage.sampler.units)
    assert len(pool) == 8 and not stage._trackers
    stage.collect(0)
    assert sorted(stage._trackers) == pool
    first = stage.answer(pool, 5, "trackers")
    for sample, group in zip(pool, first, strict=True):
        tracker = stage._trackers[sample]
        assert tracker.value == pytest.approx(np.mean([_mapped(answer.reward) for answer in group]))
        assert tracker.alpha + tracker.beta == pytest.approx(1 / (1 - 0.875))
        assert stage._last[sample][0] == group[0].rollout.ids
    stage.settle()
    assert stage.metrics()["initial_rollouts"] == 8 * 5
    stage.collect(1)
    stage.settle()
    assert "initial_rollouts" not in stage.metrics()


def test_a_round_that_is_given_up_leaves_trackers_alone(world: World, by_length: dict[str, Any]) -> None:
    stage = assemble(world.begun("spo", **by_length)).stage
    stage.collect(0)
    begun = json.dumps(stage.state())
    stage.collect(0)
    assert json.dumps(stage.state()) == begun and not stage.context.run.rollouts.exists()
    stage.settle()
    assert json.dumps(stage.state()) != begun


def test_advantages_are_normalised_surprises(world: World, by_length: dict[str, Any]) -> None:
    made = assemble(world.begun("spo", truncated="score", **by_length))
    made.round(0)
    before = {sample: tracker.value for sample, tracker in made.stage._trackers.items()}
    [batches] = made.stage.collect(1)
    made.stage.settle()
    rows = made.stage.store.columns["rows"]
    samples = [sample for prompts in made.stage.prompts_of(1) for sample in prompts]
    logged = {row["row"]: row for row in _rows(made.stage.context.run) if row["round"] == 1}
    surprises = np.array([_mapped(logged[int(rows[sample])]["reward"]) - before[sample] for sample in samples])
    expected = (surprises - surprises.mean()) / surprises.std()
    found = [logged[int(rows[sample])]["advantage"] for sample in samples]
    assert found == pytest.approx(expected.tolist(), abs=1e-6)
    in_batches = np.concatenate([document.tokens["advantage"][:1] for b in batches for document in b.documents()])
    assert in_batches.tolist() == pytest.approx(found, abs=1e-6)


def test_what_a_tracker_keeps_follows_the_divergence_since_the_prompts_own_last_visit(
    world: World, by_length: dict[str, Any]
) -> None:
    """By hand, from copies of the policy as it was at each visit: ρ = 2^(−D / D_half), between its bounds."""
    settings: dict[str, Any] = {"pool_size": 6, "d_half": 0.01, "rho_min": 0.2, "rho_max": 0.99, "learning_rate": 2e-2}
    made = assemble(world.begun("spo", truncated="score", warmup_steps=0, **settings, **by_length))
    stage = made.stage
    stage.collect(0)
    policies = dict.fromkeys(stage._trackers, copy.deepcopy(stage.model))
    seen: dict[int, int] = {}
    kept = []
    for number in range(6):
        trackers = {sample: (each.alpha, each.beta) for sample, each in stage._trackers.items()}
        last = dict(stage._last)
        now = copy.deepcopy(stage.model)
        samples = [sample for prompts in stage.prompts_of(number) for sample in prompts]
        made.round(number)
        rows = {row["row"]: row for row in _rows(stage.context.run) if row["round"] == number}
        for sample in samples:
            prompt = stage.store.ids(sample).tolist()
            moved = _prompt_divergence(policies[sample], now, prompt, last[sample][0])
            rho = min(max(2 ** (-moved / 0.01), 0.2), 0.99)
            reward = _mapped(rows[int(stage.store.columns["rows"][sample])]["reward"])
            alpha, beta = trackers[sample]
            assert stage._trackers[sample].alpha == pytest.approx(rho * alpha + reward, rel=1e-3)
            assert stage._trackers[sample].beta == pytest.approx(rho * beta + 1 - reward, rel=1e-3)
            policies[sample] = now
            kept.append((rho, number - seen.get(sample, -1)))
            seen[sample] = number
        for sample in set(stage._trackers) - set(samples):
            assert (stage._trackers[sample].alpha, stage._trackers[sample].beta) == trackers[sample]
    assert min(rho for rho, _ in kept) < 0.9 < 0.98 < max(rho for rho, _ in kept)
    assert len({age for _, age in kept}) > 1, "prompts were visited at different times"


def test_one_tracker_for_all(world: World, by_length: dict[str, Any]) -> None:
    made = assemble(world.begun("spo", tracker="global", initial_rollouts=3, truncated="score", **by_length))
    stage = made.stage
    stage.collect(0)
    [tracker] = stage._trackers.values()
    first = stage.answer(sorted(int(unit[0]) for unit in stage.sampler.units), 3, "trackers")
    mean = np.mean([_mapped(answer.reward) for group in first for answer in group])
    assert tracker.value == pytest.approx(mean)
    alpha = tracker.alpha
    made.round(0)
    rewards = [_mapped(row["reward"]) for row in _rows(stage.context.run)]
    assert tracker.alpha == pytest.approx(0.96 * alpha + np.mean(rewards)), "the policy had not moved: ρ_max"
    assert stage.metrics()["baseline"] == pytest.approx(mean)


def test_undecided_prompts_come_more_often(world: World, by_length: dict[str, Any]) -> None:
    made = assemble(world.begun("spo", prioritised=True, pool_size=12, **by_length))
    stage = made.stage
    stage.collect(0)
    pool = sorted(stage._trackers)
    for place, sample in enumerate(pool):
        undecided = place % 2 == 0
        stage._trackers[sample].alpha, stage._trackers[sample].beta = (4.0, 4.0) if undecided else (8.0, 0.0)
    rounds = [[sample for prompts in stage.prompts_of(number) for sample in prompts] for number in range(300)]
    assert all(len(set(samples)) == len(samples) == 4 for samples in rounds), "each prompt once a round"
    drawn = Counter(sample for samples in rounds for sample in samples)
    often, seldom = (sum(drawn[sample] for sample in pool[start::2]) for start in (0, 1))
    assert often > 5 * seldom > 0, "decided ones are not forgotten"
    again = [[sample for prompts in stage.prompts_of(number) for sample in prompts] for number in range(300)]
    assert again == rounds, "a function of the seed, the round and the trackers"
    assert [len(prompts) for prompts in stage.prompts_of(0)] == [2, 2]


def test_the_pool_gets_four_visits(world: World, by_length: dict[str, Any]) -> None:
    """As many prompts as are visited four times within the steps asked for, the same in every pass."""
    run = world.trained("spo", pool_size=0, max_steps=12, epochs=1, **by_length)
    visits = Counter(row["row"] for row in _rows(run))
    assert len(visits) == 12 and set(visits.values()) == {4}
    assert not [event for event in run.history() if isinstance(event, Warned) and event.name != "reward_failed"]


def test_seldom_visits_are_warned_of(world: World, by_length: dict[str, Any]) -> None:
    made = assemble(world.begun("spo", pool_size=20, max_steps=12, **by_length))
    [(name, message)] = made.warned
    assert name == "prompts_seldom_visited" and "2.4 times" in message


def test_the_first_answers_are_kept_too(world: World, by_length: dict[str, Any]) -> None:
    run = world.trained("spo", initial_rollouts=3, **by_length)
    rows = [json.loads(line) for line in run.rollouts.read_text().splitlines()]
    begun = [row for row in rows if row["round"] == -1]
    assert rows[: len(begun)] == begun and len(begun) == 8 * 3
    assert {row["advantage"] for row in begun} == {0.0}


def test_trackers_are_in_the_checkpoint(world: World, by_length: dict[str, Any]) -> None:
    run = world.trained("spo", **by_length)
    state = json.loads((run.select("newest") / "state.json").read_text())["stage"]
    assert len(state["trackers"]) == len(state["last"]) == 8
    made = assemble(world.begun("spo", "other", **by_length))
    made.stage.load_state(state)
    assert json.loads(json.dumps(made.stage.state())) == state
    before = dict(made.stage._trackers)
    made.stage.collect(0)
    assert made.stage._trackers == before, "they are not begun again"


def test_several_updates_a_rollout(world: World, by_length: dict[str, Any]) -> None:
    run = world.trained("spo", updates_per_rollout=3, epochs=2, learning_rate=1e-2, **by_length)
    steps = [event.metrics for event in run.history() if isinstance(event, Step)]
    assert len(steps) == 2 * 2 * 3
    assert [found["ratio"] for found in steps[::3]] == pytest.approx([1.0] * 4, abs=1e-6)
    assert all(found["kl_old"] > 1e-5 for found in steps[2::3])
    assert {row["round"] for row in _rows(run)} == {0, 1, 2, 3}


def test_answers_that_were_cut_off_teach_and_mark_nothing(world: World, by_length: dict[str, Any]) -> None:
    """Masked, an answer is no measure of how far the policy has moved; the one before stays it."""
    made = assemble(world.begun("spo", truncated="mask", **by_length))
    made.stage.collect(0)
    before = dict(made.stage._last)
    made.round(0)
    rows = made.stage.store.columns["rows"]
    cut = {row["row"] for row in _rows(made.stage.context.run) if row["stop_reason"] != "stop"}
    assert cut
    for sample, kept in made.stage._last.items():
        if int(rows[sample]) in cut:
            assert kept == before[sample]


def test_it_learns(world: World, tmp_path: Path) -> None:
    """Reinforcement learning for real: the reward is the share of the letter e."""
    file = write_reward(tmp_path / "e.py", "return answer.count('e') / max(len(answer), 1)")
    own: dict[str, Any] = {"rewards": {"python": 1.0}, "reward_python": str(file), "initial_rollouts": 4}
    run = world.trained("spo", learning_rate=3e-2, pool_size=16, batch_size=8, epochs=30, **own)
    steps = [event.metrics for event in run.history() if isinstance(event, Step)]
    assert np.mean([found["reward"] for found in steps[-3:]]) > 2 * np.mean([found["reward"] for found in steps[:3]])
    assert steps[-1]["baseline"] > 1.2 * steps[0]["baseline"]
