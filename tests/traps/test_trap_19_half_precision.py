"""float16: float32 master weights, unscale → clip → step, the scaler's skips shown. bfloat16: small updates survive."""

from typing import Any

import pytest
import torch

from engine.runs.events import NonFiniteStep, Step
from engine.session import carry_out
from engine.training.device import Device
from engine.training.precision import Precision
from engine.training.update import Updater
from tests.training.tiny import World, same_bits, tensors


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"))


@pytest.fixture
def huge_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scaler that begins where float16 overflows, so that it has to look for its scale."""
    make = Precision.__init__

    def begun(self: Precision, dtype: str, device: Device) -> None:
        make(self, dtype, device)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24, growth_interval=4)

    monkeypatch.setattr(Precision, "__init__", begun)


def test_scaler_skips_are_counted_and_are_not_non_finite(world: World, huge_scale: None) -> None:
    run = world.begun("sft", dtype="float16", max_steps=12)
    summary = carry_out(run)
    steps = [event for event in run.history() if isinstance(event, Step)]
    scales = [event.metrics["loss_scale"] for event in steps]
    assert summary["skipped_steps"] == sum(after < before for before, after in zip([2.0**24, *scales], scales)) > 0  # noqa: B905
    assert not any(isinstance(event, NonFiniteStep) for event in run.history())
    assert steps[-1].metrics["loss"] < steps[0].metrics["loss"]
    assert all(tensor.dtype == torch.float32 for tensor in tensors(run).values())


def test_clipping_sees_unscaled_gradients(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The norm that is reported is the one of float32, not 65,536 times as large."""
    norms: dict[str, list[float]] = {}
    for dtype in ("float32", "float16", "bfloat16"):
        monkeypatch.setattr(Device, "has_bfloat16", lambda self: True)
        run = world.trained("sft", dtype, dtype=dtype, max_steps=3)
        norms[dtype] = [event.metrics["grad_norm"] for event in run.history() if isinstance(event, Step)]
    assert norms["float16"] == pytest.approx(norms["float32"], rel=0.01)
    assert norms["bfloat16"] == pytest.approx(norms["float32"], rel=0.03)


def test_the_scaler_is_in_the_checkpoint(world: World, huge_scale: None) -> None:
    whole = world.trained("sft", "whole", dtype="float16", max_steps=12, save_interval=5, keep_checkpoints=9)
    half = world.begun("sft", "half", dtype="float16", max_steps=12, save_interval=5, keep_checkpoints=9)
    carry_out(half)
    for step in (10, 12):
        path = half.checkpoint(step)
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    carry_out(half, resume=True)
    assert same_bits(tensors(half), tensors(whole))
    scales = [[e.metrics["loss_scale"] for e in run.history() if isinstance(e, Step)] for run in (half, whole)]
    assert scales[0] == scales[1]


def test_gradients_that_no_scale_helps_end_the_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Updater.__init__

    def poisoned(self: Updater, *args: Any) -> None:
        make(self, *args)
        self.named[0][1].register_hook(lambda gradient: gradient * float("nan"))

    monkeypatch.setattr(Updater, "__init__", poisoned)
    run = world.begun("sft", dtype="float16", max_steps=100, max_non_finite=3)
    with pytest.raises(Exception, match="3 steps in a row had a non-finite gradient"):
        carry_out(run)
    # 2^16 is halved to 1 in 16 steps; those are the scaler's, the three after them are not
    assert [event.step for event in run.history() if isinstance(event, NonFiniteStep)] == [17, 18, 19]


def test_small_updates_survive_bfloat16(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "has_bfloat16", lambda self: True)
    run = world.trained("sft", dtype="bfloat16", max_steps=2, learning_rate=1e-4, warmup_steps=0)
    norms = [tensor for name, tensor in tensors(run).items() if "model.safetensors" in name and "norm" in name]
    # a bfloat16 weight of 1 would not move: its neighbours are 0.004 and 0.008 away
    assert all(tensor.dtype == torch.float32 and (tensor != 1).float().mean() > 0.9 for tensor in norms)
