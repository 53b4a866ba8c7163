"""Any checkpoint folder as a model: a whole one, or an adapter on the base that it names."""

from dataclasses import replace
from pathlib import Path

import torch

from engine.errors import CheckpointError
from engine.model.adapters import AdapterFolder, check_base, load_adapter, read_adapter
from engine.model.families import load_pretrained
from engine.model.heads import is_scalar_model
from engine.model.hf_config import read_config
from engine.model.transformer import Transformer


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no weights of its own."""
    return (folder / "adapter_config.json").is_file()


def load_model(folder: Path, dtype: torch.dtype = torch.float32) -> Transformer:
    """The model of a checkpoint; an adapter's base is found, compared by digest, and the adapter put beside it.

    Raises:
        CheckpointError: Files are missing or damaged, or the adapter belongs to another base.
    """
    if not is_adapter(folder):
        if is_scalar_model(folder):
            raise CheckpointError(
                "this is a reward model: it scores answers and has no output for words",
                where=str(folder),
                hint="take the checkpoint that it was made of",
            )
        return load_pretrained(folder, dtype)
    adapter = read_adapter(folder)
    base = base_folder(adapter)
    model = load_pretrained(base)
    check_base(adapter, model, str(base))
    if (folder / "config.json").is_file():  # positions may have been stretched since
        shape = replace(model.config, rope_scaling=read_config(folder).rope_scaling)
        base_weights, model = model.state_dict(), Transformer(shape)
        model.load_state_dict(base_weights)
    load_adapter(model, adapter)
    return model.to(dtype)


def base_folder(adapter: AdapterFolder) -> Path:
    """Where an adapter's base lies: where it says, or in the run that made it, which may have been moved.

    Raises:
        CheckpointError: In neither place.
    """
    kept = adapter.folder.parent.parent / "companions" / "start"
    for place in (Path(adapter.base_path) if adapter.base_path else kept, kept):
        if (place / "config.json").is_file():
            return place
    raise CheckpointError(
        f"the adapter's base is gone: {adapter.base_path or 'the folder names none'}",
        where=str(adapter.folder),
        hint="put the base back, or write its place into base_model_name_or_path of adapter_config.json",
    )
