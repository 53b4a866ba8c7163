"""Answers that were cut off: masked, scored or given the lowest reward, as asked, and counted; stop ids end one."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import UserError
from engine.runs.events import Evaluated, Step
from engine.session import carry_out
from engine.stages.answers import Answer, PolicyBatch
from tests.stages.assembled import Assembled, assemble, same, write_reward
from tests.training.tiny import World

STOPS = set(range(100, 130))
"""Enough of the 320 tokens that about every second answer of random words ends within 8."""


@pytest.fixture
def stopping(world: World, tmp_path: Path) -> World:
    """The world with a tokenizer that knows many stop ids, and a start run of the same."""
    folder = Path(shutil.copytree(world.tokenizer, tmp_path / "stopping"))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": sorted(STOPS)}))
    changed = replace(world, tokenizer=folder)
    changed.trained("sft", "stopping", max_steps=1)
    return changed


def _assembled(world: World, stage: str, name: str = "", **settings: Any) -> Assembled:
    more: dict[str, Any] = {"max_new_tokens": 8, "num_generations": 8} if stage == "grpo" else {"max_new_tokens": 8}
    return assemble(world.begun(stage, name, start_from="stopping", **more, **settings))


def _answers(made: Assembled, number: int) -> list[Answer]:
    """The answers of a round, which are a function of the weights and its number."""
    asked = [sample for prompts in made.stage.prompts_of(number) for sample in prompts]
    copies = made.stage._own.num_generations if hasattr(made.stage._own, "num_generations") else 1
    return [answer for group in made.stage.answer(asked, copies, "rollout", number) for answer in group]


def _said(batches: list[PolicyBatch]) -> list[list[int]]:
    documents = [document.batch for batch in batches for document in batch.documents()]
    return [document.input_ids[document.loss_weights > 0].tolist() for document in documents]


def test_every_stop_id_ends_an_answer(stopping: World) -> None:
    made = _assembled(stopping, "grpo")
    stops = made.stage.encoder.tokenizer.stop_ids
    assert stops > STOPS and made.stage.encoder.tokenizer.eos_id in stops
    answers = [answer for number in range(3) for answer in _answers(made, number)]
    ended = [answer for answer in answers if not answer.rollout.truncated]
    assert len({answer.rollout.ids[-1] for answer in ended}) > 10
    for answer in answers:
        *before, last = answer.rollout.ids
        assert not set(before) & stops
        assert (last in stops) is (answer.rollout.stop_reason == "stop")
        assert len(answer.rollout.ids) == 8 or not answer.rollout.truncated
        words = answer.rollout.ids if answer.rollout.truncated else before
        assert answer.text == made.stage.encoder.tokenizer.decode(words), "the stop token is no part of the text"


@pytest.mark.parametrize("stage", ["grpo", "ppo", "spo"])
def test_the_stop_token_is_trained_and_nothing_after_it(stopping: World, stage: str) -> None:
    made = _assembled(stopping, stage, truncated="score")
    batches = list(next(iter(made.stage.collect(0))))
    stops, ends = made.stage.encoder.tokenizer.stop_ids, 0
    for batch in (batch.batch for batch in batches):
        for document in batch.documents():
            prompt = len(made.stage.store.ids(int(document.samples[0])))
            assert (document.loss_weights == (np.arange(len(document.input_ids)) >= prompt)).all()
            ends += int(document.input_ids[-1]) in stops
            assert not set(document.input_ids[prompt:-1].tolist()) & stops
    assert ends


@pytest.mark.parametrize("stage", ["grpo", "spo"])
def test_masked_scored_or_penalised(stopping: World, stage: str, tmp_path: Path) -> None:
    """`mask` leaves them out of the loss, `score` takes their reward, `penalise` the lowest one that there is."""
    reward = write_reward(tmp_path / "long.py", "return 0.2 + 0.7 * min(len(answer), 40) / 40")
    settings: dict[str, Any] = {"rewards": {"python": 2.0, "repetition": 1.0}, "reward_python": str(reward)}
    for treatment in ("mask", "score", "penalise"):
        made = _assembled(stopping, stage, treatment, truncated=treatment, **settings)
        answers = _answers(made, 0)
        cut = [answer for answer in answers if answer.rollout.truncated]
        assert 0 < len(cut) < len(answers)
        assert made.stage.judge.rewards.low == -1
        for answer in answers:
            lowest = treatment == "penalise" and answer.rollout.truncated
            assert answer.reward == (-1 if lowest else answer.scored.total)
            assert answer.scored.total >= 0.4 - 1
        trained = _said(list(made.stage.collect(0)[0]))
        taken = [answer.rollout.ids for answer in answers if treatment != "mask" or not answer.rollout.truncated]
        assert sorted(trained) == sorted(taken)


@pytest.mark.parametrize("stage", ["grpo", "spo"])
def test_a_round_of_nothing_but_masked_answers_changes_nothing(world: World, stage: str) -> None:
    """Untrained models never end; they are shown, and not taught that their answers were wrong."""
    made = assemble(world.begun(stage, truncated="mask", max_new_tokens=3))
    before = made.weights()
    assert all(answer.rollout.truncated for answer in _answers(made, 0))
    outcomes = made.round(0)
    assert same(made.weights(), before) and not any(outcome.applied for outcome in outcomes)
    assert made.stage.metrics()["truncated_share"] == 1


@pytest.mark.parametrize("stage", ["grpo", "ppo", "spo"])
def test_the_clipped_share_is_reported(stopping: World, stage: str) -> None:
    more: dict[str, Any] = {"max_steps": 2} if stage != "spo" else {"epochs": 1}
    run = stopping.begun(stage, start_from="stopping", max_new_tokens=8, truncated="mask", **more)
    carry_out(run)
    rows = [json.loads(line) for line in run.rollouts.read_text().splitlines()]
    first = [row for row in rows if row["round"] == 0]
    share = sum(row["stop_reason"] == "length" for row in first) / len(first)
    reported = [e.metrics for e in run.history() if isinstance(e, Step) and "truncated_share" in e.metrics]
    assert 0 < share < 1 and reported[0]["truncated_share"] == pytest.approx(share)
    assert reported[0]["answer_tokens"] == pytest.approx(np.mean([len(row["answer_ids"]) for row in first]))
    [evaluated] = [event for event in run.history() if isinstance(event, Evaluated)]
    assert 0 <= evaluated.metrics["val_truncated_share"] <= 1


def test_answers_that_do_not_fit_are_refused(world: World) -> None:
    """No room is promised that is not there: prompts and answers must fit into what the model reads."""
    with pytest.raises(UserError, match="do not fit into the 256") as refused:
        assemble(world.begun("grpo", max_seq_len=200, max_new_tokens=57))
    assert refused.value.where == "max_new_tokens"
    assemble(world.begun("grpo", "fits", max_seq_len=199, max_new_tokens=57))
