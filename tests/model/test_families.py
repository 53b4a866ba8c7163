"""Hugging Face folders: the same logits in both directions, and clear errors for folders that cannot be used."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from engine.errors import CheckpointError
from engine.model.config import YaRN
from engine.model.families import load_pretrained, save_pretrained
from engine.model.hf_config import describe, read_config
from engine.model.transformer import Transformer
from tests.model.helpers import SHARED, TOP_1, TOP_2, hidden_of, tiny

TOKENS = torch.arange(60) * 31 % 97
IDS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": [2, 3], "pad_token_id": 0}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {"qk_norm": False}),
    "llama-untied-no-gqa": ("LlamaForCausalLM", {"qk_norm": False, "tie_word_embeddings": False,
                                                 "num_key_value_heads": 4}),
    "llama-biased-head-dim": ("LlamaForCausalLM", {"qk_norm": False, "attention_bias": "all", "head_dim": 12}),
    "llama-yarn": ("LlamaForCausalLM", {"qk_norm": False, "rope_scaling": YaRN(4.0, 32)}),
    "qwen2": ("Qwen2ForCausalLM", {"qk_norm": False, "attention_bias": "qkv"}),
    "qwen2-yarn-untied": ("Qwen2ForCausalLM", {"qk_norm": False, "attention_bias": "qkv", "tie_word_embeddings": False,
                                               "rope_scaling": YaRN(4.0, 32, 8.0, 2.0, attention_factor=1.0)}),
    "qwen3": ("Qwen3ForCausalLM", {"head_dim": 12, "rope_theta": 5000.0, "rms_norm_eps": 1e-5}),
    "qwen3-yarn": ("Qwen3ForCausalLM", {"rope_scaling": YaRN(4.0, 32)}),
    "qwen3-biased-untied": ("Qwen3ForCausalLM", {"attention_bias": "all", "tie_word_embeddings": False}),
    "qwen3-moe": ("Qwen3MoeForCausalLM", TOP_2),
    "qwen3-moe-top-1": ("Qwen3MoeForCausalLM", {**TOP_1, "head_dim": 12}),
    "qwen3-moe-renormalised-top-1": ("Qwen3MoeForCausalLM", {**TOP_1, "norm_topk_prob": True}),
    "qwen3-moe-biased-untied-yarn": ("Qwen3MoeForCausalLM", {**TOP_2, "norm_topk_prob": False, "attention_bias": "all",
                                     "tie_word_embeddings": False, "rope_scaling": YaRN(4.0, 32)}),
}  # fmt: skip


def _logits(model: Transformer) -> torch.Tensor:
    return model.logits(hidden_of(model, TOKENS)).detach()


def _folder(tmp_path: Path, **changes: Any) -> Path:
    save_pretrained(tmp_path, tiny(**changes), **IDS)
    return tmp_path


def _edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", SHAPES)
def test_logits_equal_transformers_both_ways(name: str, tmp_path: Path) -> None:
    title, changes = SHAPES[name]
    ours = tiny(**changes)
    (tmp_path / "ours").mkdir()
    save_pretrained(tmp_path / "ours", ours, **IDS)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float32).eval()
    assert type(theirs).__name__ == title
    assert theirs.generation_config.eos_token_id == [2, 3]
    with torch.no_grad():
        expected = theirs(TOKENS[None]).logits[0]
    torch.testing.assert_close(_logits(ours), expected, rtol=0, atol=1e-4)
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    assert (tmp_path / "theirs" / "model.safetensors.index.json").exists()
    torch.testing.assert_close(_logits(load_pretrained(tmp_path / "theirs")), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "changes", [*(changes for _, changes in SHAPES.values()), SHARED, TOP_2 | {"num_shared_experts": 1},
                TOP_1 | {"qk_norm": False, "attention_bias": "all"}],
)  # fmt: skip
def test_round_trip_is_exact(changes: dict[str, Any], tmp_path: Path) -> None:
    model = tiny(**changes)
    save_pretrained(tmp_path, model, **IDS)
    assert read_config(tmp_path) == model.config
    loaded = load_pretrained(tmp_path)
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[key])
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_transformers_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    raw = json.loads((_folder(tmp_path, **SHARED) / "config.json").read_text())
    assert (raw["model_type"], raw["architectures"]) == ("minimind_moe", ["MinimindMoeForCausalLM"])
    with pytest.raises(ValueError, match="minimind_moe"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_half_precision_files_become_fp32(tmp_path: Path) -> None:
    model = tiny()
    save_pretrained(tmp_path, model, **IDS, dtype=torch.bfloat16)
    stored = load_file(tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "bfloat16"
    loaded = load_pretrained(tmp_path)
    assert loaded.head_weight.dtype == torch.float32
    assert torch.equal(loaded.head_weight, model.head_weight.bfloat16().float())
    assert load_pretrained(tmp_path, torch.bfloat16).head_weight.dtype == torch.bfloat16


def test_loading_draws_no_random_numbers(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    before = torch.get_rng_state()
    load_pretrained(folder)
    assert torch.equal(before, torch.get_rng_state())


def test_a_redundant_tied_head_and_old_tables_are_accepted(tmp_path: Path) -> None:
    file = _folder(tmp_path) / "model.safetensors"
    tensors = load_file(file)
    extra = {"lm_head.weight": tensors["model.embed_tokens.weight"].clone(),
             "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}  # fmt: skip
    save_file(tensors | extra, file)
    load_pretrained(tmp_path)
    save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"] + 1}, file)
    with pytest.raises(CheckpointError, match=r"lm_head\.weight differs"):
        load_pretrained(tmp_path)


def test_pytorch_bin_is_read_without_running_code(tmp_path: Path) -> None:
    model = tiny()
    file = _folder(tmp_path) / "model.safetensors"
    torch.save(load_file(file), tmp_path / "pytorch_model.bin")
    file.unlink()
    torch.testing.assert_close(_logits(load_pretrained(tmp_path)), _logits(model), rtol=0, atol=0)

    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    torch.save({"model.norm.weight": Trap()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        load_pretrained(tmp_path)
    assert not (tmp_path / "ran").exists()


LAYER = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda tensors: tensors.pop(LAYER), f"missing tensors: {LAYER}"),
        (lambda tensors: tensors.update({"model.extra": torch.ones(2)}), "unexpected tensors: model.extra"),
        (lambda tensors: tensors.update({LAYER: torch.ones(2, 3)}), r"up_proj.weight is \(2, 3\), expected \(48, 32\)"),
        (lambda tensors: tensors.update({LAYER: tensors[LAYER].to(torch.int8)}), "up_proj.weight holds torch.int8"),
    ],
)
def test_damaged_weights_name_the_tensor(damage: Any, words: str, tmp_path: Path) -> None:
    file = _folder(tmp_path) / "model.safetensors"
    tensors = load_file(file)
    damage(tensors)
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match=words):
        load_pretrained(tmp_path)


def test_broken_files_are_named(tmp_path: Path) -> None:
    file = _folder(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError) as caught:
        load_pretrained(tmp_path)
    assert caught.value.where == str(file)
    file.unlink()
    with pytest.raises(CheckpointError, match="no weights found"):
        load_pretrained(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../a.safetensors"}}')
    with pytest.raises(CheckpointError, match="out of the folder"):
        load_pretrained(tmp_path)
    for content in ("{", "[1]", "\udcff".encode(errors="surrogateescape").decode("latin1")):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(CheckpointError):
            read_config(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"model_type": "gpt2"}, "model_type"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1}, "sliding_window"),
        ({"layer_types": ["full_attention", "sliding_attention", "full_attention"]}, "sliding_window"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_type"),
        ({"rope_scaling": {"type": "linear", "factor": 8.0}}, "rope_type"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 8.0, "mscale": 0.7}}, "mscale"),
        ({"rope_scaling": "yarn"}, "rope_scaling"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"hidden_size": "32"}, "hidden_size"),
        ({"vocab_size": None}, "vocab_size"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"num_attention_heads": 0, "num_key_value_heads": None}, "num_attention_heads"),
    ],
)
def test_what_cannot_be_computed_is_named(changes: dict[str, Any], key: str, tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    _edit(folder, **changes)
    with pytest.raises(CheckpointError, match=key):
        read_config(folder)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"decoder_sparse_step": 2}, "decoder_sparse_step"),
        ({"mlp_only_layers": [0]}, "mlp_only_layers"),
        ({"num_experts": None}, "num_experts is missing"),
        ({"num_experts_per_tok": 5}, "num_experts_per_tok is 5 with 4 experts"),
        ({"moe_intermediate_size": 0}, "moe_intermediate_size"),
        ({"norm_topk_prob": 1}, "norm_topk_prob"),
    ],
)
def test_mixtures_that_cannot_be_computed_are_named(changes: dict[str, Any], key: str, tmp_path: Path) -> None:
    folder = _folder(tmp_path, **TOP_2)
    _edit(folder, **changes)
    with pytest.raises(CheckpointError, match=key):
        read_config(folder)
    _edit(_folder(tmp_path), **{name: value for name, value in changes.items() if name.endswith(("step", "layers"))})
    assert read_config(tmp_path) == tiny().config, "a dense model has no such keys"


def test_a_sliding_window_that_is_not_in_use_is_accepted(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    plain = read_config(folder)
    _edit(folder, use_sliding_window=False, sliding_window=4096, max_window_layers=28)
    assert read_config(folder) == plain
    _edit(folder, use_sliding_window=True, sliding_window=4096, max_window_layers=3)
    assert read_config(folder) == plain


def test_describe() -> None:
    line = describe(tiny().config)
    assert "Qwen3" in line and "3 layers × 32" in line and "4 heads of 8 (2 key-value)" in line
    assert "experts" not in line and "active" not in line and "transformers" not in line
    line = describe(tiny(**TOP_2).config)
    assert line.startswith("Qwen3-MoE shape, 0.04 M parameters (0.03 M active): ")
    assert ", 4 experts of 24, 2 a token, vocabulary 97" in line and line.endswith("97")
    line = describe(tiny(**SHARED | {"num_experts_per_tok": 1}).config)
    assert "MiniMind-MoE" in line and "1 a token and 2 shared" in line
    assert "router gets no gradient from the language model; transformers does not know this shape" in line
