"""What the small files of a checkpoint's folder tell."""

import json
import os
from pathlib import Path

from engine.references import checkpoint_folder
from engine.runs.folder import find_run
from minimind_tui.core.library import Library
from minimind_tui.core.models import base_under, is_adapter, is_judge, same_weights
from minimind_tui.core.talk import Partners, offers
from tests.stages.started import world, world_and_start
from tests.training.tiny import World

__all__ = ["world", "world_and_start"]


def test_an_adapter_stands_on_what_it_was_begun_from(world: World) -> None:
    one, two = (world.trained("lora", name, seed=seed).select("newest") for name, seed in (("one", 1), ("two", 2)))
    start, other = checkpoint_folder("start"), world.trained("sft", "other", seed=9).select("newest")
    assert is_adapter(one) and not is_adapter(start)
    assert base_under(one).may_be(base_under(start)) and base_under(one).may_be(base_under(two))
    assert not base_under(other).may_be(base_under(one))
    named = json.loads((two / "base.json").read_text())
    (two / "base.json").write_text(json.dumps(named | {"fingerprint": "0" * 32}))
    assert not base_under(one).may_be(base_under(two)), "fingerprints count more than places"
    for damage in ("{", "[]", '{"path": 3, "fingerprint": null}'):
        (two / "base.json").write_text(damage)
        assert base_under(two).places and not base_under(two).fingerprint
    companion = find_run("one").companion("start")
    assert same_weights(start, start) and not same_weights(start, other) and not same_weights(start, one)
    (companion / "model.safetensors").unlink()
    os.link(start / "model.safetensors", companion / "model.safetensors")
    assert same_weights(start, companion)


def test_a_reward_model_is_no_partner(world: World) -> None:
    judge = world.trained("reward").select("newest")
    assert is_judge(judge) and not is_judge(checkpoint_folder("start")) and not is_judge(Path("/nowhere"))
    assert [offer.reference for offer in offers(Library().runs())] == ["start@newest"]


def test_adapters_of_one_model_share_it(world: World) -> None:
    world.trained("lora", "one")
    world.trained("lora", "two", seed=7)
    world.trained("sft", "other", seed=9)
    folders = {name: checkpoint_folder(name) for name in ("start", "one", "two", "other")}
    found = offers(Library().runs(), folders["two"])
    assert {offer.reference for offer in found[:3]} == {"start@newest", "one@newest", "two@newest"}
    assert all("same model" in offer.note for offer in found[:3]) and "same model" not in found[3].note
    assert "adapter of start@8" in next(offer.note for offer in found if offer.reference == "one@newest")
    partners = Partners()
    first = partners.get(folders["start"])
    assert partners.get(folders["one"]) is first and first.adapter is not None
    assert partners.get(folders["two"]) is first and first.adapter.folder == folders["two"]
    assert partners.get(folders["start"]) is first and first.adapter is None
    assert partners.get(folders["other"]) is not first
    again = partners.get(folders["one"])
    assert again is not first and again.adapter is not None and again.adapter.folder == folders["one"]


def test_a_place_that_holds_other_weights_by_now_is_noticed(world: World) -> None:
    run = world.trained("lora", "one")
    start = checkpoint_folder("start")
    other = world.trained("sft", "other", seed=9).select("newest")
    (start / "model.safetensors").unlink()  # the run keeps the file itself as its companion
    (start / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    partners = Partners()
    first = partners.get(start)
    assert partners.get(run.select("newest")) is not first
