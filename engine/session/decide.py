"""What is settled before a run and written down: device, threads, precision, compilation."""

from typing import Any

import torch

from engine.model.config import num_parameters
from engine.process import cores
from engine.session.shape import model_config
from engine.settings.profile import Settings
from engine.training.device import Device, pick_device, pick_dtype

_ADJUSTED = "adjusted: "
_MAY_FAIL = ("dtype", "compile")
"""Settings that a device may not be able to give."""


def decide(settings: Settings) -> Settings:
    """Settles what only the device can tell.

    Raises:
        UserError: What was asked for cannot be.
    """
    if "training" not in settings.sections:
        return settings
    training, vocab_size = settings.training, settings.model.vocab_size
    assert vocab_size is not None
    device = pick_device(training.device)
    dtype = pick_dtype(training.dtype, device, sum(num_parameters(model_config(settings.model, vocab_size)).values()))
    in_software = "bfloat16 was asked for, this device computes it in software"
    decided: dict[str, tuple[Any, str]] = {
        "device": (str(device.torch_device), "found here"),
        "dtype": (dtype, "what this device has" if training.dtype == "auto" else in_software),
        "num_threads": (training.num_threads or cores(), "all cores"),
        "compile": (training.compile and can_compile(device), "no compiler works here"),
    }
    values = settings.values()
    for name, (value, reason) in decided.items():
        if values[name] != value:
            settings = settings.replace({name: value}, f"{_ADJUSTED}{reason}")
    return settings


def unmet(asked: Settings, decided: Settings) -> list[str]:
    """The settings that became something else than was asked for."""
    before, after = asked.values(), decided.values()
    return [name for name in _MAY_FAIL if before.get(name, "auto") not in ("auto", after.get(name))]


def can_compile(device: Device) -> bool:
    """Whether torch.compile works here, tried on a small function; the reasons why it may not are many."""
    try:
        torch.compile(_doubled)(torch.ones(8, device=device.torch_device))
    except Exception:
        return False
    return True


def _doubled(x: torch.Tensor) -> torch.Tensor:
    return x + x
