"""Run folders as the engine writes them, without training."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from engine.runs.events import CheckpointSaved, Evaluated, Finished, RunStarted, Sampled, Step
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
