"""Folders of adapters: equal to peft's in both directions, tied to their base, and safe to read."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from engine.errors import CheckpointError
from engine.model.adapters import check_base, load_adapter, read_adapter, save_adapter
from engine.model.families import load_pretrained, save_pretrained
from engine.model.fingerprint import fingerprint
from engine.model.lora import LoraConfig, adapted, adapters, attach, detach, merge
from engine.model.transformer import Transformer
from tests.model.helpers import hidden_of, tiny
from tests.training.tiny import same_bits

TOKENS = torch.arange(60) * 31 % 97
IDS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SHAPES: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "llama-untied": {"qk_norm": False, "tie_word_embeddings": False},
    "qwen2": {"qk_norm": False, "attention_bias": "qkv"},
    "qwen3-moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
}
KEY = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def _logits(model: Transformer) -> Tensor:
    return model.logits(hidden_of(model, TOKENS)).detach()


def _small(**changes: Any) -> Transformer:
    """Logits of about 1, so that tolerances mean something."""
    model = tiny(**changes)
    with torch.no_grad():
        model.model.norm.weight.mul_(0.1)
    return model.eval()


def _adapted(model: Transformer, seed: int = 1, **changes: Any) -> Transformer:
    torch.manual_seed(seed)
    attach(model, LoraConfig(**{"rank": 4, "alpha": 8.0, **changes}))
    for layer in adapters(model).values():
        nn.init.normal_(layer.lora_B, std=0.1)
    return model


def _folder(path: Path, model: Transformer, base: str = "runs/base", **changes: Any) -> Path:
    """An adapter of the model, which is left as it was."""
    path.mkdir(parents=True)
    _adapted(model, **changes)
    save_adapter(path, model, base, fingerprint(model))
    detach(model)
    return path


def _edit(folder: Path, file: str = "adapter_config.json", **changes: Any) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("targets", [("all-linear",), ("q_proj", "down_proj"), ("layers.1.self_attn.v_proj",)])
@pytest.mark.parametrize("shape", SHAPES)
def test_peft_computes_the_same_from_our_folder(shape: str, targets: tuple[str, ...], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model = _small(**SHAPES[shape])
    (tmp_path / "base").mkdir()
    save_pretrained(tmp_path / "base", model, **IDS)
    plain = _logits(model)
    folder = _folder(tmp_path / "adapter", model, str(tmp_path / "base"), targets=targets)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(theirs, folder).eval()
    load_adapter(model, read_adapter(folder))
    with torch.no_grad():
        expected = theirs(TOKENS[None]).logits[0]
    torch.testing.assert_close(_logits(model), expected, rtol=0, atol=1e-5)
    assert float((plain - expected).abs().max()) > 0.01


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": "all-linear"},
        {"target_modules": ["q_proj", "v_proj"], "lora_dropout": 0.1},
        {"target_modules": r".*layers\.1\.mlp\.(up|down)_proj"},
        {"target_modules": ["o_proj"], "layers_to_transform": [0, 2]},
        {"target_modules": ["k_proj"], "use_rslora": True, "init_lora_weights": "gaussian"},
    ],
    ids=["all-linear", "names", "pattern", "layers", "rslora"],
)
def test_we_compute_the_same_from_peft_s_folder(options: dict[str, Any], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model = _small()
    save_pretrained(tmp_path, model, **IDS)
    plain = _logits(model)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    torch.manual_seed(5)
    theirs = peft.get_peft_model(theirs, peft.LoraConfig(r=4, lora_alpha=10, task_type="CAUSAL_LM", **options)).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
        expected = theirs(TOKENS[None]).logits[0]
    theirs.save_pretrained(tmp_path / "adapter")
    adapter = read_adapter(tmp_path / "adapter")
    assert adapter.base_fingerprint is None and adapter.base_path == str(tmp_path)
    check_base(adapter, model, "a model of unknown origin")
    load_adapter(model, adapter)
    torch.testing.assert_close(_logits(model), expected, rtol=0, atol=1e-5)
    assert float((plain - expected).abs().max()) > 0.01
    merge(model)
    torch.testing.assert_close(_logits(model), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"]])
def test_our_folder_says_what_peft_s_says(targets: Any, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model = _small()
    save_pretrained(tmp_path, model, **IDS)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    config = peft.LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1, target_modules=targets, task_type="CAUSAL_LM")
    peft.get_peft_model(theirs, config).save_pretrained(tmp_path / "theirs")
    load_adapter(model, read_adapter(tmp_path / "theirs"))
    (tmp_path / "ours").mkdir()
    save_adapter(tmp_path / "ours", model, str(tmp_path), fingerprint(model))
    assert same_bits(*(load_file(tmp_path / of / "adapter_model.safetensors") for of in ("ours", "theirs")))
    ours, said = (json.loads((tmp_path / of / "adapter_config.json").read_text()) for of in ("ours", "theirs"))
    said["target_modules"].sort()  # a set of peft's
    assert ours == {key: said[key] for key in ours}


def test_peft_trains_the_same_number_of_weights(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model = _small()
    save_pretrained(tmp_path, model, **IDS)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    theirs = peft.get_peft_model(theirs, peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    attach(model, LoraConfig(4, 8.0))
    ours = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert (ours, sum(parameter.numel() for parameter in model.parameters())) == theirs.get_nb_trainable_parameters()


def test_a_folder_gives_back_the_adapter_bit_for_bit_and_draws_no_numbers(tmp_path: Path) -> None:
    model = _adapted(_small(), dropout=0.25, alpha=12.5, targets=("q_proj", "up_proj"))
    save_adapter(tmp_path, model, "runs/base", fingerprint(model))
    other = _small()
    before = torch.get_rng_state()
    adapter = read_adapter(tmp_path)
    load_adapter(other, adapter)
    assert torch.equal(before, torch.get_rng_state())
    assert same_bits(dict(model.state_dict()), dict(other.state_dict()))
    assert torch.equal(_logits(model), _logits(other))
    assert (adapter.config.rank, adapter.config.alpha, adapter.config.dropout) == (4, 12.5, 0.25)
    assert (adapter.base_path, adapter.base_fingerprint) == ("runs/base", fingerprint(_small()))
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == [
        name for name, parameter in other.named_parameters() if parameter.requires_grad
    ]
    (tmp_path / "again").mkdir()
    save_adapter(tmp_path / "again", other, "runs/base", fingerprint(other))
    for name in ("adapter_config.json", "adapter_model.safetensors", "base.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_targets_are_written_so_that_they_mean_the_adapted_layers_only(tmp_path: Path) -> None:
    for targets, written in (
        (("layers.1.self_attn.v_proj",), ["model.layers.1.self_attn.v_proj"]),
        (("v_proj", "self_attn.k_proj"), ["k_proj", "v_proj"]),
    ):
        folder = _folder(tmp_path / written[0], _small(), targets=targets)
        assert json.loads((folder / "adapter_config.json").read_text())["target_modules"] == written


def test_two_adapters_take_turns_on_one_base(tmp_path: Path) -> None:
    model = _small()
    plain = _logits(model)
    first = read_adapter(_folder(tmp_path / "first", model, seed=1))
    second = read_adapter(_folder(tmp_path / "second", model, seed=2, rank=2, targets=("v_proj",)))
    seen = []
    for adapter in (first, second, first, second):
        check_base(adapter, model, "the base")
        load_adapter(model, adapter)
        seen.append(_logits(model))
        with torch.no_grad():  # what happens to the model does not reach what was read
            next(iter(adapters(model).values())).lora_A.zero_()
        detach(model)
        assert torch.equal(_logits(model), plain)
    assert torch.equal(seen[0], seen[2]) and torch.equal(seen[1], seen[3])
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], plain)


def test_a_fingerprint_is_of_the_weights_alone(tmp_path: Path) -> None:
    model = _small()
    known = fingerprint(model)
    state = dict(model.state_dict())
    assert known == fingerprint(dict(reversed(state.items())))
    save_pretrained(tmp_path, model, **IDS)
    assert known == fingerprint(load_pretrained(tmp_path)) == fingerprint(load_file(tmp_path / "model.safetensors"))
    half = {name: tensor.bfloat16() for name, tensor in state.items()}
    assert fingerprint(half) == fingerprint({name: tensor.float() for name, tensor in half.items()}) != known
    assert fingerprint(_adapted(model)) == known
    name = "model.layers.0.mlp.up_proj.weight"
    changed = state[name].clone()
    changed[0, 0] = torch.nextafter(changed[0, 0], torch.tensor(9.0))
    for other in (
        {name: changed}, {name: state[name].T}, {name: state[name].reshape(-1)}, {"model.extra.weight": torch.ones(1)},
    ):  # fmt: skip
        assert fingerprint(state | other) != known
    swapped = state | {"model.layers.0.mlp.up_proj.weight": state["model.layers.0.mlp.gate_proj.weight"],
                       "model.layers.0.mlp.gate_proj.weight": state[name]}  # fmt: skip
    assert fingerprint(swapped) != known


def test_the_wrong_base_is_refused_with_both_digests(tmp_path: Path) -> None:
    model = _small()
    adapter = read_adapter(_folder(tmp_path / "adapter", model))
    right = fingerprint(model)
    check_base(adapter, model, "runs/base@newest")
    with torch.no_grad():
        model.model.embed_tokens.weight[5, 5] += 1
    with pytest.raises(CheckpointError) as caught:
        check_base(adapter, model, "runs/other@newest")
    assert right[:12] in caught.value.what and fingerprint(model)[:12] in caught.value.what
    assert "runs/other@newest" in caught.value.hint and "runs/base" in caught.value.hint
    assert caught.value.where == str(tmp_path / "adapter")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_hidden_layers": 2}, "layers that the model does not have: model.layers.2.mlp.down_proj"),
        ({"intermediate_size": 40}, "another shape: model.layers.0.mlp.down_proj is 48 → 32, expected 40 → 32"),
    ],
)
def test_a_base_of_another_shape_is_refused_and_left_alone(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    adapter = read_adapter(_folder(tmp_path / "adapter", _small()))
    model = _small(**changes)
    with pytest.raises(CheckpointError, match=words):
        load_adapter(model, adapter)
    assert not adapted(model) and all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"peft_type": "LOHA"}, "peft_type is LOHA"),
        ({"peft_type": None}, "peft_type is None"),
        ({"use_dora": True}, "use_dora = True is not supported"),
        ({"bias": "all"}, "bias = all"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 8}}, "alpha_pattern"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"lora_bias": True}, "lora_bias"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights = pissa_niter_4"),
        ({"of\x1b[2Jtomorrow": True}, "of␛.2Jtomorrow = True is not supported"),
        ({"r": -4}, "rank of an adapter is -4"),
        ({"r": 0}, "rank of an adapter is 0"),
        ({"r": 10**18}, "rank of an adapter is 1000000000000000000"),
        ({"r": 10**4000}, "rank of an adapter is 1000"),
        ({"r": 60000}, "the rank is 60000 by adapter_config.json, but model.layers.0.mlp.down_proj has 4 and 4"),
        ({"r": 4.0}, "r is 4.0, expected a whole number"),
        ({"r": True}, "r is True"),
        ({"r": None}, "r is None"),
        ({"lora_alpha": "16"}, "lora_alpha is 16, expected a number"),
        ({"lora_alpha": float("nan")}, "alpha of an adapter is nan"),
        ({"lora_alpha": 10**4000}, "alpha of an adapter is 1000"),
        ({"lora_dropout": 1.5}, "dropout of an adapter is 1.5"),
        ({"lora_dropout": [0]}, "lora_dropout is"),
        ({"target_modules": ["v_proj"]}, "target_modules does not name model.layers.0.mlp.down_proj"),
        ({"target_modules": ["../../q_proj"]}, "target_modules does not name"),
        ({"target_modules": {"q_proj": 1}}, "target_modules is"),
        ({"target_modules": [1]}, "target_modules is"),
    ],
)  # fmt: skip
def test_what_cannot_be_computed_is_named(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "adapter", _small())
    _edit(folder, **changes)
    with pytest.raises(CheckpointError, match=words) as caught:
        read_adapter(folder)
    assert caught.value.where.startswith(str(folder)) and "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda tensors: tensors.pop(KEY), "missing tensors: model.layers.0.self_attn.q_proj.lora_A"),
        (lambda tensors: tensors.clear(), "holds no tensors"),
        (lambda tensors: tensors.update({"base_model.model.model.embed_tokens.weight": torch.ones(2, 2)}),
         "more than pairs of lora_A and lora_B: base_model.model.model.embed_tokens.weight"),
        (lambda tensors: tensors.update({KEY: torch.ones(3, 32)}), "q_proj has 3 and 4"),
        (lambda tensors: tensors.update({KEY: torch.ones(4)}), "no matrices"),
        (lambda tensors: tensors.update({KEY: torch.ones(4, 32, dtype=torch.int8)}), "no matrices"),
    ],
)  # fmt: skip
def test_every_tensor_is_accounted_for(damage: Any, words: str, tmp_path: Path) -> None:
    file = _folder(tmp_path / "adapter", _small()) / "adapter_model.safetensors"
    tensors = load_file(file)
    damage(tensors)
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match=words):
        read_adapter(file.parent)


@pytest.mark.parametrize("name", ["model.layers.0.../../etc", "lm_head", "model.layers.0.mlp", "model.embed_tokens"])
def test_names_that_are_no_layers_of_blocks_are_refused(name: str, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "adapter", _small(tie_word_embeddings=False))
    pair = {f"base_model.model.{name}.lora_A.weight": torch.ones(4, 32),
            f"base_model.model.{name}.lora_B.weight": torch.ones(97, 4)}  # fmt: skip
    save_file(pair, folder / "adapter_model.safetensors")
    _edit(folder, target_modules=[name])
    model = _small(tie_word_embeddings=False)
    with pytest.raises(CheckpointError, match="does not have"):
        load_adapter(model, read_adapter(folder))
    assert not adapted(model)


def test_broken_files_are_named(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "adapter", _small())
    base, weights, config = (folder / f for f in ("base.json", "adapter_model.safetensors", "adapter_config.json"))
    whole = base.read_text()
    for content in ("{", "[]", "{}", '{"path": "runs/base", "fingerprint": "\\u001b[2J"}', '{"path": 1}'):
        base.write_text(content)
        with pytest.raises(CheckpointError) as caught:
            read_adapter(folder)
        assert caught.value.where == str(base)
    base.write_text(whole)
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot be read") as caught:
        read_adapter(folder)
    assert caught.value.where == str(weights)
    weights.unlink()
    with pytest.raises(CheckpointError, match="no adapter weights"):
        read_adapter(folder)
    for content in ("{", "[1]", "\xff", '{"a":' * 100_000):
        config.write_text(content, encoding="latin1")
        with pytest.raises(CheckpointError) as caught:
            read_adapter(folder)
        assert caught.value.where == str(config)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_adapter(tmp_path / "nowhere")
