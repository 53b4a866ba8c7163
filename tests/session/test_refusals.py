"""Runs that are not expected to fit: refused, and nothing lost."""

import json
from dataclasses import replace
from typing import Any

import pytest

from engine.errors import DoesNotFit, UserError
from engine.memory.limits import Limits
from engine.memory.suggest import ORIGIN
from engine.runs.events import Adjusted
from engine.runs.folder import RunFolder, find_run, list_runs
from engine.session import begin, carry_out, train
from engine.session.adjust import apply_suggestion
from engine.session.fitting import fitting_request
from engine.session.request import FITTED
from engine.settings.profile import Settings
from tests.training.tiny import World, request

MIB = 1 << 20
BIG = {"hidden_size": 256, "intermediate_size": 4096, "batch_size": 32}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"))


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 400 MiB for a run; what is measured is this machine's."""
    few = Limits(total=1 << 30, resident=300 * MIB, available=400 * MIB, cgroup=None, address_space=None, data=None)
    for module in ("engine.memory.limits", "engine.session.memory", "engine.session.shortage"):
        monkeypatch.setattr(f"{module}.process_limits", lambda: few)


def settings_of(run: RunFolder) -> Settings:
    return Settings.from_json(run.read_json(run.resolved))


def files(run: RunFolder) -> dict[str, Any]:
    return {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file() and path.name != "lock"}


def test_a_new_run_is_refused_and_leaves_nothing(world: World, little: None) -> None:
    with pytest.raises(DoesNotFit) as caught:
        train(request("pretrain", world.texts, world.tokenizer, "refused", **BIG))
    assert caught.value.exit_code == 3 and not caught.value.run
    assert "--set batch_size=" in caught.value.hint and "--force" in caught.value.hint
    first = caught.value.plan["suggestions"][0]
    assert first["fits"] and first["changes"]["batch_size"] * first["changes"]["accumulation_steps"] == 32
    assert not list_runs()


def test_the_change_that_fits_is_written_down_as_such(world: World, little: None) -> None:
    wanted = request("pretrain", world.texts, world.tokenizer, "fitted", **BIG, max_steps=1)
    with pytest.raises(DoesNotFit) as caught:
        train(wanted)
    changed = fitting_request(wanted, caught.value)
    assert changed is not None and changed.assignments == wanted.assignments
    train(changed)
    run = find_run("fitted")
    changes = caught.value.plan["suggestions"][0]["changes"]
    assert [event.changes for event in run.history() if isinstance(event, Adjusted)] == [changes]
    assert {settings_of(run).origins[name] for name in changes} == {FITTED}


def test_a_refused_resume_leaves_the_run_as_it_was(world: World, little: None) -> None:
    run = begin(request("pretrain", world.texts, world.tokenizer, "begun", **BIG, max_steps=2))
    carry_out(run, force=True)
    end = run.events.read_bytes()
    run.events.write_bytes(b"".join(end.splitlines(keepends=True)[:-1]))  # as if it had been killed at its end
    before = files(run)
    with pytest.raises(DoesNotFit) as caught:
        carry_out(run, resume=True)
    after = files(run)
    offered = json.loads(after.pop("suggestions.json"))
    assert after == before and caught.value.run == "begun"
    assert f"engine resume begun --apply {next(n for n, each in enumerate(offered, 1) if each['fits'])}" in str(
        caught.value
    )
    changes = apply_suggestion(run, 1)
    assert changes == offered[0]["changes"] and {settings_of(run).origins[name] for name in changes} == {ORIGIN}
    with pytest.raises(UserError, match="nothing is offered"):
        apply_suggestion(run, 1)
    carry_out(run, resume=True)
    assert run.state() == "done"
    assert [event.changes for event in run.history() if isinstance(event, Adjusted)] == [changes]


def test_what_a_failed_run_was_to_replace_is_kept(world: World, little: None) -> None:
    """Also where the one before was ended from outside, and the next one is refused."""
    good = request("pretrain", world.texts, world.tokenizer, "precious", max_steps=1)
    train(good)
    weights = (find_run("precious").select("newest") / "model.safetensors").read_bytes()
    begin(replace(good, overwrite=True))  # its process is killed here
    with pytest.raises(DoesNotFit):
        train(replace(request("pretrain", world.texts, world.tokenizer, "precious", **BIG), overwrite=True))
    assert (find_run("precious").select("newest") / "model.safetensors").read_bytes() == weights
    train(replace(good, overwrite=True))
    assert not list(find_run("precious").path.parent.glob(".replaced-*"))
