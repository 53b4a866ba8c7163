"""What goes wrong in judging answers costs the answer, never the run, and is told."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.errors import CheckpointError
from engine.generation.rollout import Rollout
from tests.stages.assembled import Assembled, assemble, write_reward
from tests.training.tiny import World


def _say(made: Assembled, times: int) -> list[Any]:
    """So many answers to the first prompt, judged together."""
    words = made.stage.encoder.tokenizer.tokenize("bread").ids
    group = [Rollout(words, [0.0] * len(words), "length") for _ in range(times)]
    [answers] = made.stage.judge([0], [made.stage.store.ids(0).tolist()], [group])
    return list(answers)


def _failures(made: Assembled) -> list[str]:
    return [message for name, message in made.warned if name == "reward_failed"]


def test_a_check_that_fails_counts_as_wrong(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = assemble(world.begun("grpo"))

    def fail(*_: object) -> float:
        raise KeyError("no\x1bentry")

    monkeypatch.setattr("engine.stages.judge.is_correct", fail)
    assert [answer.correct for answer in _say(made, 2)] == [0.0, 0.0]
    assert _failures(made) == ["the row's check failed 2 times: KeyError: 'no\\x1bentry'"]


def test_failures_are_told_again_at_ten_times_the_count(world: World, tmp_path: Path) -> None:
    file = write_reward(tmp_path / "broken.py", "return 1 / 0")
    made = assemble(world.begun("grpo", rewards={"python": 1.0}, reward_python=str(file)))
    for times in (2, 17, 1, 179, 1):
        _say(made, times)
    said = "broken.py:2: ZeroDivisionError: division by zero"
    assert _failures(made) == [f"python failed {count} times: {said}" for count in (2, 20, 200)]


def test_checks_that_cannot_be_done_are_told_again_too(world: World, tmp_path: Path) -> None:
    rows = "".join(f'{{"prompt": "{n}: who?", "answer": "Bo", "check": "judge"}}\n' for n in range(8))
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(rows, encoding="utf-8")
    made = assemble(replace(world, prompts=prompts).begun("grpo", rewards={"answer": 1.0}))
    for times in (1, 8, 1):
        _say(made, times)
    told = [message for name, message in made.warned if name == "check_not_available"]
    assert told == [f"{count} rows ask for judge: their answers are compared instead" for count in (1, 10)]


def test_a_reward_model_is_loaded_only_where_it_is_a_reward(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.trained("reward", "judge", max_steps=1)
    loaded: list[Path] = []

    def load(folder: Path, device: torch.device) -> None:
        loaded.append(folder)
        raise CheckpointError("it is read")

    monkeypatch.setattr("engine.stages.judge.load_scorer", load)
    assemble(world.begun("grpo", "without", reward_model="judge"))
    assert not loaded
    with pytest.raises(CheckpointError, match="it is read"):
        assemble(world.begun("grpo", "with", reward_model="judge", rewards={"model": 1.0}))
