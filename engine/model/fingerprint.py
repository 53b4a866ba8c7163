"""The digest of a model's weights: what an adapter, or anything computed with a model, is tied to."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def fingerprint(model_or_state: nn.Module | Mapping[str, Tensor]) -> str:
    """Digest of a base's weights: their names, shapes and fp32 values, whatever file or order they came in.

    Adapters do not count. Weights that were rounded to fewer bits have another digest than before.

    Returns:
        32 hexadecimal digits (BLAKE2b).
    """
    state = model_or_state.state_dict() if isinstance(model_or_state, nn.Module) else model_or_state
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(state):
        if name.endswith((".lora_A", ".lora_B")):
            continue
        tensor = state[name].detach().to("cpu", torch.float32)
        digest.update(f"{name}{list(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().numpy().data)
    return digest.hexdigest()
