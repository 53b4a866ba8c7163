"""Weight files: read without running code, and built into a model in which every tensor has its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.errors import CheckpointError
from engine.model.config import ModelConfig
from engine.model.hf_config import read_json
from engine.model.transformer import Transformer


def build(config: ModelConfig, tensors: Mapping[str, Tensor], dtype: torch.dtype, where: str) -> Transformer:
    """Builds a model from tensors by Hugging Face's names, each of which must fit.

    Args:
        config: The shape.
        tensors: Weights; a tied head may be there twice if both are equal.
        dtype: What the weights are converted to.
        where: Named in errors.

    Raises:
        CheckpointError: Missing or unexpected tensors, wrong shapes, tensors that are no floating point numbers.
    """
    with torch.device("meta"):
        model = Transformer(config)
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    given = dict(tensors)
    if config.tie_word_embeddings and "lm_head.weight" in given:
        head, table = given.pop("lm_head.weight"), given.get("model.embed_tokens.weight")
        if table is not None and not torch.equal(head, table):
            raise CheckpointError(
                "lm_head.weight differs from model.embed_tokens.weight, yet the configuration ties them",
                where=where,
                hint="set tie_word_embeddings to false in config.json if the head is a table of its own",
            )
    wrong = [
        f"{name} is {tuple(tensor.shape)}, expected {tuple(wanted[name])}"
        for name, tensor in given.items()
        if name in wanted and tensor.shape != wanted[name]
    ]
    whole = [f"{name} holds {tensor.dtype}" for name, tensor in given.items() if not tensor.is_floating_point()]
    for problem, names in (
        ("missing tensors", [name for name in wanted if name not in given]),
        ("unexpected tensors", [name for name in given if name not in wanted]),
        ("tensors of the wrong shape", wrong),
        ("tensors that are no floating point numbers", whole),
    ):
        if names:
            shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            raise CheckpointError(
                f"{problem}: {shown}", where=where, hint="the weights do not belong to this shape, or are damaged"
            )
    # Copied: what safetensors returns may be mapped from the file.
    state = {name: given[name].to(dtype, copy=True) for name in wanted}
    model.load_state_dict(state, assign=True)
    return model


def read_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """All tensors of a Hugging Face folder: model.safetensors, the shards of an index, or pytorch_model.bin.

    Raises:
        CheckpointError: There are none, or a file is damaged.
    """
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        yield from _safetensors(folder / "model.safetensors")
    elif index.is_file():
        shards = read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            raise CheckpointError("weight_map is missing or damaged", where=str(index))
        for name in sorted(set(shards.values())):
            if Path(name).name != name:
                raise CheckpointError(f"the index points out of the folder: {name}", where=str(index))
            yield from _safetensors(folder / name)
    elif (folder / "pytorch_model.bin").is_file():
        yield from read_pickle(folder / "pytorch_model.bin").items()
    else:
        raise CheckpointError(
            "no weights found", where=str(folder), hint="expected model.safetensors, its index, or pytorch_model.bin"
        )


def _safetensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                yield name, file.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot be read: {error}", where=str(path), hint="copy the file again") from error


def read_pickle(path: Path) -> dict[str, Tensor]:
    """Reads a state_dict that torch.save wrote, without running the code a pickle may carry.

    Raises:
        CheckpointError: Not such a file, or one that holds anything but tensors by name.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Damaged pickles raise whatever their bytes happen to mean.
        raise CheckpointError(
            "cannot be read as plain weights",  # torch's own words advise to switch the safe reading off
            where=str(path),
            hint="only tensors are read, never code; copy the file again if it is damaged",
        ) from error
    if not isinstance(state, Mapping):
        raise CheckpointError(f"holds a {type(state).__name__}, not tensors by name", where=str(path))
    others = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise CheckpointError(
            f"holds more than weights: {', '.join(others[:4])}", where=str(path), hint="give the weights file itself"
        )
    return dict(state)
