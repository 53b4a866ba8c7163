"""Shapes: counting, flops, validation."""

import pytest

from engine.errors import ProfileError
from engine.model.config import ModelConfig, YaRN, matmul_flops_per_token, num_parameters
from tests.model.helpers import SHAPE, tiny

MINIMIND2_SMALL = ModelConfig(6400, 512, 8, 8, 2, 64, 1408, qk_norm=False)
MINIMIND2 = ModelConfig(6400, 768, 16, 8, 2, 96, 2048, qk_norm=False)
MINIMIND3 = ModelConfig(6400, 768, 8, 8, 4, 96, 2432)


@pytest.mark.parametrize(("config", "millions"), [(MINIMIND2_SMALL, 25.83), (MINIMIND2, 104.03), (MINIMIND3, 63.91)])
def test_minimind_sizes(config: ModelConfig, millions: float) -> None:
    assert round(sum(num_parameters(config).values()) / 1e6, 2) == millions


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": False},
        {"qk_norm": False},
        {"qk_norm": False, "attention_bias": "qkv"},
        {"attention_bias": "all", "head_dim": 12},
    ],
)
def test_counts_equal_the_model(changes: dict[str, object]) -> None:
    model = tiny(**changes)
    parts = dict.fromkeys(("embedding", "attention", "mlp", "norms", "head"), 0)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parts["norms"] += parameter.numel()
        elif "embed" in name:
            parts["embedding"] += parameter.numel()
        elif "lm_head" in name:
            parts["head"] += parameter.numel()
        else:
            parts["attention" if "self_attn" in name else "mlp"] += parameter.numel()
    assert num_parameters(model.config) == parts


def test_flops_by_hand() -> None:
    config = ModelConfig(10, 4, 2, 2, 1, 2, 8, qk_norm=False)
    # A layer: q and o 4×4, k and v 4×2, three of 4×8 = 144 weights; two layers and the head of 40 make 328.
    # Attention: 2 layers × 2 heads × 2 features × 3 tokens = 24.
    assert matmul_flops_per_token(config, 3.0) == 6 * 328 + 12 * 24


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"head_dim": 7}, "head_dim"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"dropout": 1.0}, "dropout"),
        ({"attention_bias": "qkv"}, "no model family"),
        ({"attention_bias": "some"}, "attention_bias"),
        ({"qk_norm": False, "hidden_size": 34}, "Llama"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, object], word: str) -> None:
    with pytest.raises(ProfileError, match=word):
        ModelConfig(**{**SHAPE, **changes})


@pytest.mark.parametrize("values", [(1.0, 64), (4.0, 0), (4.0, 64, 1.0, 32.0)])
def test_impossible_yarn_is_refused(values: tuple[float, int]) -> None:
    with pytest.raises(ProfileError, match="rope_scaling"):
        YaRN(*values)


def test_families() -> None:
    names = [tiny(**changes).config.family for changes in ({}, {"qk_norm": False})]
    assert [*names, tiny(qk_norm=False, attention_bias="qkv").config.family] == ["qwen3", "llama", "qwen2"]
