"""Plans: their parts, whether they fit, how far a run could grow, and what is learnt from runs."""

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from engine.allocator import can_be_tight
from engine.memory.history import RECORD, Record, learned_margin, records, speeds, write_record
from engine.memory.plan import Breakdown
from engine.memory.planning import CARD_MARGIN, Margin, peak_of
from engine.memory.steps import Facts, steps_of
from engine.settings.places import runs_folder
from engine.settings.profile import Settings
from engine.text.batching import RowOrder
from tests.memory.planned import BARE, MIB, facts_of, plan_of, rows_of, settings_of

SFT = {"batch_size": 8, "max_seq_len": 256, "accumulation_steps": 1}
DICE = np.random.default_rng(0)
MIXED = rows_of(DICE.integers(20, 256, 200).tolist(), trained=0.5)


def test_the_parts_add_up() -> None:
    plan = plan_of(settings_of("ppo", max_seq_len=64, max_new_tokens=64), 1000)
    assert sum(asdict(plan.breakdown).values()) == plan.peak_bytes == plan.breakdown.total
    assert plan.to_json()["headroom_bytes"] == plan.limit_bytes - plan.high_bytes == plan.headroom_bytes
    assert plan.fits and plan.to_json()["fits"] and json.loads(json.dumps(plan.to_json())) == plan.to_json()


def test_the_range_of_the_process() -> None:
    """100 MiB of program, 10 beside it, and times the peak as memory is given out; closely only where it must be."""
    margin = Margin(program=100 * MIB, least=10 * MIB, fast=2.0, tight=1.2, checkpointing=7 * MIB)
    peak = 50 * MIB
    assert margin.choose(peak, 210 * MIB, checkpointing=False) == (False, 150 * MIB, 210 * MIB)
    assert margin.choose(peak, 210 * MIB - 1, checkpointing=False) == (True, 150 * MIB, 170 * MIB)
    assert margin.choose(peak, 210 * MIB, checkpointing=True) == (True, 150 * MIB, 177 * MIB)
    never = replace(margin, tight=None)
    assert never.choose(peak, 1, checkpointing=True) == (False, 150 * MIB, 210 * MIB)


def test_checkpointing_gives_memory_out_closely() -> None:
    settings = settings_of("sft", **SFT)
    assert plan_of(settings, 10_000).allocator == "fast"
    assert plan_of(settings.replace({"gradient_checkpointing": True}, ""), 10_000).allocator == "tight"


@pytest.mark.parametrize("rows", [None, MIXED], ids=["full rows", "known rows"])
@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_the_largest_batch_and_the_longest_row(stage: str, rows: Any) -> None:
    """They fit; one more does not."""
    settings = settings_of(stage, **SFT)
    limit = plan_of(settings, 10_000, rows).peak_bytes / MIB * 1.5
    plan = plan_of(settings, limit, rows)

    def fits(about: Any = rows, **changes: int) -> bool:
        return plan_of(settings.replace(changes, ""), limit, about, exact=False, suggestions=False).fits

    assert plan.max_batch_size >= 8
    assert fits(batch_size=plan.max_batch_size) and not fits(batch_size=plan.max_batch_size + 1)
    assert 256 <= plan.longest_seq_len < 1024
    assert fits(None, max_seq_len=plan.longest_seq_len) and not fits(None, max_seq_len=plan.longest_seq_len + 1)


def test_nothing_fits() -> None:
    plan = plan_of(settings_of("sft", **SFT), 0.5)
    assert not plan.fits and plan.headroom_bytes < 0 and (plan.max_batch_size, plan.longest_seq_len) == (0, 0)


def test_no_more_than_there_is() -> None:
    """Rows no longer than the model reads, and no more of them than the data have."""
    plan = plan_of(settings_of("sft", **SFT), 100_000, MIXED)
    assert (plan.longest_seq_len, plan.max_batch_size) == (1024, 200)


def test_what_was_measured_counts() -> None:
    """Its peak, its phase and its method; suggestions are corrected by what the formula was off."""
    settings = settings_of("sft", **SFT)
    formula = plan_of(settings, 100, MIXED)
    found = Breakdown(weights=formula.breakdown.weights, activations=2 * formula.peak_bytes)
    plan = plan_of(settings, 100, MIXED, found=(found, "update"), method="measured")
    assert (plan.method, plan.phase, plan.peak_bytes) == ("measured", "update", found.total)
    for before, after in zip(formula.suggestions, plan.suggestions, strict=False):
        if before.changes == after.changes:
            assert after.peak_bytes == pytest.approx(before.peak_bytes * found.total / formula.peak_bytes, rel=1e-6)


# The largest micro-batch


def largest(settings: Settings, facts: Facts, exact: bool) -> int:
    return max(sum(step.lengths) for step in steps_of(settings, facts, exact=exact))


@pytest.mark.parametrize("packing", [False, True], ids=["rows", "packed"])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 50])
def test_it_is_the_largest_that_the_run_will_form(packing: bool, batch_size: int) -> None:
    """Looked for in the order itself; without it at least as large, and no larger than rows allow."""
    settings = settings_of("pretrain", packing=packing, **SFT | {"batch_size": batch_size}, max_steps=30, epochs=1)
    facts = facts_of(settings, MIXED)
    order = RowOrder(
        MIXED.lengths, np.arange(200), batch_size=batch_size, accumulation_steps=1, max_seq_len=256, packing=packing,
        seed=settings.training.seed,
    )  # fmt: skip
    formed = [np.concatenate(micro) for step in range(30) for micro in order.micro_batches(step)]
    tokens = max(int(MIXED.lengths[rows].sum()) for rows in formed)
    assert largest(settings, facts, exact=True) == tokens
    assert tokens <= largest(settings, facts, exact=False) <= 256 * batch_size
    assert peak_of(settings, facts)[0].total <= peak_of(settings, facts, exact=False)[0].total


def test_rows_that_are_not_known_are_taken_as_full() -> None:
    [step] = steps_of(settings_of("sft", **SFT), facts_of(settings_of("sft", **SFT)))
    assert step.lengths == (256,) * 8 and step.trained == 8 * 255
    [step] = steps_of(settings_of("dpo", **SFT), facts_of(settings_of("dpo", **SFT)))
    assert step.lengths == (256,) * 16
    grpo = settings_of("grpo", batch_size=2, max_seq_len=32, max_new_tokens=16, num_generations=4)
    [step] = steps_of(grpo, facts_of(grpo))
    assert step.lengths == (48,) * 8 and step.trained == 8 * 16


def test_pairs_are_taken_together() -> None:
    rows = rows_of([10, 20, 100, 7, 50, 60])
    settings = settings_of("dpo", **SFT | {"batch_size": 2}, max_steps=100)
    [step] = steps_of(settings, facts_of(settings, rows), exact=False)
    assert sorted(step.lengths) == [7, 50, 60, 100]


def test_gradients_of_earlier_micro_batches_count_where_there_are_any() -> None:
    few = rows_of([64] * 8)
    settings = settings_of("sft", **SFT | {"accumulation_steps": 4})
    assert not any(step.accumulates for step in steps_of(settings, facts_of(settings, few)))
    assert all(step.accumulates for step in steps_of(settings, facts_of(settings, MIXED)))


def test_answers_are_made_for_all_who_ask() -> None:
    """In a round, in an evaluation, and before SPO's first round; a group stays together."""

    def rows(stage: str, **changes: Any) -> int:
        base = {"batch_size": 2, "accumulation_steps": 2, "rollout_batch_size": 64, "max_seq_len": 32,
                "max_new_tokens": 16, "val_fraction": 0.0}  # fmt: skip
        settings = settings_of(stage, **base | changes)
        [step, *_] = steps_of(settings, facts_of(settings))
        assert step.rollout is not None
        return step.rollout.rows

    assert rows("ppo") == 4 and rows("grpo", num_generations=8) == 32
    assert rows("grpo", num_generations=8, rollout_batch_size=3) == 8
    assert rows("ppo", val_fraction=0.1, eval_rows=10) == 10 and rows("ppo", val_fraction=0.1, eval_rows=500) == 64
    assert rows("spo", initial_rollouts=8) == 64


# What runs have told


def record(name: str, **values: Any) -> Record:
    """A finished run's: 400 MiB planned and measured, 300 of program; 1,000 resident."""
    given = Record(
        run=name, stage="sft", device="cpu", parameters=1000, predicted_bytes=404 * MIB,
        measured_bytes=400 * MIB, phase="update", allocator="fast", low_bytes=700 * MIB, high_bytes=1200 * MIB,
        resident_bytes=1000 * MIB, program_bytes=300 * MIB, tokens_per_second=50.0, finished=True,
    )  # fmt: skip
    found = replace(given, **values)
    (runs_folder() / name).mkdir(parents=True)
    write_record(runs_folder() / name, found)
    return found


def test_records_come_back() -> None:
    one = record("one")
    (runs_folder() / "broken").mkdir()
    (runs_folder() / "broken" / RECORD).write_text('{"run": 1}')
    assert list(records()) == [one]
    assert one.error == pytest.approx(0.01) and one.within is True
    assert replace(one, resident_bytes=1300 * MIB).within is False and replace(one, resident_bytes=None).within is None
    assert replace(one, measured_bytes=None).error is None and replace(one, phase="rollout").error is None


def test_a_margin_is_learnt_from_five_runs() -> None:
    for number in range(4):
        record(f"run-{number}")
    default = Margin() if can_be_tight() else Margin(tight=None)
    assert learned_margin("cpu") == default
    record("run-4", resident_bytes=1200 * MIB, program_bytes=320 * MIB)
    record("unfinished", resident_bytes=9000 * MIB, finished=False)
    learnt = learned_margin("cpu")
    worst = (1200 - 320 - 160) / 400
    assert learnt == replace(default, program=300 * MIB, fast=pytest.approx(1.15 * worst), learned=5)
    assert learned_margin("cuda") == CARD_MARGIN


def test_small_runs_say_nothing_of_large_ones() -> None:
    for number in range(6):
        record(f"run-{number}", measured_bytes=MIB, low_bytes=301 * MIB, resident_bytes=310 * MIB)
    assert learned_margin("cpu").fast == Margin().fast


def test_answers_that_were_only_planned_count_beside_what_was_measured() -> None:
    """A run whose answers took more than its updates."""
    for number in range(5):
        record(f"run-{number}", low_bytes=1100 * MIB, resident_bytes=1260 * MIB)
    assert learned_margin("cpu").fast == pytest.approx(1.15 * 1.0)


def test_speeds_of_models_of_like_size() -> None:
    record("alike", parameters=1400)
    record("larger", parameters=1600, tokens_per_second=1.0)
    record("other", stage="dpo", tokens_per_second=2.0)
    record("unfinished", finished=False, tokens_per_second=3.0)
    assert speeds("sft", "cpu", 1000) == [50.0]


def test_a_margin_decides_what_fits() -> None:
    settings = settings_of("sft", **SFT)
    peak = plan_of(settings, 10_000).peak_bytes / MIB
    assert plan_of(settings, peak, margin=BARE).fits
    assert not plan_of(settings, peak, margin=replace(BARE, least=1)).fits
    assert plan_of(settings, peak, margin=BARE).verified is False
    assert plan_of(settings, peak, margin=replace(BARE, learned=5)).verified is True
