"""How much disk a run is said to need, compared with what it writes."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from engine.errors import UserError
from engine.runs.folder import RunFolder, list_runs
from engine.session import begin
from engine.session.disk import check_disk
from engine.settings.profile import Settings
from tests.training.tiny import World, request, tensors

_SPARE = 64 << 20


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"))


def _free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free}))


def _refused(run: RunFolder, monkeypatch: pytest.MonkeyPatch, free: int) -> bool:
    _free(monkeypatch, free)
    try:
        check_disk(run, Settings.from_json(run.read_json(run.resolved)))
    except UserError:
        return True
    return False


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        ("sft", {}),
        ("lora", {"lora_rank": 2}),
        ("lora", {"lora_rank": 3, "lora_targets": ["q_proj", "down_proj"]}),
        ("reward", {}),
        ("reward", {"lora_rank": 2}),
        ("ppo", {"critic": "shared"}),
        ("ppo", {"critic": "own"}),
        ("ppo", {"critic": "own", "lora_rank": 2}),
    ],
)
def test_what_is_asked_for_is_what_a_checkpoint_takes(
    world: World, monkeypatch: pytest.MonkeyPatch, stage: str, changes: dict[str, Any]
) -> None:
    """But for the files' headers, which the tiny model's weights are hardly larger than."""
    run = world.trained(stage, **{"max_steps": 2, "keep_checkpoints": 1} | changes)
    written = sum(tensor.nbytes for tensor in tensors(run).values())
    missing = 2  # of the newest, the best and the one that is being written the first is there
    assert _refused(run, monkeypatch, _SPARE + int(0.98 * missing * written))
    assert not _refused(run, monkeypatch, _SPARE + missing * written)


def test_an_adapter_takes_little(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, adapter = world.begun("sft"), world.begun("lora", lora_rank=1)
    room = _SPARE + 12 * 5000  # less than one checkpoint of the model, more than three of the adapter
    assert _refused(whole, monkeypatch, room) and not _refused(adapter, monkeypatch, room)


def test_copies_of_models_are_counted_before_they_are_made(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model from elsewhere is copied; another run's is linked and takes nothing."""
    start = world.begun("sft", "probe").path.parent / world.start()
    elsewhere = shutil.copytree(RunFolder(start).select("newest"), tmp_path / "elsewhere")
    with (elsewhere / "model.safetensors").open("ab") as file:
        file.truncate(500 << 20)  # holds no such bytes, and costs none here; as large as a model of some size
    runs = [run.name for run in list_runs()]
    _free(monkeypatch, _SPARE + (100 << 20))
    with pytest.raises(UserError, match=r"needs 0\.59 GB of disk, 0\.17 GB are free: .* 0\.52 GB for copies"):
        begin(request("distill", world.talks, world.tokenizer, "far", "start", teacher=str(elsewhere)))
    assert [run.name for run in list_runs()] == runs
    begin(request("distill", world.talks, world.tokenizer, "near", "start", teacher="start"))
