"""Shapes: counting, flops, validation."""

import pytest

from engine.errors import ProfileError
from engine.model.config import ModelConfig, YaRN, matmul_flops_per_token, num_active_parameters, num_parameters
from tests.model.helpers import MIXTURES, SHAPE, TOP_2, tiny

MINIMIND2_SMALL = ModelConfig(6400, 512, 8, 8, 2, 64, 1408, qk_norm=False)
MINIMIND2 = ModelConfig(6400, 768, 16, 8, 2, 96, 2048, qk_norm=False)
MINIMIND3 = ModelConfig(6400, 768, 8, 8, 4, 96, 2432)
MINIMIND2_MOE = ModelConfig(
    6400, 640, 8, 8, 2, 80, 1728, qk_norm=False, num_experts=4, num_experts_per_tok=2, num_shared_experts=1,
    moe_intermediate_size=1728,
)  # fmt: skip
MINIMIND3_MOE = ModelConfig(
    6400, 768, 8, 8, 4, 96, 2432, num_experts=4, num_experts_per_tok=1, moe_intermediate_size=2432
)


@pytest.mark.parametrize(
    ("config", "millions", "active"),
    [
        (MINIMIND2_SMALL, 25.83, 25.83),
        (MINIMIND2, 104.03, 104.03),
        (MINIMIND3, 63.91, 63.91),
        (MINIMIND2_MOE, 145.03, 91.95),
        (MINIMIND3_MOE, 198.42, 63.94),
    ],
)
def test_minimind_sizes(config: ModelConfig, millions: float, active: float) -> None:
    assert round(sum(num_parameters(config).values()) / 1e6, 2) == millions
    assert round(num_active_parameters(config) / 1e6, 2) == active


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": False},
        {"qk_norm": False},
        {"qk_norm": False, "attention_bias": "qkv"},
        {"attention_bias": "all", "head_dim": 12},
        *MIXTURES,
    ],
)
def test_counts_equal_the_model(changes: dict[str, object]) -> None:
    model = tiny(**changes)
    parts = dict.fromkeys(("embedding", "attention", "mlp", "experts", "norms", "head"), 0)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parts["norms"] += parameter.numel()
        elif "embed" in name:
            parts["embedding"] += parameter.numel()
        elif "lm_head" in name:
            parts["head"] += parameter.numel()
        elif ".mlp.experts." in name:
            parts["experts"] += parameter.numel()
        else:
            parts["attention" if "self_attn" in name else "mlp"] += parameter.numel()
    assert num_parameters(model.config) == parts


def test_flops_by_hand() -> None:
    config = ModelConfig(10, 4, 2, 2, 1, 2, 8, qk_norm=False)
    # A layer: q and o 4×4, k and v 4×2, three of 4×8 = 144 weights; two layers and the head of 40 make 328.
    # Attention: 2 layers × 2 heads × 2 features × 3 tokens = 24.
    assert matmul_flops_per_token(config, 3.0) == 6 * 328 + 12 * 24
    # Instead of the feed-forward part's 96: the router's 5×4, two of five experts and a shared one, each three of 4×6.
    experts = {"num_experts": 5, "num_experts_per_tok": 2, "num_shared_experts": 1, "moe_intermediate_size": 6}
    config = ModelConfig(10, 4, 2, 2, 1, 2, 8, qk_norm=False, **experts)
    assert matmul_flops_per_token(config, 3.0) == 6 * (328 + 2 * (-96 + 20 + 3 * 72)) + 12 * 24


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
        ({**TOP_2, "num_experts_per_tok": 5}, "num_experts_per_tok is 5 with 4"),
        ({**TOP_2, "num_experts_per_tok": 0}, "num_experts_per_tok"),
        ({**TOP_2, "num_experts": -1}, "with -1 experts"),
        ({**TOP_2, "moe_intermediate_size": 0}, "moe_intermediate_size"),
        ({**TOP_2, "num_shared_experts": -1}, "num_shared_experts"),
        ({**TOP_2, "router_aux_loss_coef": float("nan")}, "router_aux_loss_coef"),
        ({**TOP_2, "qk_norm": False, "attention_bias": "qkv"}, "no model family"),
        ({"num_shared_experts": 1}, "num_experts_per_tok is 0 with 0 experts"),
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
    assert [tiny(**changes).config.family for changes in MIXTURES] == ["qwen3_moe", "qwen3_moe", "minimind_moe"]
