"""DPO: the reference is the policy at step 0, frozen and without dropout; sums for DPO, means for IPO."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.runs.events import Evaluated, Step, Warned
from engine.runs.folder import RunFolder
from engine.session import begin, carry_out
from engine.settings.places import cache_folder
from engine.training.device import Device
from tests.stages.assembled import Assembled, answer_log_probs, assemble, same, shake
from tests.training.tiny import OF_STAGE, World, losses, request, write_pairs

ADAPTER = {"lora_rank": 2, "lora_dropout": 0.3}


def _first(run: RunFolder) -> dict[str, float]:
    return next(event for event in run.history() if isinstance(event, Step)).metrics


def _warnings(run: RunFolder) -> list[str]:
    return [event.name for event in run.history() if isinstance(event, Warned)]


@pytest.mark.parametrize(
    "settings",
    [
        {"loss_type": "sigmoid"},
        {"loss_type": "sigmoid_norm", "reference_log_probs": "precomputed"},
        {"loss_type": "sigmoid", "reference_log_probs": "precomputed", **ADAPTER},
        {"loss_type": "sigmoid_norm", **ADAPTER},
    ],
)
def test_the_first_loss_is_ln_2(world: World, settings: dict[str, Any]) -> None:
    run = world.trained("dpo", max_steps=1, **settings)
    first = _first(run)
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
    for name in ("margin", "chosen_reward", "rejected_reward", "chosen_log_ratio", "rejected_log_ratio"):
        assert first[name] == pytest.approx(0, abs=1e-5)
    assert not _warnings(run)


def test_stretched_positions_are_the_references_too(world: World) -> None:
    """Also where its log-probabilities were kept before, of the same weights without them."""
    plain: dict[str, Any] = {"max_steps": 1, "reference_log_probs": "precomputed"}
    stretched: dict[str, Any] = {"max_steps": 1, "rope_scaling_factor": 4.0, "rope_scaling_length": 64}
    runs = [
        world.trained("dpo", "plain", **plain),
        world.trained("dpo", "computed", **stretched),
        world.trained("dpo", "precomputed", **plain | stretched),
        world.trained("dpo", "adapted", **plain | stretched, **ADAPTER),
    ]
    for run in runs:
        assert _first(run)["loss"] == pytest.approx(math.log(2), abs=1e-5) and not _warnings(run)
    assert len(list((cache_folder() / "log-probs").glob("*.npy"))) == 2


def test_the_first_loss_of_ipo(world: World) -> None:
    run = world.trained("dpo", max_steps=1, loss_type="ipo", beta=0.25)
    assert _first(run)["loss"] == pytest.approx((1 / (2 * 0.25)) ** 2, abs=1e-4)


@pytest.mark.parametrize("reference", ["computed", "precomputed"])
def test_the_first_loss_in_bfloat16(world: World, reference: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "has_bfloat16", lambda self: True)
    run = world.trained("dpo", max_steps=1, dtype="bfloat16", reference_log_probs=reference)
    assert _first(run)["loss"] == pytest.approx(math.log(2), abs=5e-3)
    assert not _warnings(run)


def test_a_reference_that_is_not_the_policy_is_named(world: World) -> None:
    run = world.begun("dpo")

    def exchange() -> None:
        """The companion becomes another model after the policy was made of it."""
        path = run.companion("start") / "model.safetensors"
        tensors = {name: 1.2 * tensor for name, tensor in load_file(path).items()}
        path.unlink()  # it may be a link to the start run's own file
        save_file(tensors, path, metadata={"format": "pt"})

    made = assemble(run, meanwhile=exchange)
    made.round(0)
    [(name, message)] = made.warned
    assert name == "reference_is_not_the_policy" and "not ln 2" in message
    made.round(1)
    assert len(made.warned) == 1, "later losses are no matter of the reference"


def test_what_a_run_leaves_behind_is_no_difference(world: World) -> None:
    """Resumed, the policy has moved on; with dropout it is noisy. Neither is worth a warning."""
    noisy = world.trained("dpo", "noisy", dropout=0.3, max_steps=2)
    assert abs(_first(noisy)["loss"] - math.log(2)) > 1e-3
    resumed = world.begun("dpo", "resumed", max_steps=6, save_interval=2, keep_checkpoints=9)
    carry_out(resumed)
    for step in (4, 6):
        resumed.checkpoint(step).rename(resumed.path / f"away-{step}")
    carry_out(resumed, resume=True)
    assert not _warnings(noisy) and not _warnings(resumed)


@pytest.mark.parametrize("extra", [{}, ADAPTER])
def test_the_reference_has_no_dropout(world: World, extra: dict[str, Any]) -> None:
    made = assemble(world.begun("dpo", dropout=0.5, **extra))
    stage, batch = made.stage, made.stage.collect(0)[0][0]
    moved = stage.to_device(batch)
    policy = torch.cat([answer_log_probs(stage.model, d.input_ids, d.loss_weights) for d in batch.documents()]).detach()
    stage.model.train()
    for _ in range(2):
        assert torch.allclose(stage._reference_log_probs(batch, moved), policy, atol=1e-5)
        assert stage.model.training, "the policy goes on with dropout"
    assert not torch.allclose(stage._log_probs(stage.hidden(moved)[0][moved.sources], moved, stage.model.head_weight),
                              policy, atol=0.01)  # fmt: skip
    known = assemble(world.begun("dpo", "kept", dropout=0.5, reference_log_probs="precomputed", **extra))
    assert torch.allclose(known.stage._reference_log_probs(batch, moved), policy, atol=1e-5)


def test_with_an_adapter_the_reference_is_its_base(world: World) -> None:
    made = assemble(world.begun("dpo", **ADAPTER))
    base = assemble(world.begun("dpo", "whole"))
    batch = made.stage.collect(0)[0][0]
    moved = made.stage.to_device(batch)
    assert made.stage._reference.model is made.stage.model, "no second copy of the weights"
    before = made.stage._reference_log_probs(batch, moved)
    for _, parameter in made.update.named:
        torch.nn.init.normal_(parameter, std=0.3)
    assert torch.equal(made.stage._reference_log_probs(batch, moved), before)
    assert torch.equal(base.stage._reference_log_probs(batch, moved), before)
    now = torch.cat([answer_log_probs(made.stage.model, d.input_ids, d.loss_weights) for d in batch.documents()])
    assert not torch.allclose(now, before, atol=0.01)


def test_the_reference_stands_still(world: World) -> None:
    made = assemble(world.begun("dpo"))
    reference = made.stage._reference.model
    before = {name: tensor.clone() for name, tensor in reference.state_dict().items()}
    for number in range(3):
        made.round(number)
    assert same(dict(reference.state_dict()), before) and not reference.training
    assert not any(parameter.requires_grad for parameter in reference.parameters())
    assert not same(before, {name: made.stage.model.state_dict()[name] for name in before})
    trained = {id(parameter) for group in made.update.optimizer.param_groups for parameter in group["params"]}
    assert not trained & {id(parameter) for parameter in reference.parameters()}


@pytest.mark.parametrize("extra", [{}, ADAPTER])
def test_computed_and_precomputed_are_the_same_step_for_step(world: World, extra: dict[str, Any]) -> None:
    runs = [
        world.trained("dpo", reference, reference_log_probs=reference, accumulation_steps=2, **extra)
        for reference in ("computed", "precomputed")
    ]
    assert losses(runs[0]) == pytest.approx(losses(runs[1]), rel=1e-5)
    evaluated = [[e.metrics for e in run.history() if isinstance(e, Evaluated)][-1] for run in runs]
    assert evaluated[0].pop("val_kl_reference") > 0, "which needs whole distributions"
    assert evaluated[0] == pytest.approx(evaluated[1], rel=1e-4, abs=1e-6)


def test_kept_log_probs_belong_to_weights_data_and_lengths(world: World, tmp_path: Path) -> None:
    def files() -> set[Path]:
        return set((cache_folder() / "log-probs").glob("*.npy"))

    def trained(name: str, data: Path, start: str = "start", **changes: Any) -> set[Path]:
        settings = OF_STAGE["dpo"] | {"reference_log_probs": "precomputed", "max_steps": 1} | changes
        before = files()
        carry_out(begin(request("dpo", data, world.tokenizer, name, start, **settings)))
        return files() - before

    world.start()
    world.trained("sft", "other", seed=7)
    assert len(trained("first", world.pairs)) == 1
    [kept] = files()
    made_at = kept.stat().st_mtime_ns
    assert not trained("again", world.pairs, learning_rate=1e-4, beta=0.2), "what the policy does is no part of it"
    assert not trained("adapter", world.pairs, lora_rank=2), "the same reference"
    assert kept.stat().st_mtime_ns == made_at
    assert len(trained("other-start", world.pairs, "other")) == 1
    assert len(trained("other-data", write_pairs(tmp_path / "fewer.jsonl", rows=30))) == 1
    assert len(trained("other-length", world.pairs, max_seq_len=40)) == 1


def test_truncated_pairs_are_compared_over_the_same_tokens(world: World) -> None:
    """Both sides are cut once, in the samples that policy and reference read; the answers keep a token at least."""
    made = assemble(world.begun("dpo", max_seq_len=20))
    assert made.stage.store.columns["truncated"].max() > 0
    for batch in (batch for number in range(3) for batch in made.stage.collect(number)[0]):
        assert all((document.loss_weights > 0).any() for document in batch.documents())
    assert made.round(0)[0].terms["loss"] == pytest.approx(math.log(2), abs=1e-5)


@torch.no_grad()
def _by_hand(made: Assembled, batch: Any, loss_type: str, beta: float) -> Tensor:
    """The losses of a batch's pairs from whole softmaxes."""
    sides = []
    for document in batch.documents():
        policy, reference = (
            answer_log_probs(model, document.input_ids, document.loss_weights).double()
            for model in (made.stage.model, made.stage._reference.model)
        )
        ratios = policy - reference
        sides.append(ratios.sum() if loss_type == "sigmoid" else ratios.mean())
    found = []
    for chosen, rejected in list(pairwise(sides))[::2]:
        margin = chosen - rejected
        found.append((margin - 1 / (2 * beta)) ** 2 if loss_type == "ipo" else -(beta * margin).sigmoid().log())
    return torch.stack(found)


@pytest.mark.parametrize("loss_type", ["sigmoid", "ipo", "sigmoid_norm"])
def test_sums_for_dpo_and_means_for_ipo(world: World, loss_type: str) -> None:
    made = assemble(world.begun("dpo", loss_type=loss_type, beta=0.7, accumulation_steps=2))
    shake(made.stage.model)
    [batches] = made.stage.collect(0)
    lengths = [int((d.loss_weights > 0).sum()) for batch in batches for d in batch.documents()]
    assert len(set(lengths)) > 2, "otherwise sums and means could not be told apart"
    expected = torch.cat([_by_hand(made, batch, loss_type, 0.7) for batch in batches]).mean()
    assert made.step(batches).loss == pytest.approx(float(expected), rel=1e-4)
