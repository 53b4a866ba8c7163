"""The shape of a transformer: what is needed to build it, to count it and to name its Hugging Face family."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from engine.errors import ProfileError


@dataclass(frozen=True)
class YaRN:
    """Stretches rotary positions beyond the trained length (YaRN, arXiv 2309.00071, section 3).

    Args:
        factor: How many times longer texts may become; above 1.
        original_max_position_embeddings: Tokens the model was trained for.
        beta_fast: Rotations within the trained length above which a frequency is kept.
        beta_slow: Rotations below which a frequency is divided by `factor`.
        attention_factor: Multiplies cos and sin; None is the paper's 0.1·ln(factor) + 1 (MiniMind uses 1.0).
    """

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None

    def __post_init__(self) -> None:
        if not self.factor > 1:
            raise ProfileError(f"rope_scaling factor is {self.factor}", hint="take a factor above 1, or none at all")
        if self.original_max_position_embeddings < 1:
            raise ProfileError(
                f"rope_scaling original_max_position_embeddings is {self.original_max_position_embeddings}",
                hint="give the number of tokens the model was trained for",
            )
        if not self.beta_fast > self.beta_slow > 0:
            raise ProfileError(
                f"rope_scaling beta_fast ({self.beta_fast}) and beta_slow ({self.beta_slow}) do not fit",
                hint="beta_fast must be above beta_slow, and both above 0; 32 and 1 are usual",
            )

    @property
    def scale(self) -> float:
        """What cos and sin are multiplied with."""
        return 0.1 * math.log(self.factor) + 1.0 if self.attention_factor is None else self.attention_factor


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a decoder of the Llama, Qwen2 or Qwen3 family; names are those of Hugging Face's config.json.

    With `num_experts` the feed-forward part of every layer is a mixture of experts; without, what concerns experts is
    left at its default.

    Args:
        vocab_size: Rows of the embedding table.
        hidden_size: Width of the residual stream.
        num_hidden_layers: Transformer blocks.
        num_attention_heads: Query heads a layer.
        num_key_value_heads: Key and value heads a layer; divides `num_attention_heads` (GQA, arXiv 2305.13245).
        head_dim: Features a head; even, as rotary positions turn pairs of them.
        intermediate_size: Inner width of the SwiGLU feed-forward part.
        max_position_embeddings: Tokens the model promises to read; nothing is allocated for it.
        rope_theta: Base of the rotary frequencies.
        rope_scaling: YaRN, or None.
        rms_norm_eps: Added to the mean square before the root.
        qk_norm: RMSNorm over each query and key head, before the rotation (Qwen3).
        attention_bias: `none`; `qkv` (Qwen2); `all`: the output projection too (Llama and Qwen3 with `attention_bias`).
        tie_word_embeddings: The embedding table is the head as well.
        dropout: Share dropped on the embedding, the attention weights and both residual branches while training.
        initializer_range: Standard deviation of the initial weights.
        num_experts: Routed experts a layer; 0 is dense.
        num_experts_per_tok: How many of them a token passes through (top-k).
        num_shared_experts: Experts that every token passes through besides.
        moe_intermediate_size: Inner width of one expert, which is a SwiGLU part as well.
        norm_topk_prob: The weights of a token's experts are divided by their sum. With one expert a token the router
            then gets no gradient from the language model: for checkpoints that were trained so.
        router_aux_loss_coef: What `load_balancing` is multiplied with in the loss.

    Raises:
        ProfileError: A shape that cannot be built, or that no family has.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    max_position_embeddings: int = 32768
    rope_theta: float = 1e6
    rope_scaling: YaRN | None = None
    rms_norm_eps: float = 1e-6
    qk_norm: bool = True
    attention_bias: Literal["none", "qkv", "all"] = "none"
    tie_word_embeddings: bool = True
    dropout: float = 0.0
    initializer_range: float = 0.02
    num_experts: int = 0
    num_experts_per_tok: int = 0
    num_shared_experts: int = 0
    moe_intermediate_size: int = 0
    norm_topk_prob: bool = False
    router_aux_loss_coef: float = 0.0

    def __post_init__(self) -> None:
        for name in (
            "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
            "intermediate_size", "max_position_embeddings", "rope_theta", "rms_norm_eps", "initializer_range",
        ):  # fmt: skip
            if not getattr(self, name) > 0:
                raise ProfileError(f"{name} is {getattr(self, name)}", hint="it must be above 0")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ProfileError(
                f"num_attention_heads ({self.num_attention_heads}) is not a multiple of "
                f"num_key_value_heads ({self.num_key_value_heads})",
                hint="every key-value head serves the same number of attention heads",
            )
        if self.head_dim % 2:
            raise ProfileError(f"head_dim is {self.head_dim}", hint="rotary positions need an even number of features")
        if not 0 <= self.dropout < 1:
            raise ProfileError(f"dropout is {self.dropout}", hint="it is a share: 0 up to below 1")
        if self.attention_bias not in ("none", "qkv", "all"):
            raise ProfileError(f"attention_bias is {self.attention_bias!r}", hint="take none, qkv or all")
        if self.qk_norm and self.attention_bias == "qkv":
            raise ProfileError(
                "qk_norm with biases on query, key and value only: no model family has this shape",
                hint="Qwen3 has qk_norm without biases, Qwen2 has the biases without qk_norm",
            )
        if self.num_experts or self.num_experts_per_tok or self.num_shared_experts:
            self._check_experts()
        if self.family == "llama" and self.hidden_size % self.num_attention_heads:
            raise ProfileError(
                f"hidden_size ({self.hidden_size}) is not a multiple of num_attention_heads "
                f"({self.num_attention_heads}): the Llama family has no such shape",
                hint="qk_norm = true makes it a Qwen3 shape, where head_dim is free",
            )

    def _check_experts(self) -> None:
        if not 1 <= self.num_experts_per_tok <= self.num_experts:
            raise ProfileError(
                f"num_experts_per_tok is {self.num_experts_per_tok} with {self.num_experts} experts",
                hint="a token takes 1 up to all of them",
            )
        if self.num_shared_experts < 0 or self.moe_intermediate_size < 1:
            raise ProfileError(
                f"num_shared_experts is {self.num_shared_experts}, moe_intermediate_size {self.moe_intermediate_size}",
                hint="experts need a width, and their number is not below 0",
            )
        if not 0 <= self.router_aux_loss_coef < math.inf:
            raise ProfileError(f"router_aux_loss_coef is {self.router_aux_loss_coef}", hint="it must not be below 0")
        if self.attention_bias == "qkv":
            raise ProfileError(
                "experts with biases on query, key and value only: no model family has this shape",
                hint="leave attention_bias at none",
            )

    @property
    def family(self) -> Literal["llama", "qwen2", "qwen3", "qwen3_moe", "minimind_moe"]:
        """The Hugging Face `model_type` that has this shape; `minimind_moe` is no family of transformers."""
        if self.num_experts:
            return "qwen3_moe" if self.qk_norm and not self.num_shared_experts else "minimind_moe"
        if self.qk_norm:
            return "qwen3"
        return "qwen2" if self.attention_bias == "qkv" else "llama"


def num_parameters(config: ModelConfig) -> dict[str, int]:
    """Counts the parameters by part.

    Returns:
        `embedding`, `attention` (projections and their biases), `mlp` (in a mixture what every token passes through:
        the router and shared experts), `experts` (all that are routed), `norms` (QK-norms too) and `head` (0 when
        tied); their sum is what the model has.
    """
    hidden, layers = config.hidden_size, config.num_hidden_layers
    query = config.num_attention_heads * config.head_dim
    key_value = config.num_key_value_heads * config.head_dim
    bias = {"none": 0, "qkv": query + 2 * key_value, "all": query + 2 * key_value + hidden}[config.attention_bias]
    expert = 3 * hidden * config.moe_intermediate_size
    mixture = config.num_experts * hidden + config.num_shared_experts * expert
    return {
        "embedding": config.vocab_size * hidden,
        "attention": layers * (2 * hidden * (query + key_value) + bias),
        "mlp": layers * (mixture if config.num_experts else 3 * hidden * config.intermediate_size),
        "experts": layers * config.num_experts * expert,
        "norms": layers * (2 * hidden + (2 * config.head_dim if config.qk_norm else 0)) + hidden,
        "head": 0 if config.tie_word_embeddings else config.vocab_size * hidden,
    }


def num_active_parameters(config: ModelConfig) -> int:
    """How many parameters one token passes through: all but the experts that it is not sent to."""
    return sum(num_parameters(config).values()) - _idle(config)


def _idle(config: ModelConfig) -> int:
    """Parameters of the experts that a token is not sent to."""
    experts = config.num_hidden_layers * (config.num_experts - config.num_experts_per_tok)
    return experts * 3 * config.hidden_size * config.moe_intermediate_size


def matmul_flops_per_token(config: ModelConfig, context: float) -> float:
    """Floating point operations in matrix products that training needs for one token, forward and backward.

    6·N + 12·L·H·D·T (PaLM, arXiv 2204.02311, appendix B): N counts the weights of matrix products (the head, tied or
    not, but not the look-up in the embedding, nor experts that the token is not sent to), the second term is QKᵀ and
    its product with V.

    Args:
        config: The model's shape.
        context: T, the mean number of tokens a token attends to, itself included: (T+1)/2 for causal documents of T
            tokens. PaLM's own figure takes the whole length.
    """
    parts = num_parameters(config)
    experts = parts["experts"] - _idle(config)
    weights = parts["attention"] + parts["mlp"] + experts + config.vocab_size * config.hidden_size
    attended = config.num_hidden_layers * config.num_attention_heads * config.head_dim * context
    return 6.0 * weights + 12.0 * attended
