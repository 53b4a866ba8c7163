import pytest
import torch

from engine.errors import CheckpointError
from engine.settings.training import TrainingSettings
from engine.training.optimizer import load_optimizer_tensors, make_optimizer, optimizer_tensors
from tests.model.helpers import tiny


def test_norms_biases_and_embeddings_do_not_decay() -> None:
    model = tiny(qk_norm=False, attention_bias="qkv", tie_word_embeddings=False)
    names = {parameter: name for name, parameter in model.named_parameters()}
    optimizer = make_optimizer(model.named_parameters(), TrainingSettings(weight_decay=0.3))
    groups = {group["weight_decay"]: {names[each] for each in group["params"]} for group in optimizer.param_groups}
    assert set().union(*groups.values()) == set(names.values())
    assert all("norm" in name or "bias" in name or "embed_tokens" in name for name in groups[0.0])
    assert "lm_head.weight" in groups[0.3] and "model.layers.0.mlp.up_proj.weight" in groups[0.3]
    assert not any("norm" in name or "bias" in name or "embed_tokens" in name for name in groups[0.3])


def test_one_step_by_hand() -> None:
    """The first step of Adam moves by the learning rate, whatever the gradient; decay comes before it."""
    weight, norm = torch.nn.Parameter(torch.full((1, 1), 2.0)), torch.nn.Parameter(torch.full((1,), 2.0))
    settings = TrainingSettings(learning_rate=0.1, weight_decay=0.5, adam_eps=1e-12)
    optimizer = make_optimizer([("w", weight), ("norm", norm)], settings)
    weight.grad, norm.grad = torch.full((1, 1), 7.0), torch.full((1,), -0.01)
    optimizer.step()
    assert weight.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5) - 0.1)
    assert norm.item() == pytest.approx(2.1)


def test_frozen_parameters_are_left_out() -> None:
    model = tiny()
    model.model.embed_tokens.weight.requires_grad_(False)
    optimizer = make_optimizer(model.named_parameters(), TrainingSettings())
    assert not any(
        model.model.embed_tokens.weight is each for group in optimizer.param_groups for each in group["params"]
    )


def test_state_goes_and_comes_back_by_name() -> None:
    one, other = tiny(), tiny()
    optimizers = [make_optimizer(model.named_parameters(), TrainingSettings()) for model in (one, other)]
    assert optimizer_tensors(optimizers[0], one.named_parameters()) == {}
    for parameter in one.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizers[0].step()
    saved = optimizer_tensors(optimizers[0], one.named_parameters())
    load_optimizer_tensors(optimizers[1], other.named_parameters(), saved)
    loaded = optimizer_tensors(optimizers[1], other.named_parameters())
    assert len(saved) == 3 * len(list(one.parameters()))
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)
    with pytest.raises(CheckpointError, match="unknown parameters"):
        load_optimizer_tensors(optimizers[1], other.named_parameters(), {**saved, "strange.exp_avg": torch.ones(1)})
