"""MiniMind's weight files of both generations."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.errors import CheckpointError
from engine.model.minimind_pth import load_minimind
from tests.model.helpers import SHAPE, SHARED, TOP_1, hidden_of, tiny

EIGHT_HEADS: dict[str, Any] = {**SHAPE, "num_attention_heads": 8, "head_dim": 4}
NEW = EIGHT_HEADS | {"max_position_embeddings": 32768}
OLD = NEW | {"qk_norm": False, "rms_norm_eps": 1e-5}


def _file(path: Path, prefix: str = "", **changes: Any) -> tuple[Path, dict[str, Tensor]]:
    """What MiniMind's trainers save: fp16, the tied head twice, in the older files with the rotary tables."""
    state = {f"{prefix}{name}": tensor.half() for name, tensor in tiny(**changes).state_dict().items()}
    state[f"{prefix}lm_head.weight"] = state[f"{prefix}model.embed_tokens.weight"]
    state[f"{prefix}model.freqs_cos"] = state[f"{prefix}model.freqs_sin"] = torch.ones(6, 4)
    torch.save(state, path)
    return path, state


@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module.", "module._orig_mod."])
@pytest.mark.parametrize("shape", [NEW, OLD])
def test_both_generations_round_trip(shape: dict[str, Any], prefix: str, tmp_path: Path) -> None:
    path, _ = _file(tmp_path / "full_sft_32.pth", prefix, **shape)
    loaded, original = load_minimind(path), tiny(**shape)
    expected = original.config
    assert loaded.config == type(expected)(**{**vars(expected), "initializer_range": 0.02})
    original.load_state_dict({name: tensor.half().float() for name, tensor in original.state_dict().items()})
    tokens = torch.arange(20)
    torch.testing.assert_close(hidden_of(loaded, tokens), hidden_of(original, tokens), rtol=0, atol=0)
    assert loaded.head_weight.dtype == torch.float32


def _old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """MiniMind2's two shared experts, each a part of its own."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if ".shared_experts." in name:
            for number, half in enumerate(tensor.chunk(2, 1 if "down_proj" in name else 0)):
                found[name.replace("shared_experts", f"shared_experts.{number}")] = half.clone()
        else:
            found[name] = tensor
    return found


@pytest.mark.parametrize(
    "shape",
    [
        {**NEW, **TOP_1, "norm_topk_prob": True, "router_aux_loss_coef": 0.0, "intermediate_size": 24},
        {**OLD, **SHARED, "router_aux_loss_coef": 0.0, "intermediate_size": 24},
    ],
)
def test_mixtures_of_both_generations(shape: dict[str, Any], tmp_path: Path) -> None:
    path, state = _file(tmp_path / "pretrain_32_moe.pth", **shape)
    torch.save(_old_names(state), path)
    loaded, original = load_minimind(path), tiny(**shape)
    assert loaded.config == type(original.config)(**{**vars(original.config), "initializer_range": 0.02})
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, state[name].float()), name


@pytest.mark.parametrize("damaged", [torch.ones(24, 31), torch.ones(3), torch.tensor(1.0)])
def test_shared_experts_of_different_shapes(damaged: Tensor, tmp_path: Path) -> None:
    path, state = _file(tmp_path / "a.pth", **OLD | SHARED)
    torch.save(_old_names(state) | {"model.layers.1.mlp.shared_experts.1.down_proj.weight": damaged}, path)
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.shared_experts\.down_proj\.weight do not fit together"):
        load_minimind(path)


def test_heads_are_read_off_the_norms_or_given(tmp_path: Path) -> None:
    path, _ = _file(tmp_path / "new.pth")
    assert load_minimind(path).config.num_attention_heads == 4
    path, _ = _file(tmp_path / "old.pth", qk_norm=False)
    assert load_minimind(path, num_attention_heads=4).config.head_dim == 8
    with pytest.raises(CheckpointError, match="into 5 heads"):
        load_minimind(path, num_attention_heads=5)


def test_an_untied_head_is_kept(tmp_path: Path) -> None:
    path, state = _file(tmp_path / "a.pth", **NEW)
    torch.save(state | {"lm_head.weight": state["lm_head.weight"] + 1}, path)
    loaded = load_minimind(path)
    assert not loaded.config.tie_word_embeddings
    assert torch.equal(loaded.head_weight, (state["lm_head.weight"] + 1).float())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model.layers.0.mlp.experts.0.up_proj.weight": torch.ones(2, 2)}, r"mlp\.experts\.0\.gate_proj"),
        ({"model.layers.0.mlp.shared_experts.0.up_proj.weight": torch.ones(2, 2)}, "unexpected tensors: .*shared"),
        ({"model.layers.2.self_attn.o_proj.lora.A.weight": torch.ones(2, 2)}, "unexpected tensors: .*lora"),
        ({"model.layers.3.mlp.up_proj.weight": torch.ones(2, 2)}, "missing tensors: model.layers.3"),
        ({"model.layers.1.mlp.up_proj.weight": torch.ones(2, 2)}, "wrong shape: model.layers.1.mlp.up_proj"),
        ({"step": 7}, "more than weights: step"),
    ],
)
def test_every_tensor_is_accounted_for(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    path, state = _file(tmp_path / "a.pth", **NEW)
    torch.save(state | change, path)
    with pytest.raises(CheckpointError, match=words):
        load_minimind(path)


def test_files_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    for content in (b"", b"no weights at all", b"\x80\x02."):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="cannot be read"):
            load_minimind(path)
    for state, words in (([1, 2], "holds a list"), ({"a": torch.ones(1)}, "embed_tokens.weight is missing")):
        torch.save(state, path)
        with pytest.raises(CheckpointError, match=words):
            load_minimind(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_minimind(tmp_path / "none.pth")
