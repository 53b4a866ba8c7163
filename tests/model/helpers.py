"""Small models that several of the tests build."""

from typing import Any

import torch
from torch import Tensor, nn

from engine.model.attention import DocumentAttention
from engine.model.config import ModelConfig
from engine.model.transformer import Transformer

SHAPE: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}
TOP_2: dict[str, Any] = {
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "norm_topk_prob": True,
    "router_aux_loss_coef": 0.01,
}  # fmt: skip
TOP_1 = TOP_2 | {"num_experts_per_tok": 1, "norm_topk_prob": False}
SHARED = TOP_2 | {"num_shared_experts": 2, "qk_norm": False}
MIXTURES = [TOP_2, TOP_1, SHARED]
"""Qwen3-MoE's shape twice, and one like MiniMind2-MoE's that transformers does not know."""


def tiny(**changes: Any) -> Transformer:
    """A small model with weights large enough to show differences: norms and biases are not 1 and 0."""
    torch.manual_seed(0)
    model = Transformer(ModelConfig(**{**SHAPE, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                nn.init.uniform_(parameter, 0.5, 1.5)
    return model


def flat(lengths: list[int]) -> tuple[Tensor, Tensor, list[int]]:
    """Random tokens, positions and boundaries of documents of these lengths."""
    generator = torch.Generator().manual_seed(sum(lengths))
    tokens = torch.randint(0, 97, (sum(lengths),), generator=generator)
    positions = torch.cat([torch.arange(length) for length in lengths])
    boundaries = [0, *torch.tensor(lengths).cumsum(0).tolist()]
    return tokens, positions, boundaries


def hidden_of(model: Transformer, tokens: Tensor) -> Tensor:
    """What the model computes for one document alone."""
    with torch.no_grad():
        result = model(tokens, torch.arange(len(tokens)), DocumentAttention([0, len(tokens)]))
    assert isinstance(result, Tensor)
    return result
