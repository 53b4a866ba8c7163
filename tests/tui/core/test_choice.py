import shlex
from pathlib import Path

import pytest

from engine.errors import CheckpointError, DataError, EngineError, ProfileError, UserError
from engine.runs.folder import create_run
from minimind_tui.core.choice import DATA, FROM, NAME, SETTINGS, TOKENIZER, Choice, advice, field_of, split_references


def test_the_command_line_of_a_choice() -> None:
    choice = Choice("tiny/pretrain", "my data.jsonl", ("seed=7", "max_steps=5"), "one", "tok", "base@best")
    assert shlex.split(choice.command()) == [
        "engine", "train", "tiny/pretrain", "--data", "my data.jsonl", "--from", "base@best", "--name", "one",
        "--tokenizer", "tok", "--set", "seed=7", "--set", "max_steps=5"]  # fmt: skip
    assert Choice("starter/sft").command() == "engine train starter/sft"


def _refusal(choice: Choice) -> EngineError:
    with pytest.raises(EngineError) as caught:
        choice.check()
    return caught.value


def test_what_is_refused_names_its_field(home: Path) -> None:
    create_run("taken")
    pairs = home / "pairs.jsonl"
    side = '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "%s"}]'
    pairs.write_text(f'{{"chosen": {side % "b"}, "rejected": {side % "c"}}}\n' * 3)
    Choice("tiny/tokenizer").check()
    cases = {
        Choice("tiny/tokenizer", data="none.jsonl"): DATA,
        Choice("tiny/tokenizer", data=str(pairs)): DATA,
        Choice("tiny/tokenizer", name="a b"): NAME,
        Choice("tiny/tokenizer", name="taken"): NAME,
        Choice("tiny/tokenizer", assignments=("nonsense=1",)): SETTINGS,
        Choice("tiny/tokenizer", assignments=("vocab_size",)): SETTINGS,
        Choice("tiny/tokenizer", assignments=("vocab_size=-1",)): SETTINGS,
        Choice("tiny/pretrain", start_from="nobody"): FROM,
        Choice("starter/distill", assignments=("seed=1", "teacher=nobody")): "teacher",
        Choice("starter/ppo", assignments=("critic_from=nobody",)): "critic_from",
    }
    assert {choice: field_of(_refusal(choice)) for choice in cases} == cases
    assert "pair" in _refusal(Choice("tiny/tokenizer", data=str(pairs))).what


def test_hints_speak_of_fields() -> None:
    hints = {
        "add --data FILE": "name a file under data; ctrl+o there chooses one",
        "leave --tokenizer out: /x brings its own": "leave tokenizer empty: /x brings its own",
        "make one: engine train starter/pretrain": "start a run of profile starter/pretrain first",
        "--set max_seq_len=64": "write max_seq_len=64 under settings",
        "write --set name=value": "write name=value under settings",
        "add --set teacher=RUN": "name one under teacher",
        "add --from RUN: sft or reason": "name one under start from: sft or reason",
    }
    assert {hint: advice(EngineError("x", hint=hint)) for hint in hints} == hints
    long = "add --tokenizer DIR (engine tokenizer train makes one), or --from a checkpoint, which brings its own"
    assert "--" not in advice(UserError("no tokenizer is named", where="tokenizer", hint=long))


def test_models_are_told_from_other_settings() -> None:
    named, others = split_references(["seed=7", "teacher = big@best", "reward_model=judge", "rewards={ model = 1.0 }"])
    assert named == {"teacher": "big@best", "reward_model": "judge"}
    assert others == ["seed=7", "rewards={ model = 1.0 }"]
    assert field_of(UserError("no teacher is named", where="teacher")) == "teacher"


def test_kinds_of_errors_lead_to_fields_where_no_place_does() -> None:
    assert field_of(DataError("x", where="/tmp/a.jsonl")) == DATA
    assert field_of(CheckpointError("run a has no checkpoint yet", where="/runs/a")) == FROM
    assert field_of(CheckpointError("run a has no tokenizer yet", where="/runs/a")) == TOKENIZER
    assert field_of(ProfileError("x", where="profile a: b")) == ""
