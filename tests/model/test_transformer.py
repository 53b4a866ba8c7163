"""The blocks: formulas by hand, gradients, precision, abstract tensors."""

import math

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.model.attention import DocumentAttention
from engine.model.config import ModelConfig, YaRN
from engine.model.transformer import RMSNorm, Transformer, rotary, rotate
from tests.model.helpers import SHAPE, flat, tiny


def test_rms_norm_by_hand() -> None:
    norm = RMSNorm(2, eps=0.5)
    norm.weight.data = torch.tensor([2.0, -1.0])
    # Mean square of (1, 3) is 5; with eps 5.5.
    expected = torch.tensor([2.0 / math.sqrt(5.5), -3.0 / math.sqrt(5.5)])
    torch.testing.assert_close(norm(torch.tensor([1.0, 3.0])), expected)


def test_rms_norm_computes_in_fp32() -> None:
    norm, x = RMSNorm(64, 1e-6), torch.randn(5, 64).bfloat16() * 300
    assert norm(x).dtype == torch.bfloat16
    assert torch.equal(norm(x), norm(x.float()).bfloat16())


def test_rotation_by_hand() -> None:
    config = ModelConfig(**{**SHAPE, "head_dim": 4, "rope_theta": 100.0})
    cos, sin = rotary(config, torch.tensor([0, 3]))
    # Frequencies 1 and 100^(-1/2) = 0.1; feature i turns with feature i + 2.
    turned = rotate(torch.tensor([1.0, 0.0, 0.0, 1.0]).expand(2, 1, 4), cos, sin)
    expected = torch.tensor([[1.0, 0.0, 0.0, 1.0], [math.cos(3), -math.sin(0.3), math.sin(3), math.cos(0.3)]])
    torch.testing.assert_close(turned[:, 0], expected)


def test_yarn_keeps_fast_and_divides_slow_frequencies() -> None:
    scaling = YaRN(16.0, 2048, attention_factor=1.0)
    config = ModelConfig(6400, 768, 1, 8, 4, 96, 64, rope_scaling=scaling)
    position = torch.tensor([1])
    plain = rotary(ModelConfig(6400, 768, 1, 8, 4, 96, 64), position)[1].asin().flatten()
    scaled = rotary(config, position)[1].asin().flatten()
    # The ramp of MiniMind's own shape runs from feature pair 8 to 21.
    torch.testing.assert_close(scaled[1:9], plain[1:9])
    torch.testing.assert_close(scaled[21:], plain[21:] / 16)
    assert (scaled[9:21] < plain[9:21]).all() and (scaled[9:21] > plain[9:21] / 16).all()
    assert YaRN(16.0, 2048).scale == pytest.approx(1.2772589)


def _gradients(model: Transformer, lengths: list[int]) -> list[Tensor]:
    tokens, positions, boundaries = flat(lengths)
    torch.manual_seed(7)
    hidden = model(tokens, positions, DocumentAttention(boundaries))
    torch.nn.functional.cross_entropy(model.logits(hidden), tokens.roll(-1)).backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad(set_to_none=True)
    assert len(gradients) == len(list(model.parameters()))
    return gradients


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradient_checkpointing_changes_nothing(dropout: float) -> None:
    model = tiny(dropout=dropout)
    plain = _gradients(model, [9, 20, 20])
    model.gradient_checkpointing = True
    runs: list[int] = []
    model.model.layers[1].register_forward_pre_hook(lambda *_: runs.append(1))
    for one, other in zip(plain, _gradients(model, [9, 20, 20]), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert len(runs) == 2, "the block runs again in the backward pass"


def test_dropout_only_while_training() -> None:
    model = tiny(dropout=0.5)
    tokens, positions, boundaries = flat([12])
    attention = DocumentAttention(boundaries)
    assert not torch.equal(model(tokens, positions, attention), model(tokens, positions, attention))
    model.eval()
    assert torch.equal(model(tokens, positions, attention), model(tokens, positions, attention))


def test_initial_weights() -> None:
    torch.manual_seed(3)
    model = Transformer(ModelConfig(**{**SHAPE, "hidden_size": 256, "initializer_range": 0.02, "qk_norm": False,
                                       "head_dim": 64, "attention_bias": "qkv"}))  # fmt: skip
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert (parameter == 1).all()
        elif "bias" in name:
            assert (parameter == 0).all()
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.05)


def test_bf16_autocast_is_near_fp32_and_keeps_fp32_gradients() -> None:
    model = tiny()
    tokens, positions, boundaries = flat([20, 20, 31])
    exact = model(tokens, positions, DocumentAttention(boundaries))
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(tokens, positions, DocumentAttention(boundaries))
    assert rough.dtype == torch.float32
    assert ((rough - exact).norm() / exact.norm()).item() < 0.05
    rough.sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters() if parameter.grad is not None)


def test_abstract_tensors_pass() -> None:
    with FakeTensorMode():
        model = Transformer(ModelConfig(**SHAPE))
        tokens = torch.zeros(30, dtype=torch.int64)
        hidden = model(tokens, torch.arange(30), DocumentAttention([0, 10, 18, 30]))
        model.logits(hidden).sum().backward()
    assert hidden.shape == (30, 32)


def test_state_dict_has_hugging_face_names() -> None:
    names = set(tiny(num_hidden_layers=1, tie_word_embeddings=False).state_dict())
    attention = {f"self_attn.{part}.weight" for part in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")}
    mlp = {f"mlp.{part}_proj.weight" for part in ("gate", "up", "down")}
    norms = {"input_layernorm.weight", "post_attention_layernorm.weight"}
    layer = {f"model.layers.0.{name}" for name in attention | mlp | norms}
    assert names == layer | {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
    assert "lm_head.weight" not in tiny().state_dict()
