"""Real want of memory under a limit on address space: what a run says of it, and how it goes on."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.memory.suggest import ORIGIN
from engine.runs.checkpoint import newest_whole
from engine.runs.events import Adjusted, CheckpointSaved, Finished, RanOutOfMemory, Resumed, Step
from engine.runs.folder import RunFolder, find_run
from engine.settings.places import runs_folder
from engine.settings.profile import Settings
from tests.session.limited import Ended, engine, linux_only
from tests.stages.assembled import assemble
from tests.training.tiny import OF_STAGE, World, request

pytestmark = [linux_only, pytest.mark.flaky(reruns=2)]  # at the very limit a library may end the process (docs/LOG.md)

WIDE = {"hidden_size": 32, "num_hidden_layers": 4, "intermediate_size": 3072}
"""Few weights, and more than 200 kB of activations a token."""
DEEP_MEMORY = {"hidden_size": 8, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 1024,
               "num_hidden_layers": 4, "max_position_embeddings": 512}  # fmt: skip
"""131 kB of keys and values a token."""
ROWS = {"batch_size": 36, "max_seq_len": 160, "max_steps": 1, "val_fraction": 0.05, "sample_tokens": 0, "eval_rows": 2}
ANSWERS = {**ROWS, "max_seq_len": 32, "max_new_tokens": 80, "accumulation_steps": 1, "rollout_batch_size": 8}
STAGES: dict[str, dict[str, Any]] = {
    "pretrain": ROWS | WIDE | {"max_steps": 2},
    "lora": ROWS,
    "distill": ROWS,
    "dpo": ROWS,
    "reward": ROWS,
    "ppo": ANSWERS | {"ppo_epochs": 1, "mini_batches": 1, "batch_size": 20},
    "grpo": ANSWERS | {"updates_per_rollout": 1, "num_generations": 4, "batch_size": 10},
    "spo": ANSWERS | {"updates_per_rollout": 1, "pool_size": 20, "batch_size": 20, "max_new_tokens": 140},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Path]:
    """A world, and its runs `start` and `memorious` to begin from."""
    world, home = World.make(tmp_path_factory.mktemp("world")), tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIMIND_HOME", str(home))
        world.trained("sft", "start", max_steps=1, **WIDE)
        world.trained("sft", "memorious", max_steps=1, **DEEP_MEMORY)
        return world, runs_folder()


@pytest.fixture
def world(made: tuple[World, Path], minimind_home: None) -> World:
    shutil.copytree(made[1], runs_folder())
    return made[0]


def train(world: World, stage: str, *options: object, hog: str = "", **changes: Any) -> Ended:
    """`engine train` of the run `tight` under the limit."""
    start = changes.pop("start_from", "" if stage == "pretrain" else "start")
    settings = {**OF_STAGE.get(stage, {}), **STAGES.get(stage, ROWS), **changes}
    asked = request(stage, world.data(stage), world.tokenizer, "tight", start, **settings)
    sets = [part for each in asked.assignments for part in ("--set", each)]
    places = ("--from", start) if start else ("--tokenizer", asked.tokenizer)
    return engine("train", asked.profile, "--data", asked.data, *places, "--name", "tight", *sets, *options, hog=hog)


def ran_out(run: RunFolder) -> RanOutOfMemory:
    [event] = [event for event in run.history() if isinstance(event, RanOutOfMemory)]
    return event


def settings_of(run: RunFolder) -> Settings:
    return Settings.from_json(run.read_json(run.resolved))


def read(run: RunFolder) -> list[list[int]]:
    """What each step read: how many tokens; of a round of answers, its prompts."""
    if run.rollouts.exists():
        rounds: dict[int, set[int]] = {}
        for line in run.rollouts.read_text().splitlines():
            said = json.loads(line)
            rounds.setdefault(said["round"], set()).add(said["row"])
        rounds.pop(-1, None)  # SPO's answers before the first
        return [sorted(rows) for _, rows in sorted(rounds.items())]
    return [[event.tokens] for event in run.history() if isinstance(event, Step)]


def expected(world: World, stage: str) -> list[list[int]]:
    """The same of a run that nothing stops, by its order alone."""
    made = assemble(world.begun(stage, "free", **STAGES[stage])).stage
    rounds = [made.sampler.micro_batches(number) for number in range(made.rounds)]
    steps = [np.concatenate([rows for batch in batches for rows in batch]) for batches in rounds]
    if made.settings.stage.train_on == "prompt":
        return [sorted(made.store.columns["rows"][samples].tolist()) for samples in steps]
    return [[int(tokens)] for tokens in np.cumsum([made.store.lengths[samples].sum() for samples in steps])]


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_does_not_fit_goes_on_with_the_first_suggestion(world: World, stage: str) -> None:
    undisturbed = expected(world, stage)
    ended = train(world, stage, "--force")
    assert ended.code == 3, ended
    run = find_run("tight")
    before, told = settings_of(run).training, ran_out(run)
    assert (told.step, told.phase, told.device) == (0, "rehearsal", "cpu") and not told.plan["fits"]
    first = told.plan["suggestions"][0]
    assert first["fits"] and first["keeps_effective_batch"] and "batch_size" in first["changes"]
    assert f"1. batch_size={first['changes']['batch_size']} accumulation_steps=" in ended.err
    [finished] = [event for event in run.history() if isinstance(event, Finished)]
    assert (finished.status, finished.exit_code) == ("failed", 3)

    ended = engine("resume", "tight", "--apply", 1)
    assert ended.code == 0, ended
    settings = settings_of(run)
    assert {name: settings.values()[name] for name in first["changes"]} == first["changes"]
    assert {settings.origins[name] for name in first["changes"]} == {ORIGIN}
    assert settings.training.batch_size * settings.training.accumulation_steps == (
        before.batch_size * before.accumulation_steps
    )
    assert read(run) == undisturbed
    assert run.state() == "done"


def test_a_run_that_runs_out_later_goes_on_from_its_checkpoint(world: World) -> None:
    """Something else in the process takes the memory that the run was given."""
    few = {"batch_size": 1, "accumulation_steps": 36, "max_steps": 3, "save_interval": 1,
           "gradient_checkpointing": True}  # fmt: skip
    undisturbed = expected(world, "pretrain")
    ended = train(world, "pretrain", hog="tight", **few)
    assert ended.code == 3, ended
    run = find_run("tight")
    told, saved = ran_out(run), [event.step for event in run.history() if isinstance(event, CheckpointSaved)]
    assert told.phase == "training" and told.step >= saved[-1] >= 1
    assert newest_whole(run) == (saved[-1], [])
    ended = engine("resume", "tight", "--apply", 1)
    assert ended.code == 0, ended
    history = run.history()
    [resumed] = [event for event in history if isinstance(event, Resumed)]
    assert resumed.from_step == saved[-1] and run.state() == "done"
    assert [event.step for event in history if isinstance(event, Step)] == [1, 2, 3]
    assert [event.tokens for event in history if isinstance(event, Step)][:2] == [tokens for [tokens] in undisturbed]


def test_a_rollout_that_does_not_fit_is_told_apart(world: World) -> None:
    """The rehearsed update fits; then answers are made fewer at a time, and nothing else changes."""
    many = {"start_from": "memorious", "batch_size": 1, "accumulation_steps": 50, "rollout_batch_size": 400,
            "num_generations": 8, "max_new_tokens": 4, "truncated": "mask", "gradient_checkpointing": True}  # fmt: skip
    ended = train(world, "grpo", "--force", **many)
    assert ended.code == 3, ended
    run = find_run("tight")
    told = ran_out(run)
    assert (told.phase, told.step) == ("rollout", 0) and told.plan["phase"] == "rollout"
    assert told.plan["breakdown"]["rollout_cache"] > told.plan["peak_bytes"] / 2
    first = told.plan["suggestions"][0]
    assert first["fits"] and first["changes"].keys() == {"rollout_batch_size"}
    ended = engine("resume", "tight", "--apply", 1)
    assert ended.code == 0, ended
    assert run.state() == "done" and settings_of(run).training.accumulation_steps == 50


def test_an_evaluation_that_does_not_fit_is_told_apart(world: World) -> None:
    """Half of the prompts are held out and answered at once; what is learnt from is one answer at a time."""
    many = {"start_from": "memorious", "batch_size": 1, "critic": "shared", "rollout_batch_size": 64,
            "max_new_tokens": 450, "gradient_checkpointing": True, "val_fraction": 0.5, "eval_rows": 0,
            "eval_interval": 1}  # fmt: skip
    ended = train(world, "ppo", "--force", **many)
    assert ended.code == 3, ended
    told = ran_out(find_run("tight"))
    assert (told.phase, told.step) == ("evaluation", 0)
    assert "rollout_batch_size" in told.plan["suggestions"][0]["changes"]


def test_questions_that_do_not_fit_are_asked_less_often(world: World) -> None:
    """Held-out questions are answered all at once; one row at a time is learnt from, and that fits."""
    many = {"start_from": "memorious", "batch_size": 1, "gradient_checkpointing": True, "val_fraction": 0.5,
            "eval_rows": 0, "max_steps": 2, "eval_interval": 1, "max_seq_len": 60}  # fmt: skip
    ended = train(world, "reason", **many)
    assert ended.code == 3 and "not expected to fit" in ended.err
    ended = train(world, "reason", "--force", **many)
    assert ended.code == 3, ended
    run = find_run("tight")
    told = ran_out(run)
    assert (told.phase, told.plan["phase"]) == ("evaluation", "evaluation")
    first = told.plan["suggestions"][0]
    assert first["fits"] and first["changes"].keys() == {"eval_rows"}
    ended = engine("resume", "tight", "--apply", 1)
    assert ended.code == 0, ended
    assert run.state() == "done" and settings_of(run).training.eval_rows == first["changes"]["eval_rows"]


def test_auto_fit_changes_what_is_not_expected_to_fit(world: World) -> None:
    undisturbed = expected(world, "pretrain")
    ended = train(world, "pretrain", "--auto-fit")
    assert ended.code == 0, ended
    run = find_run("tight")
    assert "not expected to fit; changed: batch_size=" in ended.err
    assert not [event for event in run.history() if isinstance(event, RanOutOfMemory)]
    assert read(run) == undisturbed


def test_auto_fit_goes_on_after_want_of_memory(world: World) -> None:
    undisturbed = expected(world, "pretrain")
    ended = train(world, "pretrain", "--force", "--auto-fit", 2)
    assert ended.code == 0, ended
    run = find_run("tight")
    [adjusted] = [event for event in run.history() if isinstance(event, Adjusted)]
    assert adjusted.reason == ORIGIN and adjusted.changes == ran_out(run).plan["suggestions"][0]["changes"]
    assert read(run) == undisturbed and run.state() == "done"


def test_auto_fit_ends_when_its_changes_are_used_up(world: World) -> None:
    ended = train(world, "pretrain", "--force", "--auto-fit", 0)
    assert ended.code == 3 and not [event for event in find_run("tight").history() if isinstance(event, Adjusted)]
