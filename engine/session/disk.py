"""Whether what a run will write fits on the disk."""

import shutil
from collections.abc import Iterator

import torch
from torch import nn

from engine.errors import UserError
from engine.model.config import ModelConfig
from engine.model.heads import ScalarModel
from engine.model.hf_config import read_config
from engine.model.lora import LoraConfig, attach
from engine.model.transformer import Transformer
from engine.runs.folder import RunFolder
from engine.session.companions import companions
from engine.session.keep import bytes_to_copy
from engine.session.shape import model_config
from engine.settings.lora import LoraSettings
from engine.settings.profile import Settings

_LEAST_FREE_BYTES = 64 << 20
_WEIGHT_BYTES, _OPTIMIZER_BYTES = 4, 8
"""Bytes a parameter: an fp32 weight, and AdamW's two moments where it is trained."""


def check_disk(run: RunFolder, settings: Settings) -> None:
    """A run whose companions and checkpoints will not fit is refused before they are written.

    Raises:
        UserError: How much is needed, and how much there is.
    """
    if "training" not in settings.sections:
        return
    # those that are kept, the best one, and one that is being written
    missing = max(1, settings.training.keep_checkpoints + 2 - len(run.checkpoint_steps()))
    each, copies = sum(map(_saved_bytes, _trained(run, settings))), bytes_to_copy(run, settings)
    needed, free = missing * each + copies + _LEAST_FREE_BYTES, shutil.disk_usage(run.path).free
    if free < needed:
        copied = f" and {copies / 1e9:.2f} GB for copies of the models it needs" if copies else ""
        raise UserError(
            f"the run needs {needed / 1e9:.2f} GB of disk, {free / 1e9:.2f} GB are free: "
            f"{missing} checkpoints of {each / 1e9:.2f} GB{copied}",
            where=str(run.path),
            hint="free some space, lower keep_checkpoints, or set MINIMIND_HOME to another disk",
        )


def _saved_bytes(module: nn.Module) -> int:
    """What a checkpoint holds of a module: of an adapted language model only what is trained, of others all of it."""
    trained = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    every = sum(parameter.numel() for parameter in module.parameters())
    return _WEIGHT_BYTES * (trained if isinstance(module, Transformer) else every) + _OPTIMIZER_BYTES * trained


def _trained(run: RunFolder, settings: Settings) -> Iterator[nn.Module]:
    """What the run trains, without memory for its weights."""
    assert settings.model.vocab_size is not None
    config = model_config(settings.model, settings.model.vocab_size)
    model = _shaped(config, settings)
    if settings.stage.name == "reward":
        yield _scored(model)
        return
    yield model
    if settings.values().get("critic") == "own":
        kept = run.companion("critic")
        source = kept if kept.is_dir() else companions(settings).get("critic")
        yield _scored(_shaped(read_config(source) if source else config, settings))


def _shaped(config: ModelConfig, settings: Settings) -> Transformer:
    lora = settings.part(LoraSettings)
    with torch.device("meta"):
        model = Transformer(config)
        if lora.lora_rank:
            attach(model, LoraConfig(lora.lora_rank, lora.lora_alpha, lora.lora_dropout, tuple(lora.lora_targets)))
    return model


def _scored(model: Transformer) -> ScalarModel:
    with torch.device("meta"):
        return ScalarModel(model)
