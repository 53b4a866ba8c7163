from pathlib import Path

import pytest
import torch

from engine.errors import CheckpointError, EngineError
from engine.runs import checkpoint as module
from engine.runs.checkpoint import (
    load_checkpoint,
    newest_whole,
    save_checkpoint,
    set_aside,
    sweep,
    tidy_checkpoints,
    verify_checkpoint,
)
from engine.runs.folder import RunFolder, create_run


@pytest.fixture
def run() -> RunFolder:
    return create_run("run")


def _save(run: RunFolder, step: int, content: str = "model", best: int | None = None) -> Path:
    def write(folder: Path) -> None:
        (folder / "model.txt").write_text(content)
        (folder / "sub").mkdir()
        (folder / "sub" / "more.txt").write_text(content)

    return save_checkpoint(run, step, write, {"a": torch.arange(4.0)[::2]}, {"x": float("nan")}, best)


def test_whole_and_back(run: RunFolder) -> None:
    path = _save(run, 7, best=7)
    verify_checkpoint(path)
    tensors, state = load_checkpoint(path)
    assert tensors["a"].tolist() == [0.0, 2.0] and state == {"x": "NaN"}
    assert run.checkpoint_steps() == [7] and run.best_step() == 7


@pytest.mark.parametrize("name", ["model.txt", "sub/more.txt", "optimizer.safetensors", "state.json", "manifest.json"])
def test_one_flipped_byte_is_found(run: RunFolder, name: str) -> None:
    _save(run, 1)
    path = _save(run, 2) / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 128
    path.write_bytes(data)
    step, complaints = newest_whole(run)
    assert step == 1
    assert len(complaints) == 1 and "step 2" in complaints[0]
    path.unlink()
    assert newest_whole(run)[0] == 1


def test_a_damaged_checkpoint_is_set_aside_and_never_outlives_a_good_one(run: RunFolder) -> None:
    for step in (1, 2, 3):
        _save(run, step)
    set_aside(run, 1)
    _save(run, 2, "new")
    tidy_checkpoints(run, 1, None)
    assert run.checkpoint_steps() == [2]
    assert sorted(path.name for path in run.checkpoints.iterdir()) == [
        "damaged-step-00000002", "damaged-step-00000003", "step-00000002",
    ]  # fmt: skip


def test_keep(run: RunFolder) -> None:
    for step in range(1, 6):
        _save(run, step)
    tidy_checkpoints(run, 2, 1)
    assert run.checkpoint_steps() == [1, 4, 5]
    assert len(list(run.checkpoints.iterdir())) == 3


def test_a_full_disk_keeps_what_was_there(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    _save(run, 1, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for place in ("save_file", "_sync"):
        with monkeypatch.context() as patch:
            patch.setattr(module, place, full)
            with pytest.raises(EngineError, match=r"step 2 cannot be written.*No space(.|\n)*exist: 1") as caught:
                _save(run, 2)
        assert caught.value.exit_code == 1
    with monkeypatch.context() as patch:
        patch.setattr(module, "_sync", full)
        with pytest.raises(EngineError):
            _save(run, 1, "new")
    assert (run.checkpoint(1) / "model.txt").read_text() == "old"
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000001"]


def test_sweep_clears_what_a_kill_left_and_puts_back_what_was_being_replaced(run: RunFolder) -> None:
    _save(run, 1)
    run.checkpoint(1).rename(run.checkpoints / ".replaced-step-00000001")
    for name in (".saving-step-00000002", ".removed-step-00000000"):
        (run.checkpoints / name).mkdir()
    sweep(run)
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000001"]
    assert newest_whole(run) == (1, [])
    (run.checkpoints / ".replaced-step-00000001").mkdir()
    sweep(run)
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000001"]


def test_no_checkpoint(run: RunFolder) -> None:
    assert newest_whole(run) == (None, [])
    run.checkpoint(3).mkdir()
    assert newest_whole(run)[0] is None
    with pytest.raises(CheckpointError):
        load_checkpoint(run.checkpoint(3))
