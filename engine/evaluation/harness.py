"""Adapter for lm-evaluation-harness (https://github.com/EleutherAI/lm-evaluation-harness), an optional extra."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from engine.errors import UserError


def run_harness(
    folder: Path, tasks: Sequence[str], *, limit: int = 0, batch_size: int = 8, device: str = "cpu"
) -> dict[str, Any]:
    """Runs tasks of the harness on a checkpoint, which it reads as any Hugging Face folder.

    The harness downloads the data of its tasks from the Hugging Face Hub when they are not on this machine yet.

    Args:
        folder: The checkpoint.
        tasks: Names of the harness's tasks.
        limit: Only the first rows of each task; 0: all.
        batch_size: Rows at a time.
        device: Where.

    Returns:
        model, and the harness's own results, versions and n-shot, each by task.

    Raises:
        UserError: The harness is not installed.
    """
    try:
        harness = import_module("lm_eval")
    except ModuleNotFoundError as error:
        raise UserError("lm-evaluation-harness is not installed", hint='pip install "minimind-tui[lm-eval]"') from error
    found = harness.simple_evaluate(**arguments(folder, tasks, limit=limit, batch_size=batch_size, device=device))
    return {"model": str(folder), **{key: found[key] for key in ("results", "versions", "n-shot")}}


def arguments(folder: Path, tasks: Sequence[str], *, limit: int, batch_size: int, device: str) -> dict[str, Any]:
    """What `lm_eval.simple_evaluate` is called with; the single rows are not kept."""
    return {
        "model": "hf",
        "model_args": {"pretrained": str(folder)},
        "tasks": list(tasks),
        "limit": limit or None,
        "batch_size": batch_size,
        "device": device,
        "log_samples": False,
    }
