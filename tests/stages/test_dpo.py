"""DPO beside its reference: the fine-tuning term, figures, validation, and that it learns."""

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.runs.events import Evaluated, Step
from engine.stages.pairs import whole_pairs
from engine.text.batching import Batch, split_rows
from engine.training.stage import Term
from tests.stages.assembled import Assembled, answer_log_probs, assemble, logits_of, shake
from tests.training.tiny import World


@torch.no_grad()
def _sides(made: Assembled, batches: list[Batch]) -> list[tuple[Tensor, Tensor]]:
    """log p of each answer's tokens under policy and reference; chosen and rejected sides take turns."""
    models = (made.stage.model, made.stage._reference.model)
    return [
        tuple(answer_log_probs(model, document.input_ids, document.loss_weights) for model in models)  # type: ignore[misc]
        for batch in batches
        for document in batch.documents()
    ]


def test_the_fine_tuning_term_is_the_loss_of_chosen_tokens(world: World) -> None:
    """A mean over the chosen sides' tokens of the whole step, times its weight."""
    made = assemble(world.begun("dpo", sft_weight=0.4, accumulation_steps=2, beta=0.3))
    shake(made.stage.model)
    [batches] = made.stage.collect(0)
    sides = _sides(made, batches)
    chosen = -float(torch.cat([policy for policy, _ in sides[::2]]).mean())
    margins = torch.stack([(c[0] - c[1]).sum() - (r[0] - r[1]).sum()
                           for c, r in zip(sides[::2], sides[1::2], strict=True)])  # fmt: skip
    preference = float(-torch.nn.functional.logsigmoid(0.3 * margins).mean())
    outcome = made.step(batches)
    assert outcome.terms["sft"] == pytest.approx(chosen, rel=1e-4)
    assert outcome.terms["loss"] == pytest.approx(preference, rel=1e-4)
    assert outcome.loss == pytest.approx(preference + 0.4 * chosen, rel=1e-4)


def test_figures_by_hand(world: World) -> None:
    made = assemble(world.begun("dpo", accumulation_steps=2, beta=0.3))
    shake(made.stage.model)
    [batches] = made.stage.collect(0)
    sides = _sides(made, batches)
    rewards = np.array([0.3 * float((policy - reference).sum()) for policy, reference in sides])
    chosen, rejected = rewards[::2], rewards[1::2]
    ratios = [policy - reference for policy, reference in sides]
    terms = made.step(batches).terms
    assert terms["chosen_reward"] == pytest.approx(chosen.mean(), rel=1e-3)
    assert terms["rejected_reward"] == pytest.approx(rejected.mean(), rel=1e-3)
    assert terms["margin"] == pytest.approx((chosen - rejected).mean(), rel=1e-3)
    assert terms["accuracy"] == pytest.approx((chosen > rejected).mean())
    assert terms["chosen_log_ratio"] == pytest.approx(float(torch.cat(ratios[::2]).mean()), rel=1e-3)
    assert terms["rejected_log_ratio"] == pytest.approx(float(torch.cat(ratios[1::2]).mean()), rel=1e-3)


def test_it_learns_what_is_preferred(world: World) -> None:
    """Before: policy and reference are one, every pair is a tie. After: held-out pairs are told apart."""
    before = assemble(world.begun("dpo", "before", val_fraction=0.2)).stage.evaluate().metrics
    assert before["val_accuracy"] == 0.5 and before["val_margin"] == pytest.approx(0, abs=1e-5)
    run = world.trained("dpo", max_steps=30, learning_rate=1e-2, val_fraction=0.2, eval_interval=10)
    found = [event.metrics for event in run.history() if isinstance(event, Evaluated)]
    assert found[-1]["val_accuracy"] == 1 and found[-1]["val_margin"] > 1
    assert found[-1]["val_loss"] < 0.5 * before["val_loss"]
    steps = [event.metrics for event in run.history() if isinstance(event, Step)]
    assert steps[-1]["accuracy"] == 1 and steps[-1]["chosen_log_ratio"] > steps[-1]["rejected_log_ratio"]
    assert before["val_kl_reference"] == pytest.approx(0, abs=1e-6) and found[-1]["val_kl_reference"] > 0.01


@torch.no_grad()
def test_validation_by_hand(world: World) -> None:
    """A mean over all held-out pairs, however they are batched."""
    made = assemble(world.begun("dpo", val_fraction=0.3, batch_size=3, eval_rows=0, beta=0.3))
    shake(made.stage.model)
    pairs = list(made.stage.held_out_pairs())
    assert len(pairs) > 1 and len({len(batch.rows) for batch in pairs}) == 2
    rewards = [0.3 * float((policy - reference).sum()) for policy, reference in _sides(made, pairs)]
    margins = torch.tensor(rewards[::2]) - torch.tensor(rewards[1::2])
    metrics = made.stage.evaluate().metrics
    assert metrics["val_margin"] == pytest.approx(float(margins.mean()), rel=1e-3)
    assert metrics["val_accuracy"] == pytest.approx(float((margins > 0).double().mean()))
    assert metrics["val_loss"] == pytest.approx(float(-torch.nn.functional.logsigmoid(margins).mean()), rel=1e-4)


@torch.no_grad()
def test_the_divergence_from_the_reference_by_hand(world: World) -> None:
    """KL(policy ‖ reference) over the vocabulary, a mean over all trained tokens held out."""
    made = assemble(world.begun("dpo", val_fraction=0.3, batch_size=3, eval_rows=0))
    shake(made.stage.model)
    found = []
    for document in (document for batch in made.stage.held_out_pairs() for document in batch.documents()):
        places = torch.from_numpy(np.flatnonzero(document.loss_weights)) - 1
        policy, reference = (
            logits_of(model, document.input_ids)[places].double().log_softmax(dim=-1)
            for model in (made.stage.model, made.stage._reference.model)
        )
        found.append((policy.exp() * (policy - reference)).sum(dim=-1))
    expected = float(torch.cat(found).mean())
    assert expected > 0.01
    assert made.stage.evaluate().metrics["val_kl_reference"] == pytest.approx(expected, rel=1e-4)


def test_both_sides_of_a_pair_stay_together(world: World) -> None:
    """In micro-batches, in what is held out, where a limit counts pairs, and where one falls between them."""
    made = assemble(world.begun("dpo", batch_size=3, accumulation_steps=2, val_fraction=0.3, eval_rows=5))
    stage, rows = made.stage, made.stage.store.columns["rows"]
    for number in range(stage.sampler.steps_per_epoch):
        for batch in stage.collect(number)[0]:
            assert (batch.samples[::2] % 2 == 0).all() and (batch.samples[1::2] == batch.samples[::2] + 1).all()
            assert (batch.rows[::2] == batch.rows[1::2]).all()
    train, held_out = split_rows(stage.store.columns["keys"], 0.3)
    assert not set(rows[train]) & set(rows[held_out])
    assert len(stage.held_out) == 10 and (rows[stage.held_out][::2] == rows[stage.held_out][1::2]).all()
    assert whole_pairs(np.array([1, 2, 3, 4]), np.array([0, 0, 1, 1, 2, 2])).tolist() == [2, 3]


def test_a_batch_falls_apart_into_its_pairs(world: World) -> None:
    """By which the rows of a loss that is not finite are named."""
    made = assemble(world.begun("dpo"))
    shake(made.stage.model)
    [[batch]] = made.stage.collect(0)
    with torch.no_grad():
        whole = made.stage.loss(batch)["loss"].sum
        parts = [made.stage.loss(part)["loss"].sum for part in made.stage.parts(batch)]
    assert len(parts) == len(batch.rows) / 2 == 4
    assert float(torch.stack(parts).sum()) == pytest.approx(float(whole), rel=1e-5)


def test_rows_of_a_loss_that_is_not_finite_are_named(world: World) -> None:
    made = assemble(world.begun("dpo"))
    [[batch]] = made.stage.collect(0)
    guilty = list(made.stage.parts(batch))[2]
    loss = made.stage.loss

    def poisoned(batch: Batch) -> dict[str, Term]:
        terms: dict[str, Term] = loss(batch)
        broken = set(guilty.samples.tolist()) <= set(batch.samples.tolist())
        return terms | ({"loss": Term(terms["loss"].sum * torch.nan)} if broken else {})

    made.stage.loss = poisoned
    before = made.weights()
    outcome = made.step([batch])
    assert outcome.non_finite == "loss" and outcome.rows == sorted(set(guilty.rows.tolist())) and not outcome.applied
    assert all(torch.equal(before[name], tensor) for name, tensor in made.weights().items())


def test_experts_stay_balanced_in_dpo_too(world: World) -> None:
    world.trained("sft", "experts", num_experts=4, num_experts_per_tok=2, max_steps=1)
    run = world.trained("dpo", start_from="experts", max_steps=3)
    steps = [event.metrics for event in run.history() if isinstance(event, Step)]
    assert all(0.9 < found["balance"] < 2 and "router_entropy" in found for found in steps)
