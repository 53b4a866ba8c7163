"""`engine plan`: what scripts and the app rely on, and what people read."""

import json
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from engine.memory.limits import CARD_SHARE
from engine.memory.plan import Breakdown
from engine.runs.folder import list_runs
from tests.training.tiny import MODEL, World

GIB = 1 << 30
Engine = Callable[..., Any]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Engine:
    """Runs `engine …` here; gives its document, or its outputs together where it is none."""

    def run(*arguments: object, code: int = 0) -> Any:
        monkeypatch.setattr(sys, "argv", ["engine", *map(str, arguments)])
        try:
            main()
            status: Any = 0
        except SystemExit as end:
            status = end.code or 0
        out, err = capsys.readouterr()
        assert status == code, f"exit {status}, not {code}\n{out}\n{err}"
        return json.loads(out) if "--json" in arguments and not code else out + err

    return run


def sets(**settings: Any) -> list[str]:
    return [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]


def test_the_document(engine: Engine) -> None:
    found = engine("plan", "cpu/ppo", "--device", "cpu:16GiB", "--json")
    assert found.keys() >= {
        "device", "limit_bytes", "peak_bytes", "low_bytes", "high_bytes", "breakdown", "fits", "headroom_bytes",
        "method", "suggestions", "max_batch_size", "time",
    }  # fmt: skip
    assert found["breakdown"].keys() == {
        "weights", "gradients", "optimizer", "activations", "logits", "reference", "teacher", "critic",
        "rollout_cache", "runtime",
    } == {entry.name for entry in fields(Breakdown)}  # fmt: skip
    assert sum(found["breakdown"].values()) == found["peak_bytes"] > 0
    assert found["breakdown"]["critic"] > 0 and found["breakdown"]["reference"] > 0
    assert found["device"] == "cpu" and found["limit_bytes"] == 16 * GIB and found["method"] == "formula"
    assert found["fits"] == (found["high_bytes"] <= found["limit_bytes"])
    assert found["headroom_bytes"] == found["limit_bytes"] - found["high_bytes"]
    assert found["time"].keys() >= {"tokens_per_second", "seconds"}
    first = found["suggestions"][0]
    assert first.keys() == {
        "title", "changes", "peak_bytes", "saves_bytes", "fits", "cost", "keeps_effective_batch", "truncated_rows",
    }  # fmt: skip
    assert isinstance(found["max_batch_size"], int)


@pytest.mark.parametrize(
    ("device", "name", "limit"),
    [
        ("cpu:16GiB", "cpu", 16 * GIB),
        ("cuda:8GiB", "cuda", 8 * GIB),
        ("cuda:512MiB", "cuda", GIB // 2),
        ("rtx3050", "rtx3050", int(8 * CARD_SHARE * GIB)),
        ("mps:24GB", "mps", 24 * GIB),
    ],
)
def test_devices(engine: Engine, device: str, name: str, limit: int) -> None:
    found = engine("plan", "rtx3050-8g/pretrain", "--device", device, "--json")
    assert (found["device"], found["limit_bytes"]) == (name, limit)
    assert found["verified"] is False
    assert found["fits"] or found["suggestions"][0]["saves_bytes"] > 0


def test_the_profile_s_own_device_is_this_machine(engine: Engine) -> None:
    found = engine("plan", "cpu/pretrain", "--json")
    assert found["device"] == "cpu" and found["limit_bytes"] > 0
    assert found["low_bytes"] >= found["peak_bytes"]


@pytest.mark.parametrize("device", ["cpu:lots", "gpu", "cuda:0GiB"])
def test_a_device_that_cannot_be(engine: Engine, device: str) -> None:
    assert "device" in engine("plan", "cpu/pretrain", "--device", device, "--json", code=2)


def test_settings_count(engine: Engine) -> None:
    def peak(*more: str) -> int:
        return int(engine("plan", "cpu/pretrain", "--device", "cpu:64GiB", "--json", *more)["peak_bytes"])

    assert peak(*sets(batch_size=2)) < peak(*sets(batch_size=4))
    assert peak(*sets(gradient_checkpointing="true")) < peak()
    assert "no_such" in engine("plan", "cpu/pretrain", *sets(no_such=1), code=2)


def test_what_is_missing_is_assumed_and_said(engine: Engine) -> None:
    said = engine("plan", "cpu/distill", "--device", "cpu:16GiB")
    for words in ("a vocabulary of 6,400 tokens is assumed", "all are taken as full", "as large as the student"):
        assert words in said
    assert not list_runs()


def test_rows_that_are_known_count(engine: Engine, world: World, tmp_path: Path) -> None:
    """Once a run has encoded them, a plan is for the largest micro-batch that they make."""
    profile = tmp_path / "own.toml"
    profile.write_text('stage = "pretrain"\ndevice = "cpu"\nnum_threads = 1\nmax_steps = 1\nbatch_size = 4\n')
    files = ("--data", str(world.texts), "--tokenizer", str(world.tokenizer))
    options = (*files, *sets(**MODEL, max_seq_len=200, eval_interval=0, dtype="float32"))
    full = engine("plan", profile, *options, "--json")
    assert full["shape"] == {"documents": 4, "tokens": 800, "longest": 200}
    ran = engine("train", profile, *options, "--name", "encodes", "--json")
    known = engine("plan", profile, *options, "--json")
    assert known["shape"]["tokens"] < 800 and "all are taken as full" not in str(known["notes"])
    assert known["peak_bytes"] == pytest.approx(ran["peak_bytes"], rel=0.03)
    assert known["time"]["source"] == "1 earlier run" and known["time"]["tokens_per_second"] > 0
    cut = [each for each in known["suggestions"] if "max_seq_len" in each["changes"]]
    assert all(each["truncated_rows"] > 0 for each in cut)


def test_history(engine: Engine, world: World) -> None:
    assert "no run has reported" in engine("plan", "--history", code=2)
    world.trained("sft", "reported", max_steps=1)
    [row] = engine("plan", "--history", "--json")["runs"]
    assert row["run"] == "reported" and row["finished"] and abs(row["error"]) < 0.05
    assert row["resident_bytes"] is None or row["within"] in (True, False)
    said = engine("plan", "--history")
    assert "reported" in said and "sft" in said and "%" in said


def test_for_people(engine: Engine) -> None:
    said = engine("plan", "cpu/grpo", "--device", "cpu:600MiB", *sets(max_new_tokens=256))
    assert "cpu: does not fit" in said and "what would help:" in said and "  1. " in said
    assert "largest batch_size 0" in said and "no run on this kind of device has checked yet" in said
    roomy = engine("plan", "starter/sft", "--device", "cpu:64GiB")
    assert "cpu: fits" in roomy and "to spare" in roomy


def test_a_stage_without_a_model_is_refused(engine: Engine) -> None:
    assert "trains no model" in engine("plan", "cpu/tokenizer", code=2)
    assert "no profile is named" in engine("plan", code=2)


def test_a_trace_says_so(engine: Engine, world: World, tmp_path: Path) -> None:
    profile = tmp_path / "own.toml"
    profile.write_text('stage = "pretrain"\ndevice = "cpu"\n')
    files = ("--data", str(world.texts), "--tokenizer", str(world.tokenizer))
    found = engine("plan", profile, *files, *sets(**MODEL, max_seq_len=64, dtype="float32"), "--trace", "--json")
    assert found["method"] == "trace" and sum(found["breakdown"].values()) == found["peak_bytes"]
