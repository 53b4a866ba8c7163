"""One transformer for all families. Its parameter names are Hugging Face's: a state_dict is a checkpoint's content."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from engine.model.attention import Attention
from engine.model.config import ModelConfig
from engine.model.feed_forward import FeedForward
from engine.model.moe import MixtureOfExperts, Router


class RMSNorm(nn.Module):
    """Divides by the root mean square over the last dimension (arXiv 1910.07467), in fp32, and scales."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., size] → [..., size] in the dtype of `x`."""
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.eps).to(x.dtype)


def rotary(config: ModelConfig, positions: Tensor) -> tuple[Tensor, Tensor]:
    """The angles' cosines and sines of rotary position embedding (RoFormer, arXiv 2104.09864), in fp32.

    They are computed for the positions at hand, once a forward pass for all layers: a table would cost as much to read
    and would have to be kept out of checkpoints, dtype casts and meta devices.

    Args:
        config: Gives head_dim, rope_theta and rope_scaling.
        positions: int64 [N], from 0 in each document.

    Returns:
        Two tensors [N, 1, head_dim / 2]; the 1 stands for the heads.
    """
    dim = config.head_dim
    exponents = torch.arange(0, dim, 2, device=positions.device, dtype=torch.float32) / dim
    frequencies = 1.0 / config.rope_theta**exponents
    scale = 1.0
    if (yarn := config.rope_scaling) is not None:

        def turning_at(rotations: float) -> float:
            """The feature pair that turns `rotations` times within the trained length (YaRN, section 3.2)."""
            length = yarn.original_max_position_embeddings / (rotations * 2 * math.pi)
            return dim * math.log(length) / (2 * math.log(config.rope_theta))

        low = max(math.floor(turning_at(yarn.beta_fast)), 0)
        high = min(math.ceil(turning_at(yarn.beta_slow)), dim - 1)
        ramp = torch.arange(dim // 2, device=positions.device, dtype=torch.float32) - low
        ramp = (ramp / max(high - low, 0.001)).clamp(0, 1)
        frequencies = frequencies * (1 - ramp) + frequencies / yarn.factor * ramp
        scale = yarn.scale
    angles = positions[:, None, None].float() * frequencies
    return angles.cos() * scale, angles.sin() * scale


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns feature i with feature i + head_dim/2 (the half-split layout of Llama). x: [N, heads, head_dim]."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class SelfAttention(nn.Module):
    """Projects to heads, normalises and rotates them; which token sees which is the `Attention` call's business."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.config = layer, config
        query, key_value = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        bias = config.attention_bias != "none"
        self.q_proj = nn.Linear(config.hidden_size, query, bias=bias)
        self.k_proj = nn.Linear(config.hidden_size, key_value, bias=bias)
        self.v_proj = nn.Linear(config.hidden_size, key_value, bias=bias)
        self.o_proj = nn.Linear(query, config.hidden_size, bias=config.attention_bias == "all")
        if config.qk_norm:
            self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
            self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attention: Attention) -> Tensor:
        """[N, hidden_size] → [N, hidden_size]."""
        heads = (x.shape[0], -1, self.config.head_dim)
        q, k, v = self.q_proj(x).view(heads), self.k_proj(x).view(heads), self.v_proj(x).view(heads)
        if self.config.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        cos, sin = cos.to(q.dtype), sin.to(q.dtype)
        dropout = self.config.dropout if self.training else 0.0
        mixed = attention(self.layer, rotate(q, cos, sin), rotate(k, cos, sin), v, dropout)
        return cast(Tensor, self.o_proj(mixed.reshape(x.shape[0], -1)))


class Block(nn.Module):
    """Attention and feed-forward part, each on the normalised stream and added to it (pre-norm)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(config, layer)
        width, inner = config.hidden_size, config.intermediate_size
        self.mlp = MixtureOfExperts(config) if config.num_experts else FeedForward(width, inner)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attention: Attention) -> tuple[Tensor, Tensor | None]:
        """[N, hidden_size] → [N, hidden_size] and, with experts, the router's probabilities [N, num_experts]."""
        x = x + self.dropout(self.self_attn(self.input_layernorm(x), cos, sin, attention))
        normed, router = self.post_attention_layernorm(x), None
        if isinstance(self.mlp, MixtureOfExperts):
            mixed, router = self.mlp(normed)
        else:
            mixed = self.mlp(normed)
        return x + self.dropout(mixed), router


class Decoder(nn.Module):
    """Embedding, blocks and final norm: what Hugging Face keeps under `model.`"""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Transformer(nn.Module):
    """A decoder-only language model over flat batches.

    Weights are drawn from N(0, initializer_range) with torch's global generator, biases are 0, norms 1.

    Args:
        config: The shape.

    Attributes:
        config: The shape it was built from.
        gradient_checkpointing: Keep only each block's input and compute the block again in the backward pass: memory
            falls to about one block's activations, a step takes about a third longer.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.model = Decoder(config)
        self.dropout = nn.Dropout(config.dropout)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding | Router):
                nn.init.normal_(module.weight, std=config.initializer_range)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(
        self, tokens: Tensor, positions: Tensor, attention: Attention, routers: list[Tensor] | None = None
    ) -> Tensor:
        """Runs the blocks over a flat batch: documents one after the other, no batch dimension, no padding.

        Args:
            tokens: int64 [N].
            positions: int64 [N], from 0 in each document.
            attention: Decides which token sees which: `DocumentAttention`, or a step of a `KVCache`.
            routers: Where each layer with experts appends its router's probabilities, fp32 [N, num_experts], with their
                graph; for `load_balancing` and `router_figures`.

        Returns:
            [N, hidden_size] after the final norm; `logits` turns rows of it into predictions.
        """
        x = self.dropout(self.model.embed_tokens(tokens))
        cos, sin = rotary(self.config, positions)
        for block in self.model.layers:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x, router = checkpoint(block, x, cos, sin, attention, use_reentrant=False)
            else:
                x, router = block(x, cos, sin, attention)
            if routers is not None and router is not None:
                routers.append(router)
        return cast(Tensor, self.model.norm(x))

    @property
    def head_weight(self) -> Tensor:
        """[vocab_size, hidden_size]: the output table; the embedding's own when tied."""
        return self.model.embed_tokens.weight if self.config.tie_word_embeddings else self.lm_head.weight

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., hidden_size] → [..., vocab_size]."""
        return F.linear(hidden, self.head_weight)
