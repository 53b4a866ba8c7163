"""The ladder's machinery on tiny runs: measuring, going on, failing."""

import json

import pytest
from safetensors.torch import load_file, save_file

from engine.errors import CheckpointError
from engine.evaluation.evaluate import evaluate
from engine.ladder.climb import base_unchanged
from engine.ladder.results import Results, ladder_folder
from engine.ladder.table import tabulate
from engine.references import newest_run
from engine.runs.folder import find_run


def resolved(name):
    run = find_run(name)
    return run.read_json(run.resolved)


def test_rungs_are_measured_before_and_after_on_the_same_file(ladder, carrier, world):
    assert carrier.climb(ladder, "lora", seed=3) == []
    assert carrier.carried == ["ladder-3-pretrain", "ladder-3-sft", "ladder-3-lora"]  # and nothing that is not needed
    results = Results(ladder, 3)
    for name in ("pretrain", "sft", "lora"):
        checkpoint = find_run(f"ladder-3-{name}").select("newest")
        expected = evaluate(checkpoint, world.talks)["bits_per_byte"]
        assert results.result(name).measured[str(world.talks)]["bits_per_byte"] == pytest.approx(expected, rel=1e-6)
        assert resolved(f"ladder-3-{name}")["settings"]["seed"]["value"] == 3
    values = {name: results.value(name, ladder["sft"].lines[0].figure) for name in ("pretrain", "sft", "lora")}
    assert values["sft"] < values["pretrain"] and values["lora"] != values["sft"]
    tuned, adapted, compared, share, base = tabulate(ladder, [results])["rows"][1:]
    assert (tuned["before"], tuned["after"], tuned["reached"]) == ([values["pretrain"]], [values["sft"]], [True])
    assert (adapted["before"], adapted["after"], adapted["before_of"]) == (
        [values["sft"]], [values["lora"]], "",
    )  # fmt: skip
    assert (compared["before"], compared["before_of"]) == ([values["pretrain"]], "pretrain")
    run = find_run("ladder-3-lora")
    trained = sum(each.numel() for each in load_file(run.select("newest") / "adapter_model.safetensors").values())
    whole = sum(each.numel() for each in load_file(run.companion("start") / "model.safetensors").values())
    assert share["after"] == [pytest.approx(trained / (trained + whole))]
    assert base["after"] == [True]
    assert results.result("lora").train_seconds > 0 < results.result("lora").evaluation_seconds


def test_a_killed_ladder_goes_on_with_the_rung_that_it_ended_in(ladder, carrier):
    carrier.stop_at = "ladder-0-sft"
    with pytest.raises(KeyboardInterrupt):
        carrier.climb(ladder, "lora")
    assert carrier.carried == ["ladder-0-pretrain"]
    kept = (ladder_folder() / "seed-0" / "pretrain.json").read_text()
    carrier.stop_at = ""
    assert carrier.climb(ladder, "lora") == []
    assert carrier.carried == ["ladder-0-sft", "ladder-0-lora"]
    assert json.loads(kept)["finished"] == Results(ladder, 0).result("pretrain").finished
    assert carrier.climb(ladder, "lora") == []
    assert carrier.carried == []
    carrier.climb(ladder, "sft", seed=1)  # another seed is another ladder
    assert carrier.carried == ["ladder-1-pretrain", "ladder-1-sft"]


def test_a_kill_while_measuring_loses_only_that_rung(ladder, carrier, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("engine.ladder.climb.evaluate", killed)
        carrier.climb(ladder, "sft")
    assert carrier.climb(ladder, "sft") == []
    assert carrier.carried == ["ladder-0-sft"]  # its half-measured run is replaced


def test_a_failure_is_kept_and_stops_only_what_needs_it(ladder, carrier):
    assert carrier.climb(ladder, " ".join(ladder)) == ["broken", "orphan"]
    assert carrier.carried == ["ladder-0-pretrain", "ladder-0-broken", "ladder-0-sft", "ladder-0-lora"]
    (failure,) = tabulate(ladder, [Results(ladder, 0)])["failures"]
    assert failure["rung"] == "broken" and "does not exist" in failure["error"]
    assert any("orphan: left out" in told and "broken" in told for told in carrier.told)
    assert carrier.climb(ladder, " ".join(ladder)) == ["broken", "orphan"]
    assert carrier.carried == ["ladder-0-broken"]  # it is tried again


def test_what_was_made_of_a_repeated_rung_is_no_longer_done(ladder, carrier):
    carrier.climb(ladder, "lora")
    assert carrier.climb(ladder, "sft", again=True) == []
    assert carrier.carried == ["ladder-0-sft"]
    results = Results(ladder, 0)
    assert results.is_done("sft") and not results.is_done("lora")
    assert {row["rung"] for row in tabulate(ladder, [results])["rows"]} == {"pretrain", "sft"}
    carrier.climb(ladder, "lora")
    assert carrier.carried == ["ladder-0-lora"]


def test_no_profile_takes_a_run_of_the_ladder_for_its_newest(ladder, carrier):
    carrier.climb(ladder, "pretrain")
    assert resolved("ladder-0-pretrain")["profile"] == "pretrain"  # the rung's name, whatever its profile's
    with pytest.raises(CheckpointError):
        newest_run(ladder["pretrain"].profile)


def test_a_changed_base_is_seen(ladder, carrier, tmp_path):
    carrier.climb(ladder, "lora")
    adapter = find_run("ladder-0-lora").select("newest")
    start = find_run("ladder-0-sft").select("newest")
    assert base_unchanged(adapter, start)
    weights = load_file(start / "model.safetensors")
    name = next(iter(weights))
    weights[name].view(-1)[0] += 1e-3
    save_file(weights, start / "model.safetensors", {"format": "pt"})
    assert not base_unchanged(adapter, start)
