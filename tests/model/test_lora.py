"""Adapters in the model: what they compute, what trains, and that the base is never touched."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engine.errors import ProfileError
from engine.model.attention import DocumentAttention
from engine.model.lora import LoraConfig, LoraLinear, adapted, adapter_disabled, adapters, attach, detach, merge
from engine.model.transformer import Transformer
from engine.objectives.cross_entropy import linear_cross_entropy
from engine.settings.lora import LoraSettings, LoraStageSettings
from tests.model.helpers import hidden_of, tiny
from tests.training.tiny import same_bits

TOKENS = torch.arange(40) * 31 % 97
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
MIXTURE = {"num_experts": 4, "num_experts_per_tok": 2, "num_shared_experts": 1, "moe_intermediate_size": 16}
SHAPES: list[dict[str, Any]] = [{}, {"attention_bias": "all", "tie_word_embeddings": False}, {"num_key_value_heads": 4}]


def _logits(model: Transformer) -> Tensor:
    return model.logits(hidden_of(model, TOKENS)).detach()


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _move(model: nn.Module) -> None:
    """Adapters that do something: B is 0 at the start."""
    for index, layer in enumerate(adapters(model).values()):
        nn.init.normal_(layer.lora_B, std=0.1, generator=torch.Generator().manual_seed(index))


def _train(model: Transformer, steps: int = 5) -> None:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.05, weight_decay=0.1)
    for _ in range(steps):
        hidden = model(TOKENS[:-1], torch.arange(39), DocumentAttention([0, 39]))
        linear_cross_entropy(hidden, model.head_weight, TOKENS[1:], torch.ones(39)).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def test_the_formula_by_hand() -> None:
    base = nn.Linear(2, 2)
    with torch.no_grad():
        base.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        base.bias.copy_(torch.tensor([10.0, 20.0]))
    layer = LoraLinear(base, LoraConfig(1, 3.0), torch.tensor([[1.0, 2.0]]), torch.tensor([[5.0], [-1.0]]))
    # A·x = 1·1 + 2·1 = 3; 3/1 · B · 3 = (45, -9); W·x + b = (11, 21)
    torch.testing.assert_close(layer(torch.ones(1, 2)), torch.tensor([[56.0, 12.0]]), rtol=0, atol=0)
    assert layer.weight is base.weight and layer.bias is base.bias


@pytest.mark.parametrize("changes", SHAPES)
def test_a_fresh_adapter_changes_nothing_and_is_drawn_from_the_seed(changes: dict[str, Any]) -> None:
    model = tiny(**changes)
    before = _logits(model)
    torch.manual_seed(3)
    names = attach(model, LoraConfig(4, 8.0))
    assert len(names) == 3 * 7 and names == list(adapters(model)) and adapted(model)
    assert torch.equal(_logits(model), before)
    lora_A = adapters(model)["model.layers.0.mlp.down_proj"].lora_A.detach()
    bound = 1 / math.sqrt(48)
    assert lora_A.shape == (4, 48) and bound * 0.9 < float(lora_A.abs().max()) <= bound
    other = tiny(**changes)
    torch.manual_seed(3)
    attach(other, LoraConfig(4, 8.0))
    assert same_bits(_copy(model), _copy(other))
    torch.manual_seed(4)
    detach(other)
    attach(other, LoraConfig(4, 8.0))
    assert not same_bits(_copy(model), _copy(other))


def test_only_the_adapter_trains_and_the_base_stays_bit_for_bit() -> None:
    model = tiny(tie_word_embeddings=False)
    base = _copy(model)
    parameters = dict(model.named_parameters())
    before = _logits(model)
    attach(model, LoraConfig(4, 8.0, dropout=0.1))
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(name.endswith((".lora_A", ".lora_B")) for name in trained)
    # a layer of 32 features, queries 32, keys and values 16, inner 48: rank · (in + out)
    by_hand = 3 * 4 * ((32 + 32) + 2 * (32 + 16) + (32 + 32) + 2 * (32 + 48) + (48 + 32))
    assert sum(parameter.numel() for parameter in trained.values()) == by_hand == 5568
    started = _copy(model)
    _train(model)
    after = _copy(model)
    assert all(parameter.grad is None for parameter in model.parameters())
    for name, tensor in after.items():
        assert torch.equal(tensor, started[name]) == (name not in trained), name
    assert not torch.equal(_logits(model.eval()), before)
    detach(model)
    assert not adapted(model)
    assert same_bits(_copy(model), base)
    assert torch.equal(_logits(model), before)
    assert dict(model.named_parameters()) == parameters
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(isinstance(module, LoraLinear) for module in model.modules())


@pytest.mark.parametrize("changes", [{}, MIXTURE | {"num_experts": 2}], ids=["dense", "mixture"])
def test_gradients_reach_both_matrices_and_nothing_else(changes: dict[str, Any]) -> None:
    model = tiny(**changes)
    model.gradient_checkpointing = True
    attach(model, LoraConfig(2, 4.0))
    _move(model)
    hidden = model(TOKENS[:-1], torch.arange(39), DocumentAttention([0, 39]))
    linear_cross_entropy(hidden, model.head_weight, TOKENS[1:], torch.ones(39)).backward()
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            assert parameter.grad is not None and bool(parameter.grad.any()), name
        else:
            assert parameter.grad is None, name


@pytest.mark.parametrize("changes", SHAPES)
def test_merging_gives_a_plain_model_with_the_same_logits(changes: dict[str, Any]) -> None:
    model = tiny(**changes)
    names = list(model.state_dict())
    attach(model, LoraConfig(4, 8.0))
    _move(model)
    layer = adapters(model)["model.layers.1.self_attn.o_proj"]
    weight = layer.weight.detach().clone()
    expected = weight + 2.0 * (layer.lora_B @ layer.lora_A).detach()
    attached = _logits(model)
    merge(model)
    assert not adapted(model) and list(model.state_dict()) == names
    torch.testing.assert_close(model.state_dict()["model.layers.1.self_attn.o_proj.weight"], expected, rtol=0, atol=0)
    assert not torch.equal(expected, weight)
    scale = float(attached.abs().max())  # the tiny model's logits are large
    torch.testing.assert_close(_logits(model) / scale, attached / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("targets", "ends"),
    [
        (("all-linear",), LINEARS),
        (("q_proj", "v_proj"), ["q_proj", "v_proj"]),
        (("mlp.down_proj",), ["down_proj"]),
        (("q_proj", "all-linear"), LINEARS),
    ],
)
def test_targets_by_the_end_of_their_names(targets: tuple[str, ...], ends: list[str]) -> None:
    names = attach(tiny(tie_word_embeddings=False), LoraConfig(2, 4.0, targets=targets))
    assert [name.rpartition(".")[2] for name in names] == ends * 3


def test_a_target_may_be_one_layer() -> None:
    assert attach(tiny(), LoraConfig(2, 4.0, targets=("layers.1.self_attn.q_proj",))) == [
        "model.layers.1.self_attn.q_proj"
    ]


@pytest.mark.parametrize("target", ["proj", "lm_head", "embed_tokens", "self_attn", "gate", "", "../q_proj"])
def test_an_unknown_target_is_refused_and_the_model_is_as_it_was(target: str) -> None:
    model = tiny(tie_word_embeddings=False)
    with pytest.raises(ProfileError) as caught:
        attach(model, LoraConfig(2, 4.0, targets=("q_proj", target)))
    assert repr(target) in caught.value.what
    assert "_proj" in caught.value.hint
    assert not adapted(model) and all(parameter.requires_grad for parameter in model.parameters())


def test_an_unknown_target_names_those_there_are() -> None:
    with pytest.raises(ProfileError, match="did you mean 'q_proj'"):
        attach(tiny(), LoraConfig(2, 4.0, targets=("q_prj",)))
    with pytest.raises(ProfileError, match=f"there are {', '.join(LINEARS)}, and all-linear"):
        attach(tiny(), LoraConfig(2, 4.0, targets=("xyz",)))


def test_all_linear_takes_every_expert_but_no_router() -> None:
    names = attach(tiny(**MIXTURE), LoraConfig(2, 4.0))
    assert "model.layers.1.mlp.experts.3.gate_proj" in names and "model.layers.1.mlp.shared_experts.up_proj" in names
    assert len(names) == 3 * (4 + 5 * 3) and not any(name.endswith("mlp.gate") for name in names)
    with pytest.raises(ProfileError, match="'gate'"):
        attach(tiny(**MIXTURE), LoraConfig(2, 4.0, targets=("gate",)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rank": 0}, "rank"), ({"rank": -1}, "rank"), ({"rank": 10**9}, "rank"),
        ({"alpha": 0.0}, "alpha"), ({"alpha": math.nan}, "alpha"), ({"alpha": math.inf}, "alpha"),
        ({"dropout": 1.0}, "dropout"), ({"dropout": -0.1}, "dropout"), ({"targets": ()}, "targets"),
    ],
)  # fmt: skip
def test_sizes_out_of_range_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ProfileError, match=words):
        LoraConfig(**{"rank": 4, "alpha": 8.0, **changes})


def test_the_settings_fit_the_config() -> None:
    for settings, rank in ((LoraSettings(), 0), (LoraStageSettings(), 8)):
        assert settings.lora_rank == rank
        config = LoraConfig(
            settings.lora_rank or 1, settings.lora_alpha, settings.lora_dropout, tuple(settings.lora_targets)
        )
        assert attach(tiny(), config)
    assert list(LoraStageSettings.model_fields) == list(LoraSettings.model_fields)
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        LoraStageSettings(lora_rank=0)


def test_a_disabled_adapter_leaves_the_base_also_nested_and_after_an_error() -> None:
    model = tiny()
    before = _logits(model)
    attach(model, LoraConfig(4, 8.0))
    _move(model)
    with_adapter = _logits(model)
    assert not torch.equal(with_adapter, before)
    with adapter_disabled(model):
        assert torch.equal(_logits(model), before)
        with adapter_disabled(model):
            assert torch.equal(_logits(model), before)
        assert torch.equal(_logits(model), before)
    assert torch.equal(_logits(model), with_adapter)
    with pytest.raises(KeyError), adapter_disabled(model), adapter_disabled(model):
        raise KeyError
    assert torch.equal(_logits(model), with_adapter)


def test_dropout_works_in_training_only() -> None:
    model = tiny().eval()
    attach(model, LoraConfig(4, 8.0, dropout=0.5))
    _move(model)
    assert torch.equal(_logits(model), _logits(model))
    model.train()
    assert not torch.equal(_logits(model), _logits(model))
    detach(model.eval())
    assert not any(module.training for module in model.modules())


def test_dropout_drops_the_adapter_s_input_only() -> None:
    base = nn.Linear(2, 2, bias=False)
    layer = LoraLinear(base, LoraConfig(1, 1.0, dropout=0.5), torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0], [0.0]]))
    torch.manual_seed(0)
    added = (layer(torch.ones(200, 2)) - base(torch.ones(200, 2))).detach()
    assert set(added[:, 0].round(decimals=3).tolist()) == {0.0, 2.0, 4.0, 6.0}  # kept inputs are doubled
    assert not added[:, 1].any()


def test_autocast_computes_as_other_layers_do_and_masters_stay_fp32() -> None:
    model = tiny()
    attach(model, LoraConfig(4, 8.0))
    layer = adapters(model)["model.layers.0.self_attn.q_proj"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.ones(3, 32)).dtype == torch.bfloat16
    assert layer.lora_A.dtype == layer.lora_B.dtype == torch.float32
    half = tiny().to(torch.bfloat16)
    attach(half, LoraConfig(4, 8.0))
    assert _logits(half).dtype == torch.bfloat16


def test_a_second_adapter_must_wait_for_the_first_to_leave() -> None:
    model = tiny()
    attach(model, LoraConfig(4, 8.0))
    with pytest.raises(ValueError, match="detach"):
        attach(model, LoraConfig(2, 8.0))
    detach(model)
    attach(model, LoraConfig(2, 8.0))
