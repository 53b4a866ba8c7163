"""Traces against what the allocator saw of the same run, and what becomes of a trace that fails."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.memory import tracing
from engine.memory.allocated import rehearsed_peak
from engine.memory.tracing import trace
from engine.model import moe
from engine.runs.folder import RunFolder
from engine.session import trace_worker, traced
from engine.session.traced import FullRows, traced_peak
from engine.settings.places import runs_folder
from engine.settings.profile import Settings
from tests.stages.assembled import assemble
from tests.training.tiny import World

CPU = torch.device("cpu")
SHAPE = {
    "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 256, "vocab_size": 500,
}  # fmt: skip
ROWS = {"max_seq_len": 96, "batch_size": 6}
PROMPTS = {"max_seq_len": 32, "max_new_tokens": 40, "batch_size": 4}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
HALF = {"dtype": "bfloat16"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Path]:
    """A world, and its runs: `start` and `mixture` to begin from, `scorer` a reward model."""
    world, home = World.make(tmp_path_factory.mktemp("world")), tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIMIND_HOME", str(home))
        world.trained("sft", "start", max_steps=1, **SHAPE)
        world.trained("sft", "mixture", max_steps=1, **SHAPE, **EXPERTS)
        world.trained("reward", "scorer", max_steps=1)
        return world, runs_folder()


def _settings(run: RunFolder) -> Settings:
    return Settings.from_json(run.read_json(run.resolved))


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "pretrain": ("pretrain", SHAPE | ROWS | {"packing": True, "accumulation_steps": 2}),
    "few tokens": ("pretrain", SHAPE | {"max_seq_len": 24, "batch_size": 1, "vocab_size": 4000}),
    "a table of its own": ("pretrain", SHAPE | ROWS | {"tie_word_embeddings": False}),
    "experts": ("pretrain", SHAPE | ROWS | EXPERTS | {"num_shared_experts": 1}),
    "experts in half": ("dpo", ROWS | HALF | {"start_from": "mixture"}),
    "checkpointing": ("sft", ROWS | HALF | {"gradient_checkpointing": True, "accumulation_steps": 2}),
    "dropout": ("sft", ROWS | {"dropout": 0.1}),
    "float16": ("sft", ROWS | {"dtype": "float16"}),
    "lora": ("lora", ROWS | {"lora_dropout": 0.1}),
    "distill": ("distill", ROWS | HALF | {"teacher_dtype": "bfloat16"}),
    "distill top-k": ("distill", ROWS | {"teacher_top_k": 8}),
    "dpo": ("dpo", ROWS | {"loss_type": "ipo"}),
    "dpo precomputed": ("dpo", ROWS | HALF | {"reference_log_probs": "precomputed"}),
    "reward": ("reward", ROWS),
    "ppo": ("ppo", PROMPTS | {"rewards": {"model": 1.0}, "reward_model": "scorer"}),
    "ppo from a reward model": ("ppo", PROMPTS | {"critic_from": "scorer", "mini_batches": 1}),
    "ppo shared": ("ppo", PROMPTS | {"critic": "shared"}),
    "grpo": ("grpo", PROMPTS | {"loss_type": "grpo", "kl_coefficient": 0.1}),
    "spo": ("spo", PROMPTS | HALF),
}


@pytest.mark.parametrize(("stage", "settings"), CASES.values(), ids=CASES)
def test_a_trace_is_what_is_measured(world: World, stage: str, settings: dict[str, Any]) -> None:
    changes = settings if stage == "pretrain" else {"start_from": "start", **settings}
    run = world.begun(stage, "traced", **changes)
    made = assemble(run)  # its rows are encoded now
    measured = rehearsed_peak(made.stage, made.precision, CPU)
    assert measured is not None
    found = traced_peak(_settings(run).to_json(), str(run.path))
    fixed = [(peak.weights, peak.companions, peak.optimizer, peak.gradients) for peak in (found, measured)]
    assert fixed[0] == fixed[1]
    assert found.peak_bytes == pytest.approx(measured.peak_bytes, rel=0.01)


def test_experts_are_counted_again_after_a_trace(world: World) -> None:
    counted = moe.tokens_by_expert
    run = world.begun("pretrain", "experts", **SHAPE, **ROWS, **EXPERTS)
    traced_peak(_settings(run).to_json(), str(run.path))
    assert moe.tokens_by_expert is counted


@pytest.fixture
def no_weights() -> Iterator[None]:
    """Nobody reads weights here: they are gone."""
    files = list(runs_folder().rglob("*.safetensors"))
    assert files
    for file in files:
        file.unlink()
    yield


@pytest.mark.parametrize(
    ("stage", "settings"),
    [("distill", ROWS), ("dpo", ROWS),
     ("ppo", PROMPTS | {"critic_from": "scorer", "rewards": {"model": 1.0}, "reward_model": "scorer"})],
    ids=["distill", "dpo", "ppo"],
)  # fmt: skip
def test_no_weights_and_no_rows_are_needed(
    world: World, stage: str, settings: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    """Of a run that is only planned: companions lie where the settings say, rows are taken as full."""
    begun = _settings(world.begun(stage, "begun", **{"start_from": "start", **settings}))
    request.getfixturevalue("no_weights")
    shutil.rmtree(runs_folder() / "begun")
    planned = begun.replace({"data": "/nowhere/rows.jsonl"}, "test")
    found = traced_peak(planned.to_json(), None)
    assert found.companions > 0
    shorter = traced_peak(planned.replace({"max_seq_len": settings["max_seq_len"] // 2}, "test").to_json(), None)
    assert found.work > shorter.work and found.weights == shorter.weights > 0


def test_full_rows(world: World) -> None:
    rows = FullRows(_settings(world.begun("sft", "rows", start_from="start", accumulation_steps=3, **ROWS)))
    assert len(rows) == 18 and set(rows.lengths) == {96} and set(rows.columns["trained"]) == {95}
    assert rows.weights(0).tolist() == [0.0] + 95 * [1.0] and rows.ids(5).max() < 500
    pairs = FullRows(_settings(world.begun("dpo", "pairs", start_from="start", **ROWS)))
    assert pairs.columns["rows"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    prompts = FullRows(_settings(world.begun("grpo", "prompts", start_from="start", **PROMPTS)))
    assert not prompts.weights(0).any() and not np.count_nonzero(prompts.columns["trained"])


# The process


def test_it_is_traced_in_a_process_of_its_own(world: World) -> None:
    run = world.begun("pretrain", "apart", **SHAPE, **ROWS)
    settings = _settings(run)
    found = trace(settings, run.path)
    assert found.reason == "" and found.peak == traced_peak(settings.to_json(), str(run.path))


def test_without_a_teacher_there_is_no_estimate(world: World) -> None:
    settings = _settings(world.begun("distill", "pupil", start_from="start", **ROWS))
    missing = settings.replace({"teacher": "/nowhere/teacher"}, "test")
    [(what, reason)] = trace_worker.answer({"settings": missing.to_json(), "run": None}).items()
    assert what == "error" and "/nowhere/teacher" in reason


def test_whatever_is_raised_is_no_estimate(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("\x1b[2J not supported\nby fake tensors")

    monkeypatch.setattr(traced, "traced_peak", fail)
    assert trace_worker.answer({"settings": {}, "run": None}) == {"error": "RuntimeError: ␛[2J not supported"}


def _python(path: Path, body: str) -> str:
    """What stands in for the interpreter."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o700)
    return str(path)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("kill -ABRT $$", "ended with -6"),
        ("echo 'terminate called' >&2; exit 3", "ended with 3: terminate called"),
        ("printf '\\033[2J' >&2; exit 1", "ended with 1: ␛[2J"),
        ("echo '[]'", "ended with 0"),
        ("echo '{\"peak\": 1}'", "ended with 0"),
        ("exec sleep 60", "longer than 1 s"),
    ],
)
def test_a_process_that_fails_is_no_estimate(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, reason: str
) -> None:
    settings = _settings(world.begun("pretrain", "fails", **SHAPE, **ROWS))
    monkeypatch.setattr(tracing.sys, "executable", _python(tmp_path / "python", body))
    found = trace(settings, seconds=1)
    assert found.peak is None and reason in found.reason


def test_no_interpreter_is_no_estimate(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _settings(world.begun("pretrain", "none", **SHAPE, **ROWS))
    monkeypatch.setattr(tracing.sys, "executable", "/nowhere/python")
    assert trace(settings).reason.startswith("its process cannot be started")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")
def test_a_run_s_limits_do_not_hold_for_it() -> None:
    script = """
import os, resource
from engine.session.trace_worker import _stand_back
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, hard))
before = os.nice(0)
_stand_back()
assert resource.getrlimit(resource.RLIMIT_AS) == (hard, hard)
assert os.nice(0) > before or before >= 15
"""
    subprocess.run([sys.executable, "-c", script], check=True)
