"""What is settled before a run and written down: device, threads, precision, compilation, vocabulary."""

from typing import Any

import torch

from engine.errors import UserError
from engine.model.config import num_parameters
from engine.process import cores
from engine.session.assemble import model_config
from engine.settings.profile import Settings
from engine.text.tokenizer import Tokenizer
from engine.training.device import Device, pick_device, pick_dtype

_ADJUSTED = "adjusted: "
NO_BFLOAT16 = f"{_ADJUSTED}bfloat16 was asked for, this device computes it in software"
NO_COMPILER = f"{_ADJUSTED}no compiler works here"
FALLBACKS = {"dtype": NO_BFLOAT16, "compile": NO_COMPILER}
"""Settings that may have become something else than was asked for, with the origin that says so."""


def decide(settings: Settings) -> Settings:
    """Settles what the profile leaves open.

    Raises:
        UserError: What was asked for cannot be.
    """
    training = settings.training
    tokenizer = Tokenizer.load(settings.data.tokenizer)
    vocab_size = settings.model.vocab_size or tokenizer.vocab_size
    if vocab_size < tokenizer.vocab_size:
        raise UserError(
            f"vocab_size is {vocab_size}, the tokenizer has {tokenizer.vocab_size} tokens",
            where="vocab_size",
            hint="leave vocab_size out",
        )
    if settings.data.max_seq_len > settings.model.max_position_embeddings:
        raise UserError(
            f"max_seq_len is {settings.data.max_seq_len}, the model reads at most "
            f"{settings.model.max_position_embeddings} tokens (max_position_embeddings)",
            where="max_seq_len",
            hint=f"--set max_seq_len={settings.model.max_position_embeddings}",
        )
    device = pick_device(training.device)
    dtype = pick_dtype(training.dtype, device, sum(num_parameters(model_config(settings.model, vocab_size)).values()))
    decided: dict[str, tuple[Any, str]] = {
        "vocab_size": (vocab_size, f"{_ADJUSTED}the tokenizer's"),
        "device": (str(device.torch_device), f"{_ADJUSTED}found here"),
        "dtype": (dtype, f"{_ADJUSTED}what this device has" if training.dtype == "auto" else NO_BFLOAT16),
        "num_threads": (training.num_threads or cores(), f"{_ADJUSTED}all cores"),
        "compile": (training.compile and can_compile(device), NO_COMPILER),
    }
    values = settings.values()
    for name, (value, origin) in decided.items():
        if values[name] != value:
            settings = settings.replace({name: value}, origin)
    return settings


def can_compile(device: Device) -> bool:
    """Whether torch.compile works here, tried on a small function; the reasons why it may not are many."""
    try:
        torch.compile(_doubled)(torch.ones(8, device=device.torch_device))
    except Exception:
        return False
    return True


def _doubled(x: torch.Tensor) -> torch.Tensor:
    return x + x
