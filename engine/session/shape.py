"""The shape of a run's model: what settings describe, and what a checkpoint brings. Torch-free."""

from pathlib import Path
from typing import Any

from engine.model.config import ModelConfig, YaRN
from engine.model.hf_config import read_config
from engine.settings.model import ModelSettings

_INHERITED = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size",
    "vocab_size", "max_position_embeddings", "rope_theta", "rms_norm_eps", "qk_norm", "tie_word_embeddings",
    "num_experts", "num_shared_experts",
)  # fmt: skip


def model_config(shape: ModelSettings, vocab_size: int) -> ModelConfig:
    """The model that the settings describe."""
    return ModelConfig(
        vocab_size=vocab_size,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads,
        num_key_value_heads=shape.num_key_value_heads,
        head_dim=shape.resolved_head_dim,
        intermediate_size=shape.resolved_intermediate_size,
        max_position_embeddings=shape.max_position_embeddings,
        rope_theta=shape.rope_theta,
        rope_scaling=stretched(shape),
        rms_norm_eps=shape.rms_norm_eps,
        qk_norm=shape.qk_norm,
        attention_bias="qkv" if shape.attention_bias else "none",
        tie_word_embeddings=shape.tie_word_embeddings,
        dropout=shape.dropout,
        **(_experts(shape) if shape.num_experts else {}),
    )


def _experts(shape: ModelSettings) -> dict[str, Any]:
    return {
        "num_experts": shape.num_experts,
        "num_experts_per_tok": shape.num_experts_per_tok,
        "num_shared_experts": shape.num_shared_experts,
        "moe_intermediate_size": shape.resolved_moe_intermediate_size,
        "norm_topk_prob": shape.resolved_norm_topk_prob,
        "router_aux_loss_coef": shape.router_aux_loss_coef,
    }


def stretched(shape: ModelSettings) -> YaRN | None:
    """The longer position code that the settings ask for."""
    return YaRN(shape.rope_scaling_factor, shape.rope_scaling_length) if shape.rope_scaling_factor > 1 else None


def shape_settings(start: Path) -> dict[str, Any]:
    """What a run inherits from a checkpoint; a position code that is not stretched yet may be stretched now.

    How strongly tokens are spread over experts belongs to a run, as dropout does.

    Raises:
        CheckpointError: The folder's config.json cannot be read.
    """
    config = read_config(start)
    shape = {name: getattr(config, name) for name in _INHERITED}
    if config.rope_scaling is not None:
        shape["rope_scaling_factor"] = float(config.rope_scaling.factor)
        shape["rope_scaling_length"] = config.rope_scaling.original_max_position_embeddings
    if config.num_experts:
        shape["num_experts_per_tok"] = config.num_experts_per_tok
        shape["moe_intermediate_size"] = config.moe_intermediate_size
        # one weight divided by itself cannot be asked for; the checkpoint's own shape is built, whatever stands here
        alone = config.norm_topk_prob and config.num_experts_per_tok == 1
        shape["norm_topk_prob"] = None if alone else config.norm_topk_prob
    # biases everywhere are Llama's and Qwen3's affair: the checkpoint's own shape is built, whatever stands here
    return shape | {"attention_bias": config.attention_bias == "qkv"}
