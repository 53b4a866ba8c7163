"""What frozen models are asked before a run: interrupted, shared, damaged, and tied to what decides the answers."""

import gc
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.errors import Interrupted
from engine.model.config import YaRN
from engine.model.transformer import Transformer
from engine.runs.control import StopNow, send
from engine.runs.events import Event, Finished, Progress
from engine.session import carry_out
from engine.settings.places import cache_folder
from engine.stages.base import ModelStage
from engine.stages.reference import Reference
from engine.text.batching import Batch
from engine.text.cache import build_lock
from engine.training.batch import DeviceBatch
from tests.stages.assembled import assemble
from tests.training.tiny import World, losses

CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "dpo": ({"reference_log_probs": "precomputed"}, "log-probs", "asking the reference"),
    "distill": ({"teacher_top_k": 8, "packing": False}, "teachers", "asking the teacher"),
}
stages = pytest.mark.parametrize("stage", CASES)


def _files(stage: str, pattern: str = "*.npy") -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted((cache_folder() / CASES[stage][1]).glob(pattern))}


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Samples of each batch that a stage has moved to its device."""
    seen, moved = list[int](), ModelStage.to_device

    def noted(self: ModelStage, batch: Batch) -> DeviceBatch:
        seen.append(len(batch.samples))
        return moved(self, batch)

    monkeypatch.setattr(ModelStage, "to_device", noted)
    return seen


@stages
@pytest.mark.parametrize("how", ["interrupt", "command"])
def test_a_stop_ends_the_asking_as_an_interruption(world: World, stage: str, how: str) -> None:
    settings, _, what = CASES[stage]
    run, interrupt, told = world.begun(stage, **settings), threading.Event(), list[Event]()

    def listen(event: Event) -> None:
        told.append(event)
        if isinstance(event, Progress) and event.what == what and event.done > 0:
            interrupt.set() if how == "interrupt" else send(run, "stop_now")

    with pytest.raises(Interrupted, match="interrupted before the first step; nothing was trained"):
        carry_out(run, interrupt=interrupt, listener=listen)
    shares = [event.done for event in told if isinstance(event, Progress) and event.what == what]
    assert len(shares) == 2 and shares[0] == 0 < shares[1] < 1
    assert isinstance(told[-1], Finished) and told[-1].exit_code == 130
    assert not _files(stage) and not _files(stage, "*.building"), "nothing half done is kept"
    carry_out(run, resume=True)
    assert len(losses(run)) == 8 and _files(stage)


@stages
def test_progress_goes_to_the_end(world: World, stage: str) -> None:
    settings, _, what = CASES[stage]
    run = world.trained(stage, max_steps=1, **settings)
    shares = [event.done for event in run.history() if isinstance(event, Progress) and event.what == what]
    assert shares == sorted(set(shares)) and shares[0] == 0 and shares[-1] == 1 and len(shares) > 3


def test_who_was_asked_leaves_the_memory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, frozen, reference = list[weakref.ref[Transformer]](), ModelStage.frozen, ModelStage.reference

    def watched_frozen(self: ModelStage, name: str, dtype: str = "float32") -> Transformer:
        model = frozen(self, name, dtype)
        asked.append(weakref.ref(model))
        return model

    def watched_reference(self: ModelStage) -> Reference:
        found = reference(self)
        asked.append(weakref.ref(found.model))
        return found

    monkeypatch.setattr(ModelStage, "frozen", watched_frozen)
    monkeypatch.setattr(ModelStage, "reference", watched_reference)
    made = [assemble(world.begun(stage, **settings)) for stage, (settings, _, _) in CASES.items()]
    gc.collect()
    assert len(made) == 2 and len(asked) == 3 and not any(model() for model in asked)


@stages
def test_samples_are_asked_together(world: World, stage: str, passes: list[int]) -> None:
    made = assemble(world.begun(stage, batch_size=8, **CASES[stage][0]))
    assert sum(passes) == len(made.stage.store) > 3 * len(passes)


@stages
def test_one_run_asks_while_others_wait(world: World, stage: str, passes: list[int]) -> None:
    """Two at a time ask once; one that waits can be stopped."""
    settings = CASES[stage][0]
    runs = [world.begun(stage, name, **settings) for name in ("one", "other", "third")]
    found: list[Any] = []
    threads = [threading.Thread(target=lambda run=run: found.append(assemble(run))) for run in runs[:2]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 2 and sum(passes) == len(found[0].stage.store)
    for path in _files(stage):
        path.unlink()
    [lock] = _files(stage, "*.lock")
    with build_lock(lock, lambda: None):
        send(runs[2], "stop_now")
        with pytest.raises(StopNow):
            assemble(runs[2])


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _of_another_shape(path: Path) -> None:
    np.save(path, np.load(path)[:-1])


@stages
@pytest.mark.parametrize("damage", [_cut, _emptied, _of_another_shape, Path.unlink])
def test_damaged_files_are_made_again(world: World, stage: str, damage: Callable[[Path], None]) -> None:
    settings = CASES[stage][0]
    assemble(world.begun(stage, "first", **settings))
    whole = _files(stage)
    damage(list(whole)[-1])
    made = assemble(world.begun(stage, "again", **settings))
    assert _files(stage) == whole
    assert made.round(0)[0].applied


def test_they_belong_to_the_samples_asked_for(world: World) -> None:
    """In whatever order a batch holds them."""
    made = assemble(world.begun("dpo", reference_log_probs="precomputed"))
    asked = assemble(world.begun("dpo", "asked"))
    for batch in (batch for number in range(3) for batch in made.stage.collect(number)[0]):
        moved = made.stage.to_device(batch)
        found, expected = (each.stage._reference_log_probs(batch, moved) for each in (made, asked))
        assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{"rope_theta": 500.0}, {"rms_norm_eps": 1e-2}, {"rope_scaling": YaRN(4.0, 64)}],
    ids=["theta", "eps", "stretched"],
)
def test_the_shape_of_a_teacher_is_in_the_key(
    world: World, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights say something else with another shape."""
    frozen = ModelStage.frozen

    def reshaped(self: ModelStage, name: str, dtype: str = "float32") -> Transformer:
        model = frozen(self, name, dtype)
        other = Transformer(replace(model.config, **changes)).eval().requires_grad_(False)
        other.load_state_dict(model.state_dict())
        return other

    settings = CASES["distill"][0]
    assemble(world.begun("distill", "first", **settings))
    kept = _files("distill")
    monkeypatch.setattr(ModelStage, "frozen", reshaped)
    assemble(world.begun("distill", "second", **settings))
    assert len(_files("distill")) == 4 and set(kept.items()) < set(_files("distill").items())


def test_other_weights_are_asked_anew(world: World) -> None:
    settings = CASES["dpo"][0]
    assemble(world.begun("dpo", "first", **settings))
    run = world.begun("dpo", "second", **settings)
    path = run.companion("start") / "model.safetensors"
    tensors = {name: 1.1 * tensor for name, tensor in load_file(path).items()}
    path.unlink()  # it may be a link to the start run's own file
    save_file(tensors, path, metadata={"format": "pt"})
    assemble(run)
    first, second = _files("dpo").values()
    assert first != second
