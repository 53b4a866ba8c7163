"""Distillation: mask first, then KL in float32, ×T² once, one denominator for both terms, the same vocabulary."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.errors import UserError
from engine.model.transformer import Transformer
from engine.runs.events import Step
from engine.runs.folder import RunFolder
from engine.session import begin, carry_out
from engine.settings.places import cache_folder
from engine.text.batching import Batch, make_batch
from engine.text.tokenizer_training import train_tokenizer
from engine.training.device import Device
from tests.stages.assembled import assemble, logits_of, same, shake
from tests.training.tiny import OF_STAGE, World, request

HARD: dict[str, Any] = {"alpha": 0.3, "temperature": 2.5, "packing": False}


@pytest.fixture
def teacher(world: World) -> RunFolder:
    """A wider model than the student, of the same tokenizer."""
    return world.trained("sft", "teacher", hidden_size=24, learning_rate=1e-2, max_steps=30)


def _terms(run: RunFolder) -> list[tuple[float, float, float]]:
    names = ("loss", "cross_entropy", "divergence")
    found = [event.metrics for event in run.history() if isinstance(event, Step)]
    return [tuple(each[name] for name in names) for each in found]  # type: ignore[misc]


def _by_hand(
    student: Transformer, teacher: Transformer, batches: list[Batch], *, temperature: float, reverse: bool, words: int
) -> tuple[Tensor, Tensor]:
    """Cross-entropy and KL, means over the trained tokens, from whole float32 softmaxes of trained positions only."""
    nats, divergence, count = torch.zeros(()), torch.zeros(()), 0.0
    for document in (document for batch in batches for document in batch.documents()):
        ids, trained = torch.from_numpy(document.input_ids), np.flatnonzero(document.loss_weights)
        weights = torch.from_numpy(document.loss_weights[trained])
        own = logits_of(student, document.input_ids)[trained - 1]
        with torch.no_grad():
            its = logits_of(teacher, document.input_ids)[trained - 1, :words]
        p, q = (its / temperature).log_softmax(-1), (own[:, :words] / temperature).log_softmax(-1)
        if reverse:
            p, q = q, p
        divergence = divergence + (weights * (p.exp() * (p - q)).sum(-1)).sum()
        nats = nats - (weights * own.log_softmax(-1)[torch.arange(len(trained)), ids[trained]]).sum()
        count += float(weights.sum())
    return nats / count, divergence / count


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_the_loss_by_hand(world: World, teacher: RunFolder, direction: str) -> None:
    """α·CE + (1 − α)·T²·KL over trained tokens, its gradient too: T² once, neither forgotten nor squared again."""
    made = assemble(world.begun("distill", teacher="teacher", direction=direction, grad_clip=0.0,
                                accumulation_steps=2, **HARD))  # fmt: skip
    [batches] = made.stage.collect(0)
    found = _by_hand(made.stage.model, made.stage._teacher, batches, temperature=2.5, reverse=direction == "reverse",
                     words=320)  # fmt: skip
    loss = 0.3 * found[0] + 0.7 * 2.5**2 * found[1]
    parameters = dict(made.update.named)
    expected = torch.autograd.grad(loss, list(parameters.values()))
    gradient = made.gradient(batches)
    for name, by_hand in zip(parameters, expected, strict=True):
        assert torch.allclose(gradient[name], by_hand.double(), rtol=1e-3, atol=1e-5), name
    outcome = made.step(batches)
    assert outcome.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    assert outcome.terms["cross_entropy"] == pytest.approx(float(found[0].detach()), rel=1e-5)
    assert outcome.terms["divergence"] == pytest.approx(float(found[1].detach()), rel=1e-4)


@torch.no_grad()
def test_the_mask_comes_first(world: World, teacher: RunFolder) -> None:
    """What the teacher says where nothing is trained is not even computed: nonsense there changes nothing."""
    made = assemble(world.begun("distill", teacher="teacher", **HARD))
    [[batch]] = made.stage.collect(0)
    trained = int((batch.loss_weights > 0).sum())
    assert trained < len(batch.input_ids) / 1.5
    ask, rows = made.stage._teacher.forward, []

    def nonsense(tokens: Tensor, *rest: Any) -> Tensor:
        hidden = ask(tokens, *rest)
        silent = np.setdiff1d(np.arange(len(tokens)), np.flatnonzero(batch.loss_weights) - 1)
        hidden[torch.from_numpy(silent)] = float("nan")
        rows.append(len(hidden))
        return hidden  # type: ignore[no-any-return]

    before = made.stage.loss(batch)
    made.stage._teacher.forward = nonsense
    after = made.stage.loss(batch)
    assert rows and torch.equal(before["divergence"].sum, after["divergence"].sum)
    assert len(made.stage._distributions(batch, made.stage.to_device(batch))._hidden) == trained


def test_the_divergence_is_float32_under_autocast(
    world: World, teacher: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Products in bfloat16, softmax and sums in float32; a bfloat16 softmax would be far off."""
    monkeypatch.setattr(Device, "has_bfloat16", lambda self: True)
    made = assemble(world.begun("distill", teacher="teacher", dtype="bfloat16", **HARD))
    [[batch]] = made.stage.collect(0)
    stage, moved = made.stage, made.stage.to_device(batch)
    with torch.no_grad(), made.precision.autocast():
        found = stage.loss(batch)["divergence"].sum
        hidden = stage.hidden(moved)[0][moved.sources]
        its = stage._hidden(stage._teacher, moved)
    assert found.dtype == torch.float32 and its.dtype == torch.float32, "the teacher keeps its own precision"
    own = (hidden.bfloat16() @ stage.model.head_weight.detach().bfloat16().T).float()
    logits = its @ stage._teacher.head_weight.T

    def summed(dtype: torch.dtype) -> float:
        q, p = ((each / 2.5).to(dtype).log_softmax(-1) for each in (own, logits))
        return float((moved.weights * (p.exp() * (p - q)).sum(-1)).sum())

    assert float(found) == pytest.approx(summed(torch.float32), rel=1e-4)
    assert abs(summed(torch.bfloat16) - float(found)) > 20 * abs(summed(torch.float32) - float(found))


def test_a_teacher_in_its_own_precision(world: World, teacher: RunFolder) -> None:
    made = assemble(world.begun("distill", teacher="teacher", teacher_dtype="bfloat16", **HARD))
    whole = assemble(world.begun("distill", "whole", teacher="teacher", **HARD))
    assert {parameter.dtype for parameter in made.stage._teacher.parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in made.stage.model.parameters()} == {torch.float32}
    [batches] = made.stage.collect(0)
    rounded, exact = (each.step(batches).terms for each in (made, whole))
    assert rounded["divergence"] != exact["divergence"]
    assert rounded["divergence"] == pytest.approx(exact["divergence"], rel=0.05)
    assert rounded["cross_entropy"] == exact["cross_entropy"]


def test_one_denominator_for_both_terms(world: World, teacher: RunFolder) -> None:
    """Two micro-batches of unequal size make the step that one makes."""
    made = assemble(world.begun("distill", teacher="teacher", grad_clip=0.0, **HARD))
    order = np.argsort(made.stage.store.columns["trained"][:20])
    parts = [make_batch(made.stage.store, some, slots=0) for some in (order[:1], order[-3:])]
    whole = make_batch(made.stage.store, np.concatenate([order[:1], order[-3:]]), slots=0)
    counts = [made.stage.measure(part).counts for part in parts]
    assert counts[1]["divergence"] > 4 * counts[0]["divergence"]
    assert all(count["divergence"] == count["cross_entropy"] for count in counts)
    apart, together = made.gradient(parts), made.gradient([whole])
    for name in together:
        assert torch.allclose(apart[name], together[name], rtol=1e-4, atol=1e-7), name
    mean = sum(float(made.stage.loss(part)["divergence"].sum.detach()) / count["divergence"]
               for part, count in zip(parts, counts, strict=True)) / 2  # fmt: skip
    outcome = made.step(parts)
    assert abs(outcome.terms["divergence"] - mean) > 1e-3, "a mean of means would be another number"


def test_another_tokenizer_is_refused(world: World, tmp_path: Path) -> None:
    other = tmp_path / "other"
    train_tokenizer(["user\nassistant\nsmall stones and old bread, books for two boats"] * 20, 320).save(other)
    carry_out(begin(request("sft", world.talks, other, "stranger", max_steps=1)))
    with pytest.raises(UserError, match="another tokenizer") as refused:
        carry_out(world.begun("distill", teacher="stranger"))
    assert refused.value.where == "teacher"


@pytest.mark.parametrize("top_k", [0, 320])
def test_padded_vocabularies_are_sliced_and_renormalised(world: World, top_k: int) -> None:
    """Rows of the teacher's table beyond the tokenizer's leave the softmax; so do the student's."""
    world.trained("sft", "padded", vocab_size=384, max_steps=1)
    settings: dict[str, Any] = {"start_from": "padded", "teacher": "padded", "grad_clip": 0.0, "max_steps": 2}
    outcomes = []
    for extra in (0.0, 30.0):
        made = assemble(world.begun("distill", f"rows-{extra}", **settings, **HARD))
        with torch.no_grad():
            shake(made.stage._teacher, 0.05)
            made.stage._teacher.head_weight[320:] += extra
        if top_k:
            made.stage._top_k = top_k
            made.stage._known = made.stage._precomputed(made.stage._teacher)
        [batches] = made.stage.collect(0)
        outcomes.append((made.gradient(batches), made.step(batches).terms["divergence"]))
    assert outcomes[0][1] == outcomes[1][1] > 1e-3
    assert all(torch.equal(outcomes[0][0][name], outcomes[1][0][name]) for name in outcomes[0][0])
    table = next(gradient for name, gradient in outcomes[0][0].items() if gradient.shape[0] == 384)
    assert table[:320].abs().sum() > 0


def test_a_padded_teacher_by_hand(world: World) -> None:
    world.trained("sft", "padded", vocab_size=384, max_steps=1)
    made = assemble(world.begun("distill", start_from="padded", teacher="padded", **HARD))
    shake(made.stage._teacher, 0.1)
    [batches] = made.stage.collect(0)
    _, expected = _by_hand(made.stage.model, made.stage._teacher, batches, temperature=2.5, reverse=False, words=320)
    assert made.step(batches).terms["divergence"] == pytest.approx(float(expected.detach()), rel=1e-4)


def test_the_teacher_is_frozen_and_in_evaluation_mode(world: World, teacher: RunFolder) -> None:
    made = assemble(world.begun("distill", teacher="teacher", dropout=0.3, **HARD))
    its = made.stage._teacher
    before = {name: tensor.clone() for name, tensor in its.state_dict().items()}
    for number in range(3):
        made.round(number)
        assert made.stage.model.training and not its.training
        assert not any(module.training for module in its.modules())
    assert same(before, dict(its.state_dict()))
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in its.parameters())
    held = {id(parameter) for group in made.update.optimizer.param_groups for parameter in group["params"]}
    assert not held & {id(parameter) for parameter in its.parameters()}


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_the_whole_vocabulary_kept_is_the_teacher_itself(world: World, teacher: RunFolder, direction: str) -> None:
    """Step for step the same losses from disk, with the teacher out of memory."""
    settings: dict[str, Any] = {"teacher": "teacher", "direction": direction, **HARD}
    runs = [world.trained("distill", f"kept-{top_k}", teacher_top_k=top_k, **settings) for top_k in (0, 320, 100_000)]
    asked, *kept = (np.array(_terms(run)) for run in runs)
    for found in kept:
        assert np.abs(found - asked).max() <= 2e-4 * np.abs(asked).max()
    assert len(list((cache_folder() / "teachers").glob("*.npy"))) == 2, "more than the vocabulary is the vocabulary"
    made = assemble(world.begun("distill", "gone", teacher="teacher", teacher_top_k=320, **HARD))
    assert made.stage._teacher is None


def test_the_top_of_a_teacher_is_less_than_the_whole(world: World, teacher: RunFolder) -> None:
    """The rest is one outcome, so that the divergence is smaller, and never negative."""
    found = []
    for top_k in (1, 8, 320):
        made = assemble(world.begun("distill", f"top-{top_k}", teacher="teacher", teacher_top_k=top_k, **HARD))
        [batches] = made.stage.collect(0)
        found.append(made.step(batches).terms["divergence"])
    assert all(0 <= few < more for few, more in pairwise(found))


def test_kept_distributions_belong_to_teacher_data_and_temperature(world: World, teacher: RunFolder) -> None:
    settings: dict[str, Any] = OF_STAGE["distill"] | {"teacher": "teacher", "teacher_top_k": 8, "packing": False}
    for name, changes, files in (
        ("first", {}, 2), ("again", {"alpha": 0.1, "learning_rate": 1e-4}, 2), ("warm", {"temperature": 3.0}, 4),
        ("narrow", {"teacher_top_k": 4}, 6), ("other", {"teacher": "start"}, 8), ("short", {"max_seq_len": 40}, 10),
    ):  # fmt: skip
        assemble(world.begun("distill", name, **{**settings, **changes}))
        assert len(list((cache_folder() / "teachers").glob("*.npy"))) == files, name


def test_a_teacher_that_is_the_student_has_nothing_to_say(world: World) -> None:
    """KL of equal distributions is 0, and so is its gradient."""
    made = assemble(world.begun("distill", alpha=0.0, teacher="start", temperature=3.0))
    [batches] = made.stage.collect(0)
    outcome = made.step(batches)
    assert outcome.terms["divergence"] == pytest.approx(0, abs=1e-5) and outcome.norm < 1e-4
