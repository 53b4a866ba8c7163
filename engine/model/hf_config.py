"""Hugging Face's config.json of the Llama, Qwen2, Qwen3 and Qwen3-MoE families, read and written. Torch-free.

Mixtures that transformers has no class for are written the same way under a `model_type` of our own, `minimind_moe`:
those with shared experts or without QK-norm. They are read here, nowhere else.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from engine.errors import CheckpointError, ProfileError
from engine.model.config import ModelConfig, YaRN, num_active_parameters, num_parameters

T = TypeVar("T", int, float, bool)

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "minimind_moe": "MinimindMoeForCausalLM",
}
"""Hugging Face's class for each `model_type`; the last is not among them."""
TITLES = {
    "llama": "Llama",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "qwen3_moe": "Qwen3-MoE",
    "minimind_moe": "MiniMind-MoE",
}
MIXTURES = ("qwen3_moe", "minimind_moe")
"""Families with experts."""


def describe(config: ModelConfig) -> str:
    """One line for people: family, parameters, shape, and what is peculiar about it."""
    millions = sum(num_parameters(config).values()) / 1e6
    active = experts = remarks = ""
    if config.num_experts:
        active = f" ({num_active_parameters(config) / 1e6:.2f} M active)"
        shared = f" and {config.num_shared_experts} shared" if config.num_shared_experts else ""
        experts = (
            f", {config.num_experts} experts of {config.moe_intermediate_size}, "
            f"{config.num_experts_per_tok} a token{shared}"
        )
        if config.norm_topk_prob and config.num_experts_per_tok == 1:
            remarks += "; its router gets no gradient from the language model"
    if config.family == "minimind_moe":
        remarks += "; transformers does not know this shape"
    return (
        f"{TITLES[config.family]} shape, {millions:.2f} M parameters{active}: {config.num_hidden_layers} layers × "
        f"{config.hidden_size}, {config.num_attention_heads} heads of {config.head_dim} "
        f"({config.num_key_value_heads} key-value){experts}, vocabulary {config.vocab_size}{remarks}"
    )


def read_config(folder: Path | str) -> ModelConfig:
    """Reads config.json as transformers 4 or 5 writes it. Dropout belongs to a run, not to the shape: it is 0.

    Raises:
        CheckpointError: No readable config.json, another family, or a feature that would change what the model
            computes and is not built here; the key is named.
    """
    path = Path(folder) / "config.json"
    raw = read_json(path)
    where = str(path)
    family = raw.get("model_type")
    if family not in ARCHITECTURES:
        raise CheckpointError(
            f"model_type is {family!r}", where=where, hint=f"these families can be read: {', '.join(ARCHITECTURES)}"
        )
    layers = _number(raw, "num_hidden_layers", int, where)
    _refuse_unsupported(raw, layers, where)
    heads = _number(raw, "num_attention_heads", int, where)
    hidden = _number(raw, "hidden_size", int, where)
    # Qwen3's own default; the others divide the width.
    head_dim = 128 if family == "qwen3" else hidden // max(heads, 1)
    bias = _number(raw, "attention_bias", bool, where, False)
    positions = _number(raw, "max_position_embeddings", int, where, 2048 if family == "llama" else 32768)
    try:
        theta, scaling = _rope(raw, positions, where)
        return ModelConfig(
            vocab_size=_number(raw, "vocab_size", int, where),
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=_number(raw, "num_key_value_heads", int, where, heads),
            head_dim=_number(raw, "head_dim", int, where, head_dim),
            intermediate_size=_number(raw, "intermediate_size", int, where),
            max_position_embeddings=positions,
            rope_theta=theta,
            rope_scaling=scaling,
            rms_norm_eps=_number(raw, "rms_norm_eps", float, where, 1e-6),
            qk_norm=_number(raw, "qk_norm", bool, where) if family == "minimind_moe" else family.startswith("qwen3"),
            attention_bias="qkv" if family == "qwen2" else "all" if bias else "none",
            tie_word_embeddings=_number(raw, "tie_word_embeddings", bool, where, False),
            initializer_range=_number(raw, "initializer_range", float, where, 0.02),
            **(_experts(raw, where) if family in MIXTURES else {}),
        )
    except ProfileError as error:
        raise CheckpointError(error.what, where=where, hint=error.hint) from error


def write_config(
    folder: Path | str,
    config: ModelConfig,
    *,
    bos_token_id: int | None,
    eos_token_id: int | list[int] | None,
    pad_token_id: int | None,
    dtype: str,
) -> None:
    """Writes config.json and generation_config.json; transformers 4.51 and later load them without custom code, except
    the shapes that they do not know (`minimind_moe`).

    The rotary keys are those of transformers 4, which 5 reads as well. Some releases of transformers 4 take
    YaRN's factor from `max_position_embeddings` / `original_max_position_embeddings`: keep that ratio.
    """
    raw: dict[str, Any] = {
        "architectures": [ARCHITECTURES[config.family]],
        "model_type": config.family,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.intermediate_size,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_position_embeddings,
        "rope_theta": config.rope_theta,
        "rope_scaling": None,
        "rms_norm_eps": config.rms_norm_eps,
        "attention_bias": config.attention_bias == "all",
        "attention_dropout": 0.0,
        "tie_word_embeddings": config.tie_word_embeddings,
        "initializer_range": config.initializer_range,
        "use_cache": True,
        "torch_dtype": dtype,
    }
    if config.family == "llama":
        raw["mlp_bias"] = False
    else:
        raw |= {"use_sliding_window": False, "sliding_window": None, "max_window_layers": config.num_hidden_layers}
    if config.family in MIXTURES:
        raw |= {
            "num_experts": config.num_experts,
            "num_experts_per_tok": config.num_experts_per_tok,
            "moe_intermediate_size": config.moe_intermediate_size,
            "norm_topk_prob": config.norm_topk_prob,
            "router_aux_loss_coef": config.router_aux_loss_coef,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        }
    if config.family == "minimind_moe":
        raw |= {"num_shared_experts": config.num_shared_experts, "qk_norm": config.qk_norm}
    if (yarn := config.rope_scaling) is not None:
        raw["rope_scaling"] = {
            "rope_type": "yarn",
            "factor": yarn.factor,
            "original_max_position_embeddings": yarn.original_max_position_embeddings,
            "beta_fast": yarn.beta_fast,
            "beta_slow": yarn.beta_slow,
        }
        if yarn.attention_factor is not None:
            raw["rope_scaling"]["attention_factor"] = yarn.attention_factor
    tokens = {"bos_token_id": bos_token_id, "eos_token_id": eos_token_id, "pad_token_id": pad_token_id}
    for name, content in (("config.json", raw | tokens), ("generation_config.json", tokens)):
        (Path(folder) / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """A file that holds a JSON object.

    Raises:
        CheckpointError: It cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot be read: {error}", where=str(path)) from error
    if not isinstance(content, dict):
        raise CheckpointError("is not a JSON object", where=str(path))
    return content


def _number(raw: Mapping[str, Any], key: str, kind: type[T], where: str, default: T | None = None) -> T:
    """The value of a key, of its kind; null is absent, and a whole number may stand for a float."""
    value = raw.get(key)
    if value is None:
        value = default
    if value is None:
        raise CheckpointError(f"{key} is missing", where=where)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise CheckpointError(f"{key} is {value!r}, expected {kind.__name__}", where=where)
    return value


def _experts(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What a mixture adds to the shape; transformers 5 writes `num_local_experts`."""
    number = "num_experts" if "num_experts" in raw else "num_local_experts"
    return {
        "num_experts": _number(raw, number, int, where),
        "num_experts_per_tok": _number(raw, "num_experts_per_tok", int, where),
        "num_shared_experts": _number(raw, "num_shared_experts", int, where, 0),
        "moe_intermediate_size": _number(raw, "moe_intermediate_size", int, where),
        "norm_topk_prob": _number(raw, "norm_topk_prob", bool, where, False),
        "router_aux_loss_coef": _number(raw, "router_aux_loss_coef", float, where, 0.001),
    }


def _refuse_unsupported(raw: Mapping[str, Any], layers: int, where: str) -> None:
    """Names the first feature that would make the model compute something else."""
    kinds = raw.get("layer_types")
    slides = raw.get("use_sliding_window") is True and raw.get("sliding_window") is not None
    if isinstance(kinds, Sequence):
        slides = any(kind != "full_attention" for kind in kinds)
    elif slides and isinstance(raw.get("max_window_layers"), int):
        slides = raw["max_window_layers"] < layers
    mixed = raw.get("model_type") in MIXTURES
    for key, refused in (
        ("decoder_sparse_step", mixed and raw.get("decoder_sparse_step", 1) != 1),
        ("mlp_only_layers", mixed and raw.get("mlp_only_layers") not in (None, [])),
        ("hidden_act", raw.get("hidden_act", "silu") != "silu"),
        ("mlp_bias", raw.get("mlp_bias", False) is not False),
        ("sliding_window", slides),
        ("partial_rotary_factor", raw.get("partial_rotary_factor") not in (None, 1, 1.0)),
        ("quantization_config", raw.get("quantization_config") is not None),
    ):
        if refused:
            raise CheckpointError(
                f"{key} = {raw.get(key)!r} is not supported", where=where, hint="this model would compute nonsense here"
            )


def _rope(raw: Mapping[str, Any], positions: int, where: str) -> tuple[float, YaRN | None]:
    """The rotary base and YaRN, from `rope_theta` and `rope_scaling` (4) or `rope_parameters` (5)."""
    key = "rope_scaling" if raw.get("rope_scaling") else "rope_parameters"
    rope = raw.get(key) or {}
    if not isinstance(rope, dict):
        raise CheckpointError(f"{key} is {rope!r}, expected an object", where=where)
    kind = rope.get("rope_type", rope.get("type", "default"))
    theta = _number(rope, "rope_theta", float, where, _number(raw, "rope_theta", float, where, 10000.0))
    plain = {"rope_type", "type", "rope_theta"}
    yarn = {"factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "attention_factor"}
    known = {"default": plain, "yarn": plain | yarn}
    if kind not in known:
        raise CheckpointError(f"{key}.rope_type = {kind!r} is not supported", where=where, hint="default and yarn are")
    # Neutral values of keys that other families use.
    neutral = {"partial_rotary_factor": 1.0, "truncate": True}
    for name in rope.keys() - known[kind]:
        if rope[name] is not None and rope[name] != neutral.get(name):
            raise CheckpointError(f"{key}.{name} = {rope[name]!r} is not supported with {kind}", where=where)
    if kind == "default":
        return theta, None
    factor = rope.get("attention_factor")
    return theta, YaRN(
        factor=_number(rope, "factor", float, where),
        original_max_position_embeddings=_number(rope, "original_max_position_embeddings", int, where, positions),
        beta_fast=_number(rope, "beta_fast", float, where, 32.0),
        beta_slow=_number(rope, "beta_slow", float, where, 1.0),
        attention_factor=None if factor is None else _number(rope, "attention_factor", float, where),
    )
