"""The closed form against the real allocator, and its parts against numbers worked by hand."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.memory.activations import Block, Compute, linear_parameters
from engine.memory.allocated import allocated_peak, rehearsed_peak
from engine.memory.estimate import Side, Step, adapter_parameters, peak
from engine.memory.limits import Target
from engine.memory.plan import Breakdown
from engine.memory.planning import peak_of
from engine.memory.steps import Facts, steps_of
from engine.model.config import ModelConfig
from engine.model.grouping import EXPLICIT_LIMIT
from engine.model.lora import LoraConfig, attach
from engine.model.transformer import Transformer
from engine.runs.folder import RunFolder
from engine.session.memory import shape_of
from engine.session.planning import Draft, draft_settings, rows_of
from engine.settings.places import runs_folder
from engine.settings.profile import Settings
from tests.stages.assembled import Assembled, assemble
from tests.training.tiny import World

CPU = torch.device("cpu")
SHAPE = {
    "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 256,
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 96}
ROWS = {"max_seq_len": 128, "batch_size": 16}
PROMPTS = {"max_seq_len": 32, "max_new_tokens": 64, "batch_size": 8}
HALF, CHECKPOINTING = {"dtype": "bfloat16"}, {"gradient_checkpointing": True}
NEW = ("pretrain", "mid-train")
"""Stages that need no checkpoint."""

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "pretrain": ("pretrain", SHAPE | ROWS | {"packing": True, "accumulation_steps": 2}),
    "a table of its own": ("pretrain", SHAPE | ROWS | {"tie_word_embeddings": False, "qk_norm": False}),
    "dropout": ("pretrain", SHAPE | ROWS | {"dropout": 0.1}),
    "dropout in half": ("pretrain", SHAPE | ROWS | HALF | {"dropout": 0.1}),
    "experts": ("pretrain", SHAPE | ROWS | EXPERTS | {"num_shared_experts": 1}),
    "experts in half": ("pretrain", SHAPE | ROWS | HALF | EXPERTS),
    "mid-train": ("mid-train", SHAPE | ROWS | HALF | CHECKPOINTING | {"accumulation_steps": 2}),
    "sft": ("sft", ROWS),
    "float16": ("sft", ROWS | {"dtype": "float16"}),
    "chunks": ("sft", ROWS | {"loss_chunk_size": 64}),
    "reason": ("reason", ROWS | CHECKPOINTING),
    "lora": ("lora", ROWS | {"lora_dropout": 0.1}),
    "lora on two": ("lora", ROWS | HALF | {"lora_targets": ["q_proj", "v_proj"]}),
    "distill": ("distill", ROWS),
    "distill reversed": ("distill", ROWS | HALF | {"direction": "reverse", "teacher_dtype": "bfloat16"}),
    "distill top-k": ("distill", ROWS | {"teacher_top_k": 8}),
    "dpo": ("dpo", ROWS),
    "dpo precomputed": ("dpo", ROWS | HALF | {"reference_log_probs": "precomputed"}),
    "reward": ("reward", ROWS),
    "ppo": ("ppo", PROMPTS | CHECKPOINTING),
    "ppo shared": ("ppo", PROMPTS | {"critic": "shared"}),
    "grpo": ("grpo", PROMPTS | {"kl_coefficient": 0.1}),
    "spo": ("spo", PROMPTS | HALF),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Path]:
    """A world, and its run `start`."""
    world, home = World.make(tmp_path_factory.mktemp("world")), tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIMIND_HOME", str(home))
        world.trained("sft", "start", max_steps=1, **SHAPE)
        return world, runs_folder()


def drafted(run: RunFolder, made: Assembled) -> Draft:
    """What is known of a run, the update's largest micro-batches among it."""
    settings = Settings.from_json(run.read_json(run.resolved))
    draft = draft_settings(settings, Target("cpu", "cpu", None), [], rows_of(made.stage.store, settings))
    shapes = tuple(shape_of(batch) for batch in made.stage.largest())
    return replace(draft, facts=replace(draft.facts, measured=shapes, only="update"))


@pytest.mark.parametrize(("stage", "settings"), CASES.values(), ids=CASES)
def test_the_closed_form_is_what_is_measured(world: World, stage: str, settings: dict[str, Any]) -> None:
    run = world.begun(stage, "planned", **(settings if stage in NEW else {"start_from": "start", **settings}))
    made = assemble(run)
    measured = rehearsed_peak(made.stage, made.precision, CPU)
    assert measured is not None
    draft = drafted(run, made)
    found, phase = peak_of(draft.settings, draft.facts)
    foreseen = steps_of(draft.settings, replace(draft.facts, measured=()))
    assert phase == "update" and tuple((step.lengths, step.trained) for step in foreseen) == draft.facts.measured
    assert found.total == pytest.approx(measured.peak_bytes, rel=0.03)
    parts = found.weights + found.critic, found.reference + found.teacher
    assert parts == pytest.approx((measured.weights, measured.companions), rel=0.001)
    assert found.optimizer == pytest.approx(measured.optimizer, rel=0.01)


@pytest.mark.parametrize("stage", ["ppo", "grpo", "spo"])
def test_what_answers_take_at_most(world: World, stage: str) -> None:
    """Some end early in truth, so it is nearly a bound; not a loose one."""
    settings: dict[str, Any] = {
        "max_new_tokens": 120, "rollout_batch_size": 32, "batch_size": 8, "accumulation_steps": 1, "val_fraction": 0.0,
        **{"ppo": {"mini_batches": 1}, "spo": {"initial_rollouts": 1}}.get(stage, {}),
    }  # fmt: skip
    run = world.begun(stage, "answers", **settings)
    made = assemble(run)
    prompts = made.stage.train_rows[np.argsort(-made.stage.store.lengths[made.stage.train_rows])][:8].tolist()
    taken = allocated_peak(lambda: made.stage.answer(prompts, made.stage.answers_a_prompt, "test"), CPU)
    assert taken is not None
    draft = drafted(run, made)
    found, phase = peak_of(draft.settings, replace(draft.facts, only="rollout"))
    planned = found.rollout_cache + found.logits + found.activations + found.runtime
    assert phase == "rollout" and found.gradients == 0
    assert taken <= 1.02 * planned <= 1.5 * taken


HELD = {"val_fraction": 0.3, "eval_rows": 0, "sample_tokens": 0}
SEEN: dict[str, tuple[str, dict[str, Any]]] = {
    "sft": ("sft", ROWS),
    "chunks": ("sft", ROWS | {"loss_chunk_size": 64}),
    "half": ("sft", ROWS | HALF),
    "few rows": ("sft", ROWS | {"eval_rows": 3}),
    "reason": ("reason", ROWS | {"batch_size": 2}),
    "lora": ("lora", ROWS),
    "distill": ("distill", ROWS),
    "dpo": ("dpo", ROWS),
    "dpo precomputed": ("dpo", ROWS | HALF | {"reference_log_probs": "precomputed"}),
    "dpo with an adapter": ("dpo", ROWS | {"lora_rank": 4}),
    "dropout": ("sft", ROWS | {"dropout": 0.1}),
    "reason in half": ("reason", ROWS | HALF | {"batch_size": 2}),
    "reward": ("reward", ROWS),
}


@pytest.mark.parametrize(("stage", "settings"), SEEN.values(), ids=SEEN)
def test_what_a_look_at_held_out_rows_takes_at_most(world: World, stage: str, settings: dict[str, Any]) -> None:
    """A prompt of several turns is longer than is known of the rows: what it asks takes a tenth more."""
    run = world.begun(stage, "looked", **HELD | {"start_from": "start", **settings})
    made = assemble(run)
    taken = allocated_peak(made.stage.evaluate, CPU)
    assert taken is not None
    draft = drafted(run, made)
    found, phase = peak_of(draft.settings, replace(draft.facts, only="evaluation"))
    planned = found.rollout_cache + found.logits + found.activations + found.runtime
    assert phase == "evaluation" and found.gradients == 0
    assert taken <= (1.15 if stage == "reason" else 1.02) * planned <= 1.5 * taken


# Worked by hand

CONFIG = ModelConfig(
    vocab_size=6400, hidden_size=512, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=2, head_dim=64,
    intermediate_size=1408,
)  # fmt: skip


def test_a_block_keeps_so_much_a_token() -> None:
    """Two norms: stream, scaled stream and scale. Queries and keys before their norms, scaled, and scales; rotated
    queries and keys, and values; attention's result and its normaliser by head. What o_proj reads is that result.
    Gate, up, its silu, and their product.
    """
    numbers = 2 * (2 * 512 + 1) + (2 * (512 + 128) + 8 + 2) + 512 + 2 * 128 + 512 + 8 + 4 * 1408
    inputs = 2 * 512  # what q, k, v and gate, up read: the normalised streams
    block = Block(CONFIG, (512,) * 8, Compute())
    assert block.kept == 4 * 4096 * (numbers + inputs)
    assert block.stream == 4 * 4096 * 512


def test_scores_are_written_out_where_the_engine_does_it() -> None:
    """In bfloat16 on a CPU, up to a length."""
    short, long = ((EXPLICIT_LIMIT,) * 2, (EXPLICIT_LIMIT + 8,) * 2)

    def kept(lengths: tuple[int, ...], **how: Any) -> float:
        block = Block(CONFIG, lengths, Compute(**how))
        return block.kept / block.tokens

    scores = 2 * CONFIG.num_attention_heads * EXPLICIT_LIMIT
    fused = 4 * CONFIG.num_attention_heads + 2 * 512  # the result and its normaliser, which else are not kept
    assert kept(short, dtype="bfloat16") - kept(long, dtype="bfloat16") == scores - fused + 2 * 512
    assert kept(short, dtype="float16") == kept(long, dtype="float16")
    assert kept(short, dtype="bfloat16", device="cuda") == kept(long, dtype="bfloat16", device="cuda")


def test_what_is_there_all_along() -> None:
    """Weights, AdamW's moments, a teacher in half precision, gradients of an earlier micro-batch."""
    weights = Side(CONFIG).parameters()
    assert weights == 6400 * 512 + 8 * (linear_parameters(CONFIG) // 8 + 2 * 512 + 2 * 64) + 512
    step = Step(
        Side(CONFIG, trained=True), Compute(), (8,), 7, 1024, "divergence", accumulates=True,
        teacher=Side(CONFIG, size=2),
    )  # fmt: skip
    found, _ = peak(step)
    assert (found.weights, found.optimizer, found.teacher) == (4 * weights, 8 * weights, 2 * weights)
    assert found.gradients >= 4 * weights
    assert found.total == sum(vars(found).values())


@pytest.mark.parametrize("targets", [("all-linear",), ("q_proj", "down_proj"), ("self_attn.o_proj",)])
@pytest.mark.parametrize("more", [{}, {"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
                                       "num_shared_experts": 2}], ids=["dense", "experts"])  # fmt: skip
def test_parameters_of_an_adapter(targets: tuple[str, ...], more: dict[str, int]) -> None:
    small = replace(CONFIG, vocab_size=10, hidden_size=32, num_hidden_layers=2, head_dim=8, intermediate_size=48)
    config = replace(small, **more)
    model = Transformer(config)
    attach(model, LoraConfig(4, 8.0, targets=targets))
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert adapter_parameters(config, Compute(lora_rank=4, lora_targets=targets)) == trained


def step_of(world: World, stage: str, **settings: Any) -> Callable[..., Breakdown]:
    """The peak of a stage's step, with changes; rows are taken as full."""
    run = world.begun(stage, f"changed-{stage}", **settings)
    given = Settings.from_json(run.read_json(run.resolved))
    draft = draft_settings(given, Target("cpu", "cpu", None), [])

    def found(**changes: Any) -> Breakdown:
        return peak_of(draft.settings.replace(changes, "test"), replace(draft.facts, rows=None, only="update"))[0]

    return found


def test_a_frozen_model_costs_where_it_is_asked(world: World) -> None:
    dpo = step_of(world, "dpo")
    assert dpo().reference == dpo().weights > 0 == dpo(reference_log_probs="precomputed").reference
    assert dpo(reference_log_probs="precomputed", lora_rank=4).reference == 0
    grpo = step_of(world, "grpo")
    assert grpo().reference == 0 < grpo(kl_coefficient=0.1).reference
    distill = step_of(world, "distill")
    assert distill().teacher == 2 * distill(teacher_dtype="bfloat16").teacher > 0 == distill(teacher_top_k=4).teacher
    ppo = step_of(world, "ppo")
    assert ppo().critic > 0 == ppo(critic="shared").critic and ppo().optimizer > 1.9 * ppo(critic="shared").optimizer


def test_the_largest_step_grows_with_the_batch_and_not_with_accumulation(world: World) -> None:
    sft = step_of(world, "sft", start_from="start", **ROWS)
    assert sft(accumulation_steps=2).total == sft(accumulation_steps=8).total > sft().total
    assert sft(batch_size=32).activations == pytest.approx(2 * sft().activations, rel=0.01)


def test_spo_keeps_to_its_pool(world: World) -> None:
    run = world.begun("spo", "pool", pool_size=3, batch_size=8)
    settings = Settings.from_json(run.read_json(run.resolved))
    [step] = steps_of(settings, Facts(CONFIG))
    assert len(step.lengths) == 3
