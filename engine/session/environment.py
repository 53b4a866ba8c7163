"""What a run was carried out on, and whether it can go on there bit for bit."""

import platform
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.errors import CheckpointError, UserError
from engine.model.config import num_parameters
from engine.runs.folder import RunFolder
from engine.session.shape import model_config
from engine.settings.profile import Settings
from engine.text.cache import data_fingerprint
from engine.text.tokenizer import Tokenizer
from engine.training.device import pick_device
from engine.training.distributed import world_size

_EXACT = (
    "torch", "numpy", "machine", "system", "device", "device_name", "threads", "compile", "world_size",
    "cpu_capability",
)  # fmt: skip
_LEAST_FREE_BYTES = 64 << 20
_CHECKPOINT_BYTES = 12
"""Bytes a parameter: fp32 weights and AdamW's two moments."""


def environment_of(settings: Settings) -> dict[str, Any]:
    """What environment.json holds."""
    found: dict[str, Any] = {
        "engine": version("minimind-tui"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "system": platform.system(),
        "data_fingerprint": data_fingerprint(Path(settings.values()["data"])),
        "started": time.time(),
    }
    if "training" in settings.sections:
        training = settings.training
        found |= {
            "device": training.device,
            "device_name": pick_device(training.device).describe(),
            "threads": training.num_threads,
            "compile": training.compile,
            "world_size": world_size(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        }
    return found


def check_environment(run: RunFolder, settings: Settings, allow_inexact: bool) -> list[str]:
    """What makes a resume inexact; nothing where it is exact.

    Raises:
        CheckpointError: The data or the tokenizer has changed; or the resume is inexact and that is not allowed.
    """
    before = run.read_json(run.environment)
    now = environment_of(settings)
    if before.get("data_fingerprint") != now["data_fingerprint"]:
        raise CheckpointError(
            "the data file has changed since the run began",
            where=settings.values()["data"],
            hint="put the old file back, or start a new run with --from this one",
        )
    if "training" in settings.sections and before.get("tokenizer_fingerprint") != tokenizer_fingerprint(run):
        raise CheckpointError("the run's tokenizer has changed since it began", where=str(run.tokenizer))
    differing = [
        f"{key}: {before.get(key)} then, {now.get(key)} now" for key in _EXACT if before.get(key) != now.get(key)
    ]
    if differing and not allow_inexact:
        raise CheckpointError(
            f"the run cannot go on bit for bit: {'; '.join(differing)}",
            where=str(run.environment),
            hint="add --allow-inexact to go on all the same",
        )
    return differing


def tokenizer_fingerprint(run: RunFolder) -> str:
    """The digest of the tokenizer that a run trains with."""
    return Tokenizer.load(run.tokenizer).fingerprint


def check_disk(run: RunFolder, settings: Settings) -> None:
    """A run whose checkpoints will not fit is refused before it begins.

    Raises:
        UserError: How much is needed, and how much there is.
    """
    if "training" not in settings.sections:
        return
    assert settings.model.vocab_size is not None
    parameters = sum(num_parameters(model_config(settings.model, settings.model.vocab_size)).values())
    # those that are kept, the best one, and one that is being written
    missing = max(1, settings.training.keep_checkpoints + 2 - len(run.checkpoint_steps()))
    needed = missing * _CHECKPOINT_BYTES * parameters + _LEAST_FREE_BYTES
    free = shutil.disk_usage(run.path).free
    if free < needed:
        raise UserError(
            f"the checkpoints need {needed / 1e9:.2f} GB of disk, {free / 1e9:.2f} GB are free",
            where=str(run.checkpoints),
            hint="free some space, lower keep_checkpoints, or set MINIMIND_HOME to another disk",
        )
