"""Run folders as the engine writes them, without training."""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from engine.runs.events import (
    CheckpointSaved,
    Evaluated,
    Finished,
    MemoryPlanned,
    RanOutOfMemory,
    RunStarted,
    Sampled,
    Step,
)
from engine.runs.folder import RunFolder, create_run
from engine.runs.history import EventWriter

BEGAN = 1e9


def make_run(
    name: str,
    *,
    stage: str = "sft",
    steps: int = 20,
    total: int = 0,
    status: str = "done",
    error: str = "",
    losses: Sequence[float] = (),
    at: float = BEGAN,
    settings: Mapping[str, tuple[Any, str]] | None = None,
    answer: str = "It is blue.",
) -> RunFolder:
    """A run with a step a second, and validation, a sample and a checkpoint at every tenth step.

    Args:
        status: How it ended; empty: it has not said so.
        losses: Validation losses in their order; 3, 2, 1 … where there are none.
        settings: Values with their origins.
    """
    run = create_run(name)
    given = {"data": ("/data/talk.jsonl", "user"), "seed": (1, "default"), **(settings or {})}
    entries = {key: {"value": value, "origin": origin, "section": "x"} for key, (value, origin) in given.items()}
    run.resolved.write_text(json.dumps({"stage": stage, "profile": f"tiny/{stage}", "settings": entries}))
    write = EventWriter(run)
    write(RunStarted(time=at, stage=stage, total_steps=total or steps, parameters=2000, trainable_parameters=2000,
                     device="cpu", dtype="float32", threads=1))  # fmt: skip
    left = list(losses)
    for step in range(1, steps + 1):
        metrics = {"loss": 4.0 / step, "learning_rate": 1e-3, "tokens_per_second": 1000.0 + step}
        write(Step(time=at + step, step=step, epoch=step / steps, tokens=step * 100, metrics=metrics))
        if step % 10 == 0:
            loss = left.pop(0) if left else 30.0 / step
            write(Evaluated(time=at + step, step=step, metrics={"val_loss": loss}))
            said = {"step": step, "prompt": "What colour is the sea?", "text": answer, "stop_reason": "stop"}
            write(Sampled(time=at + step, **said))
            with run.samples.open("a") as file:
                file.write(json.dumps(said) + "\n")
            run.checkpoint(step).mkdir()
            (run.checkpoint(step) / "manifest.json").write_text(json.dumps({"best_step": 10}))
            (run.checkpoint(step) / "model.safetensors").write_bytes(bytes(3000))
            write(CheckpointSaved(time=at + step, step=step, path="", best=step == 10, seconds=0.1))
    if status:
        write(Finished(time=at + steps, status=status, step=steps, error=error))
    write.close()
    return run


def _suggestion(changes: dict[str, Any], peak: int, cost: str, cut: int = 0) -> dict[str, Any]:
    title = " ".join(f"{name}={str(value).lower()}" for name, value in changes.items())
    return {
        "title": title, "changes": changes, "peak_bytes": peak << 20, "saves_bytes": (1024 - peak) << 20, "fits": True,
        "cost": cost, "keeps_effective_batch": True, "truncated_rows": cut,
    }  # fmt: skip


SUGGESTIONS = [
    _suggestion({"batch_size": 2, "accumulation_steps": 2}, 700, "slower: more, smaller passes for the same step"),
    _suggestion({"gradient_checkpointing": True}, 800, "a step takes about a third longer"),
    _suggestion({"max_seq_len": 16}, 650, "changes the task: longer rows are cut or split", 3),
]


def plan_json(*, limit: int = 1 << 30, high: int = 1_600 << 20) -> dict[str, Any]:
    """A plan as events and errors have it: 1 GiB allocated at the peak."""
    parts = {"weights": 100, "gradients": 100, "optimizer": 200, "activations": 600, "logits": 24, "teacher": 0}
    return {
        "device": "cpu", "limit_bytes": limit, "peak_bytes": 1 << 30, "low_bytes": 1_100 << 20, "high_bytes": high,
        "breakdown": {name: size << 20 for name, size in parts.items()}, "method": "measured", "phase": "update",
        "suggestions": deepcopy(SUGGESTIONS),  # tests change what they get
    }  # fmt: skip


def starve(run: RunFolder, *, step: int = 20, phase: str = "training", at: float = BEGAN + 50) -> None:
    """The run says that its memory ran out, and ends."""
    write = EventWriter(run)
    write(MemoryPlanned(time=at, plan=plan_json(limit=2 << 30), measured_bytes=1_024 << 20))
    write(
        RanOutOfMemory(
            time=at, step=step, phase=phase, what="DefaultCPUAllocator: can't allocate memory", device="cpu",
            wanted_bytes=300 << 20, limit_bytes=1 << 30, plan=plan_json(),
        )
    )  # fmt: skip
    write(Finished(time=at, status="failed", step=step, error="out of memory", exit_code=3))
    write.close()
