"""Hugging Face folders of the families in `hf_config`, read and written; a checkpoint is such a folder."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from engine.model.hf_config import read_config, write_config
from engine.model.transformer import Transformer
from engine.model.weights import build, read_tensors


def load_pretrained(folder: Path | str, dtype: torch.dtype = torch.float32) -> Transformer:
    """Builds the model of a Hugging Face folder on the CPU; every tensor of the files must have its place.

    Weights come from model.safetensors, from the shards of an index, or from pytorch_model.bin (read without running
    code).

    Args:
        folder: Holds config.json and the weights.
        dtype: What the weights are converted to.

    Raises:
        CheckpointError: Missing, unexpected or damaged tensors, by name; or what `read_config` refuses.
    """
    config = read_config(folder)
    tensors: dict[str, Tensor] = {}
    for name, tensor in read_tensors(Path(folder)):
        # Old Llama files carry a table that is computed.
        if not name.endswith(".rotary_emb.inv_freq"):
            tensors[name] = tensor
    return build(config, tensors, dtype, where=str(folder))


def save_pretrained(
    folder: Path | str,
    model: Transformer,
    *,
    bos_token_id: int | None,
    eos_token_id: int | list[int] | None,
    pad_token_id: int | None,
    dtype: torch.dtype | None = None,
) -> None:
    """Writes the model as a Hugging Face folder: the configuration and model.safetensors (no copy of a tied head).

    Args:
        folder: An existing folder.
        model: What to write.
        bos_token_id: Of the tokenizer, as are the next two; `eos_token_id` may be a list of stop tokens.
        eos_token_id: See above.
        pad_token_id: See above.
        dtype: What the file holds; None keeps the model's own.
    """
    dtype = dtype or model.head_weight.dtype
    write_config(
        folder,
        model.config,
        bos_token_id=bos_token_id,
        eos_token_id=eos_token_id,
        pad_token_id=pad_token_id,
        dtype=str(dtype).removeprefix("torch."),
    )
    state = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, Path(folder) / "model.safetensors", metadata={"format": "pt"})
