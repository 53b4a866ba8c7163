"""MiniMind's own weight files: a plain state_dict without a configuration, so the shape is read off the tensors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.errors import CheckpointError, ProfileError
from engine.model.config import ModelConfig
from engine.model.transformer import Transformer
from engine.model.weights import build, read_pickle

WRAPPERS = re.compile(r"^(?:_orig_mod\.|module\.)+")
"""Prefixes that torch.compile and data parallel training leave."""
COMPUTED = ("freqs_cos", "freqs_sin")
"""Tables of rotary angles; they need not be read."""
LAYER = re.compile(r"^model\.layers\.(\d+)\.")
EXPERT = re.compile(r"^model\.layers\.0\.mlp\.experts\.(\d+)\.")
SHARED = re.compile(r"^(.+\.mlp\.shared_experts)\.(\d+)\.((?:gate|up|down)_proj\.weight)$")


def load_minimind(path: Path | str, *, num_attention_heads: int | None = None) -> Transformer:
    """Loads a MiniMind `.pth` of either generation in fp32.

    With QK-norm it is MiniMind-3 (a Qwen3 shape, eps 1e-6), without it MiniMind2 (a Llama shape, eps 1e-5). Both use
    rotary base 1e6 and promise 32,768 positions. Both tie the head; a head that differs is kept as one of its own.

    The file of a mixture of experts does not say how many experts a token takes: 1 in MiniMind-3, 2 in MiniMind2, their
    weights divided by their sum, as both generations are trained. So MiniMind-3's router got no gradient from the
    language model; it is computed as it was trained.

    Args:
        path: The weights file.
        num_attention_heads: Needed for MiniMind2 files that do not have MiniMind's 8 heads; QK-norm tells it.

    Raises:
        CheckpointError: Not such a file, or tensors without a place in the shape.
    """
    where = str(path)
    stored = read_pickle(Path(path)).items()
    tensors = {WRAPPERS.sub("", name): tensor for name, tensor in stored if not name.endswith(COMPUTED)}
    experts, shared = _count(tensors, EXPERT, 1), _count(tensors, SHARED, 2)
    tensors = _joined(tensors, where)
    vocabulary, hidden = _shape(tensors, "model.embed_tokens.weight", where)
    layers = _count(tensors, LAYER, 1)
    first = "model.layers.0."
    query, _ = _shape(tensors, f"{first}self_attn.q_proj.weight", where)
    key_value, _ = _shape(tensors, f"{first}self_attn.k_proj.weight", where)
    intermediate, _ = _shape(tensors, f"{first}mlp.{'experts.0.' if experts else ''}gate_proj.weight", where)
    norm = tensors.get(f"{first}self_attn.q_norm.weight")
    heads = num_attention_heads or (8 if norm is None else query // max(norm.numel(), 1))
    head_dim = query // heads if norm is None else norm.numel()
    if head_dim == 0 or heads * head_dim != query or key_value % head_dim:
        raise CheckpointError(
            f"query ({query}) and key ({key_value}) rows do not split into {heads} heads",
            where=where,
            hint="give the number of attention heads it was trained with",
        )
    head = tensors.get("lm_head.weight")
    mixture: dict[str, Any] = {
        "num_experts": experts,
        "num_experts_per_tok": 2 if norm is None else 1,
        "num_shared_experts": shared,
        "moe_intermediate_size": intermediate,
        "norm_topk_prob": True,
    }
    try:
        config = ModelConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=key_value // head_dim,
            head_dim=head_dim,
            intermediate_size=intermediate,
            max_position_embeddings=32768,
            rope_theta=1e6,
            rms_norm_eps=1e-5 if norm is None else 1e-6,
            qk_norm=norm is not None,
            tie_word_embeddings=head is None or torch.equal(head, tensors["model.embed_tokens.weight"]),
            **(mixture if experts else {}),
        )
    except ProfileError as error:
        raise CheckpointError(error.what, where=where, hint=error.hint) from error
    return build(config, tensors, torch.float32, where)


def _count(tensors: dict[str, Tensor], pattern: re.Pattern[str], group: int) -> int:
    """How many numbers, from 0, the names have in that group of the pattern."""
    return 1 + max((int(match[group]) for name in tensors if (match := pattern.match(name))), default=-1)


def _joined(tensors: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Shared experts side by side as the one wide part that computes their sum."""
    joined: dict[str, Tensor] = {}
    parts: dict[str, dict[int, Tensor]] = {}
    for name, tensor in tensors.items():
        if match := SHARED.match(name):
            parts.setdefault(f"{match[1]}.{match[3]}", {})[int(match[2])] = tensor
        else:
            joined[name] = tensor
    for name, found in parts.items():
        try:
            joined[name] = torch.cat([found[number] for number in sorted(found)], dim=1 if "down_proj" in name else 0)
        except (RuntimeError, IndexError) as error:
            raise CheckpointError(f"the parts of {name} do not fit together", where=where) from error
    return joined


def _shape(tensors: dict[str, Tensor], name: str, where: str) -> tuple[int, int]:
    """Rows and columns of a matrix."""
    if name not in tensors or tensors[name].dim() != 2:
        raise CheckpointError(
            f"{name} is missing or no matrix", where=where, hint="expected a weights file of MiniMind2 or MiniMind-3"
        )
    rows, columns = tensors[name].shape
    return rows, columns
