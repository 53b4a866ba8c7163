"""Suggestions: each predicted, the smallest change that fits first, nothing offered that does not help."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine.memory.plan import MemoryPlan, Suggestion
from engine.memory.planning import make_plan, peak_of
from engine.memory.suggest import ORIGIN, keeps_learning, resumes
from tests.memory.planned import BARE, MIB, facts_of, plan_of, rows_of, settings_of

LONG = rows_of([256] * 64)
SFT = {"batch_size": 16, "max_seq_len": 256, "accumulation_steps": 1, "dropout": 0.0}
GRPO = {"max_seq_len": 64, "max_new_tokens": 128, "batch_size": 4, "accumulation_steps": 2, "num_generations": 8,
        "rollout_batch_size": 32}  # fmt: skip


def by_name(plan: MemoryPlan) -> dict[str, Suggestion]:
    """Suggestions of one kind of change by the first setting that they change."""
    return {next(iter(each.changes)): each for each in reversed(plan.suggestions)}


def test_what_fits_stands_first_and_the_smallest_of_its_kind() -> None:
    settings = settings_of("sft", **SFT)
    roomy = plan_of(settings, 10_000, LONG)
    plan = plan_of(settings, roomy.peak_bytes / MIB * 0.6, LONG)
    assert not plan.fits
    fits = [each.fits for each in plan.suggestions]
    assert fits == sorted(fits, reverse=True) and fits[0]
    batch = by_name(plan)["batch_size"]
    assert batch.changes == {"batch_size": 8, "accumulation_steps": 2}
    assert batch.keeps_effective_batch and batch.truncated_rows == 0 and keeps_learning(batch)
    assert batch.saves_bytes == plan.peak_bytes - batch.peak_bytes
    changed = plan_of(settings.replace(batch.changes, ORIGIN), 10_000, LONG)
    assert changed.peak_bytes == pytest.approx(batch.peak_bytes, rel=0.01)
    assert plan_of(settings.replace({"batch_size": 16}, ""), batch.peak_bytes / MIB, LONG).fits is False


def test_a_suggestion_says_why_a_setting_is_what_it_is() -> None:
    settings = settings_of("sft", **SFT)
    plan = plan_of(settings, 20, LONG)
    changed = settings.replace(by_name(plan)["batch_size"].changes, ORIGIN)
    assert changed.origins["batch_size"] == changed.origins["accumulation_steps"] == ORIGIN == "adjusted after OOM"


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({"gradient_checkpointing": True}, "gradient_checkpointing"),
        ({"dtype": "bfloat16"}, "dtype"),
        ({"batch_size": 1}, "batch_size"),
        ({"dropout": 0.0}, "dropout"),
        ({"loss_chunk_size": 64}, "loss_chunk_size"),
        ({"lora_rank": 4}, "lora_rank"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_so_already_is_not_offered(settings: dict[str, Any], missing: str) -> None:
    assert missing not in by_name(plan_of(settings_of("sft", **SFT | settings), 1, LONG))


def test_what_does_not_help_is_not_offered() -> None:
    """Shorter chunks of a loss that does not decide; a checkpoint of blocks that one row of 16 tokens leaves empty."""
    wide = {"vocab_size": 20_000, "gradient_checkpointing": True}
    assert "loss_chunk_size" in by_name(plan_of(settings_of("sft", **SFT | wide), 1, LONG))
    narrow = by_name(plan_of(settings_of("sft", **SFT), 1, LONG))
    assert "loss_chunk_size" not in narrow and narrow["gradient_checkpointing"].saves_bytes > 0
    large = {"hidden_size": 256, "intermediate_size": 1024, "batch_size": 1, "max_seq_len": 16}
    assert "gradient_checkpointing" not in by_name(plan_of(settings_of("sft", **SFT | large), 1, rows_of([16] * 8)))


def test_accumulation_alone_saves_nothing() -> None:
    plan = plan_of(settings_of("sft", **SFT), 20, LONG)
    assert all("batch_size" in each.changes for each in plan.suggestions if "accumulation_steps" in each.changes)
    for each in plan.suggestions:
        if "batch_size" in each.changes:
            assert each.changes["batch_size"] * each.changes["accumulation_steps"] == 16


def test_rows_that_would_be_cut_are_counted() -> None:
    """Of 64 rows 10 are longer than 128 tokens, and 30 longer than 64; those of 300 are cut at 256 already."""
    rows = rows_of([300] * 4 + [200] * 6 + [100] * 20 + [40] * 34)
    settings = settings_of("sft", **SFT | {"batch_size": 8})
    half = by_name(plan_of(settings, plan_of(settings, 10_000, rows).peak_bytes / MIB * 0.7, rows))["max_seq_len"]
    assert half.changes == {"max_seq_len": 128} and half.fits and half.truncated_rows == 10
    assert not keeps_learning(half) and "task" in half.cost
    quarter = by_name(plan_of(settings, half.peak_bytes / MIB * 0.8, rows))["max_seq_len"]
    assert quarter.changes == {"max_seq_len": 64} and quarter.truncated_rows == 30
    unknown = by_name(plan_of(settings, half.peak_bytes / MIB, None))["max_seq_len"]
    assert unknown.truncated_rows is None


def test_a_pair_that_is_cut_counts_once() -> None:
    rows = rows_of([200, 40, 40, 40, 200, 200])
    settings = settings_of("dpo", **SFT | {"batch_size": 3})
    found = by_name(plan_of(settings, 1, rows))["max_seq_len"]
    assert found.truncated_rows == np.count_nonzero(rows.lengths > found.changes["max_seq_len"]) // 2


def test_a_group_is_never_split() -> None:
    """Fewer answers are a change of their own, which changes what is learnt; a smaller batch keeps whole groups."""
    settings = settings_of("grpo", **GRPO)
    plan = plan_of(settings, plan_of(settings, 10_000).peak_bytes / MIB * 0.3)
    offered = by_name(plan)
    fewer = offered["num_generations"]
    assert not fewer.keeps_effective_batch and not keeps_learning(fewer) and fewer.changes["num_generations"] >= 2
    assert all(each.changes["batch_size"] >= 1 for each in plan.suggestions if "batch_size" in each.changes)
    small = settings_of("grpo", **GRPO | {"batch_size": 1})
    assert "batch_size" not in by_name(plan_of(small, 1))
    least = plan_of(small.replace({"rollout_batch_size": 1}, ""), 10_000).shape
    assert least["documents"] == 8


def test_a_rollout_is_helped_by_what_makes_answers() -> None:
    settings = settings_of("grpo", **GRPO | {"num_key_value_heads": 4, "rollout_batch_size": 512, "batch_size": 64})
    facts = facts_of(settings)
    plan = make_plan(settings, replace(facts, only="rollout"), device="cpu", limit_bytes=60 * MIB, margin=BARE)
    first = plan.suggestions[0]
    assert plan.phase == "rollout" and first.fits and first.changes.keys() == {"rollout_batch_size"}
    assert not {"gradient_checkpointing", "loss_chunk_size", "dtype"} & set(by_name(plan))


@pytest.mark.parametrize(
    ("stage", "settings", "changes"),
    [
        ("dpo", {"reference_log_probs": "computed"}, {"reference_log_probs": "precomputed"}),
        ("distill", {"teacher": "t", "teacher_dtype": "float32"}, {"teacher_dtype": "bfloat16"}),
        ("distill", {"teacher": "t"}, {"teacher_top_k": 50}),
        ("ppo", {"max_seq_len": 32, "max_new_tokens": 32}, {"critic": "shared"}),
    ],
)
def test_what_frozen_models_and_critics_can_do_without(
    stage: str, settings: dict[str, Any], changes: dict[str, Any]
) -> None:
    plan = plan_of(settings_of(stage, **{"batch_size": 2, "max_seq_len": 64, **settings}), 1)
    [found] = [each for each in plan.suggestions if each.changes == changes]
    assert found.saves_bytes > 0


def test_several_changes_where_one_is_not_enough() -> None:
    """As few as do it, none larger than need be; the task stays."""
    settings = settings_of("sft", **SFT)
    singles = plan_of(settings, 1, LONG).suggestions
    least = min(each.peak_bytes for each in singles if keeps_learning(each))
    plan = plan_of(settings, least / MIB * 0.8, LONG)
    together = plan.suggestions[0]
    assert together.fits and keeps_learning(together) and together.truncated_rows == 0
    kinds = [each for each in singles if each.changes.keys() <= together.changes.keys()]
    assert len(kinds) == 2 and together.cost.count("; ") == 1
    for kind in kinds:  # none of them can be left out
        fewer = {name: value for name, value in together.changes.items() if name not in kind.changes}
        assert not plan_of(settings.replace(fewer, ""), plan.limit_bytes / MIB, LONG).fits


def test_nothing_fits() -> None:
    plan = plan_of(settings_of("sft", **SFT), 0.1, LONG)
    assert plan.suggestions and not any(each.fits for each in plan.suggestions)


def test_a_run_that_fits_is_told_what_would_save_more() -> None:
    plan = plan_of(settings_of("sft", **SFT), 10_000, LONG)
    assert plan.fits and plan.suggestions and all(each.fits for each in plan.suggestions)
    assert all(len(each.changes) == 1 or "batch_size" in each.changes for each in plan.suggestions)


def test_which_changes_a_run_that_has_learnt_can_go_on_with() -> None:
    assert resumes(["batch_size", "accumulation_steps"]) and resumes(["gradient_checkpointing", "dtype"])
    assert resumes(["rollout_batch_size"]) and resumes(["dropout"])
    assert not resumes(["lora_rank"]) and not resumes(["batch_size", "max_seq_len"]) and not resumes(["critic"])


def test_a_step_and_an_evaluation_that_are_both_too_large_are_helped_together() -> None:
    """Neither change alone lowers the peak, since the other moment stays."""
    settings = settings_of("reason", max_seq_len=256, batch_size=64, eval_rows=64, dtype="float32")
    rows = rows_of([256] * 640, trained=0.9)
    facts = facts_of(settings, rows)
    step = peak_of(settings, replace(facts, only="update"))[0].total
    asked = peak_of(settings.replace({"batch_size": 1}, ""), replace(facts, only="evaluation"))[0].total
    plan = plan_of(settings, 0.9 * min(step, asked) / MIB, rows)
    first = plan.suggestions[0]
    assert first.fits and keeps_learning(first) and {"batch_size", "eval_rows"} <= set(first.changes)
    helped = plan_of(settings.replace(first.changes, ORIGIN), 10_000, rows)
    assert helped.peak_bytes == pytest.approx(first.peak_bytes, rel=0.01) and helped.peak_bytes <= plan.limit_bytes


def test_dropout_does_not_matter_where_nothing_is_dropped() -> None:
    settings = settings_of("sft", **SFT | {"dropout": 0.2})
    facts = facts_of(settings, LONG)
    looked = [
        peak_of(each, replace(facts, only="evaluation")) for each in (settings, settings.replace({"dropout": 0.0}, ""))
    ]
    assert looked[0] == looked[1] and looked[0][1] == "evaluation"


def test_held_out_rows_are_known_apart() -> None:
    """Of a few short ones an evaluation takes little, however many and long those are that are learnt from."""
    settings = settings_of("sft", **SFT | {"eval_rows": 0})
    few = replace(LONG, held_out=rows_of([20, 30]))
    found = [
        peak_of(settings, replace(facts_of(settings, rows), only="evaluation"))[0].activations for rows in (LONG, few)
    ]
    assert found[1] < found[0] / 50
    none = replace(LONG, held_out=rows_of([]))
    assert peak_of(settings, replace(facts_of(settings, none), only="evaluation"))[1] == "update"
