"""What a run was carried out on, and whether it can go on there bit for bit."""

import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.errors import CheckpointError
from engine.runs.folder import RunFolder
from engine.settings.profile import Settings
from engine.text.cache import data_fingerprint
from engine.text.tokenizer import Tokenizer
from engine.training.device import pick_device
from engine.training.distributed import world_size

_EXACT = (
    "torch", "numpy", "machine", "system", "device", "device_name", "threads", "compile", "world_size",
    "cpu_capability",
)  # fmt: skip
_FILES = {"data": "data file", "guard_data": "file of guarded rows"}
"""Settings that name files which a run reads where they are, and what they are called."""


def environment_of(settings: Settings) -> dict[str, Any]:
    """What environment.json holds."""
    found: dict[str, Any] = {
        "engine": version("minimind-tui"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "system": platform.system(),
        "started": time.time(),
    }
    values = settings.values()
    found |= {f"{name}_fingerprint": data_fingerprint(Path(values[name])) for name in _FILES if values.get(name)}
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
        CheckpointError: The data, the guarded rows or the tokenizer have changed; or the resume is inexact and that is
            not allowed.
    """
    before = run.read_json(run.environment)
    now = environment_of(settings)
    for name, what in _FILES.items():
        key = f"{name}_fingerprint"
        if before.get(key) != now.get(key):
            raise CheckpointError(
                f"the {what} has changed since the run began",
                where=settings.values()[name],
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
