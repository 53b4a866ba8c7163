"""Mixture of experts in settings and profiles, and what a run inherits from a checkpoint that has one."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from engine.errors import ProfileError
from engine.model.config import num_active_parameters, num_parameters
from engine.model.families import save_pretrained
from engine.session.shape import model_config, shape_settings
from engine.settings.model import ModelSettings
from engine.settings.profile import load_profile, resolve
from tests.model.helpers import SHARED, TOP_1, TOP_2, tiny


def test_what_is_unset_follows() -> None:
    config = model_config(ModelSettings(num_experts=4), 97)
    assert config.moe_intermediate_size == config.intermediate_size == 1408
    assert config.num_experts_per_tok == 2 and config.norm_topk_prob and config.router_aux_loss_coef == 0.01
    alone = ModelSettings(num_experts=4, num_experts_per_tok=1, moe_intermediate_size=64)
    config = model_config(alone, 97)
    assert not config.norm_topk_prob and config.moe_intermediate_size == 64
    assert model_config(ModelSettings(num_experts=4, norm_topk_prob=False), 97).norm_topk_prob is False


def test_a_dense_model_has_nothing_of_experts() -> None:
    config = model_config(ModelSettings(), 97)
    assert (config.num_experts, config.num_experts_per_tok, config.moe_intermediate_size) == (0, 0, 0)
    assert config.router_aux_loss_coef == 0.0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"num_experts": 4, "num_experts_per_tok": 1, "norm_topk_prob": True}, "no gradient of the language model"),
        ({"num_experts": 2, "num_experts_per_tok": 3}, r"num_experts_per_tok \(3\) is more than num_experts \(2\)"),
        ({"num_experts": 1, "num_experts_per_tok": 1}, "one expert is a dense model"),
        ({"num_shared_experts": 1}, "num_shared_experts without num_experts"),
        ({"num_experts": 4, "attention_bias": True, "qk_norm": False}, "no model family has both"),
        ({"num_experts": -1}, "greater than or equal to 0"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ModelSettings(**values)


@pytest.mark.parametrize(
    ("profile", "millions", "active"),
    [("minimind3/pretrain-moe", 198.42, 63.94), ("minimind2/pretrain-moe", 145.03, 91.95)],
)
def test_minimind_s_profiles(profile: str, millions: float, active: float) -> None:
    loaded = load_profile(profile)
    config = model_config(resolve(loaded).model, 6400)
    assert round(sum(num_parameters(config).values()) / 1e6, 2) == millions
    assert round(num_active_parameters(config) / 1e6, 2) == active
    assert str(millions) in loaded.title and str(active) in loaded.title
    assert config.norm_topk_prob == (config.num_experts_per_tok > 1)


def _folder(tmp_path: Path, **changes: Any) -> Path:
    save_pretrained(tmp_path, tiny(**changes), bos_token_id=1, eos_token_id=2, pad_token_id=0)
    return tmp_path


@pytest.mark.parametrize("changes", [{}, TOP_2, TOP_1, SHARED])
def test_a_run_inherits_the_checkpoint_s_experts(changes: dict[str, Any], tmp_path: Path) -> None:
    inherited = shape_settings(_folder(tmp_path, **changes))
    settings = resolve(load_profile("minimind2/pretrain-moe"), {}, inherited, "a run")
    assert settings.origins["num_experts"] == "inherited a run"
    config, own = model_config(settings.model, 97), tiny(**changes).config
    expected = {**vars(own), "initializer_range": 0.02, "router_aux_loss_coef": 0.08 if changes else 0.0}
    assert config == type(own)(**expected)


def test_the_strength_of_the_balance_is_the_run_s_own(tmp_path: Path) -> None:
    inherited = shape_settings(_folder(tmp_path, **TOP_2))
    settings = resolve(load_profile("minimind3/pretrain"), {"router_aux_loss_coef": 0.5}, inherited, "a run")
    assert settings.model.router_aux_loss_coef == 0.5
    with pytest.raises(ProfileError, match="num_experts_per_tok=1 contradicts the checkpoint"):
        resolve(load_profile("minimind3/pretrain"), {"num_experts_per_tok": 1}, inherited, "a run")


def test_a_foreign_checkpoint_with_a_router_that_learns_nothing_can_be_gone_on_from(tmp_path: Path) -> None:
    inherited = shape_settings(_folder(tmp_path, **TOP_1 | {"norm_topk_prob": True}))
    settings = resolve(load_profile("minimind3/pretrain"), {}, inherited, "a run")
    assert settings.model.norm_topk_prob is None and settings.model.num_experts_per_tok == 1
