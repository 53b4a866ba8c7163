"""Mixture of experts: routing and the balance loss by hand, gradients, precision, decoding."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.model.attention import DocumentAttention
from engine.model.cache import KVCache
from engine.model.config import ModelConfig
from engine.model.feed_forward import FeedForward
from engine.model.moe import MixtureOfExperts, Router, load_balancing, router_figures
from engine.model.transformer import Transformer
from tests.model.helpers import MIXTURES, SHAPE, SHARED, TOP_1, TOP_2, flat, hidden_of, tiny


def _mixture(**changes: Any) -> MixtureOfExperts:
    torch.manual_seed(1)
    mixture = MixtureOfExperts(ModelConfig(**{**SHAPE, **TOP_2, **changes}))
    for parameter in mixture.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return mixture


def _language_loss(model: Transformer, lengths: list[int], routers: list[Tensor] | None = None) -> Tensor:
    tokens, positions, boundaries = flat(lengths)
    hidden = model(tokens, positions, DocumentAttention(boundaries), routers)
    return torch.nn.functional.cross_entropy(model.logits(hidden), tokens.roll(-1))


@pytest.mark.parametrize("renormalised", [True, False])
def test_each_token_is_the_weighted_sum_of_its_experts(renormalised: bool) -> None:
    mixture, x = _mixture(norm_topk_prob=renormalised, num_shared_experts=1), torch.randn(40, 32)
    mixed, probabilities = mixture(x)
    torch.testing.assert_close(probabilities, (x @ mixture.gate.weight.T).softmax(-1))
    for token in range(40):
        best = sorted(range(4), key=lambda expert: -probabilities[token, expert].item())[:2]
        share = sum(probabilities[token, expert].item() for expert in best) if renormalised else 1.0
        expected = mixture.shared_experts(x[token])
        for expert in best:
            expected = expected + mixture.experts[expert](x[token]) * (probabilities[token, expert] / share)
        torch.testing.assert_close(mixed[token], expected)


def test_several_shared_experts_are_one_of_their_summed_width() -> None:
    mixture = _mixture(num_shared_experts=2)
    assert isinstance(mixture.shared_experts, FeedForward)
    assert mixture.shared_experts.up_proj.weight.shape == (48, 32)


def test_names_are_hugging_face_s() -> None:
    names = {name for name in tiny(num_hidden_layers=1, **SHARED).state_dict() if ".mlp." in name}
    parts = [*(f"experts.{expert}" for expert in range(4)), "shared_experts"]
    mlps = {f"model.layers.0.mlp.{part}.{name}_proj.weight" for part in parts for name in ("gate", "up", "down")}
    assert names == mlps | {"model.layers.0.mlp.gate.weight"}


def test_the_router_is_initialised_as_all_weights_are() -> None:
    torch.manual_seed(0)
    model = Transformer(ModelConfig(**{**SHAPE, **TOP_2, "hidden_size": 256, "initializer_range": 0.02}))
    routers = torch.cat([module.weight.flatten() for module in model.modules() if isinstance(module, Router)])
    assert routers.std().item() == pytest.approx(0.02, rel=0.1)


def test_the_router_stays_in_fp32_under_autocast() -> None:
    mixture, x = _mixture(), torch.randn(200, 32)
    exact = mixture(x)[1]
    with torch.autocast("cpu", torch.bfloat16):
        mixed, probabilities = mixture(x)
    assert torch.equal(probabilities, exact) and mixed.dtype == torch.float32
    half = mixture.bfloat16()
    assert half(x.bfloat16())[0].dtype == torch.bfloat16 and half(x.bfloat16())[1].dtype == torch.float32


def test_an_expert_without_tokens_has_a_gradient_of_zero() -> None:
    mixture, x = _mixture(), torch.randn(30, 32)
    x[:, 0] = 1.0
    with torch.no_grad():
        mixture.gate.weight[3, 0] = -100.0
    mixture(x)[0].sum().backward()
    for name, parameter in mixture.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.any()) != name.startswith("experts.3."), name


@pytest.mark.parametrize("renormalised", [False, True])
def test_a_single_expert_s_probability_teaches_the_router(renormalised: bool) -> None:
    """Divided by itself the probability is the constant 1: the language model would not reach the router."""
    model = tiny(**TOP_1 | {"norm_topk_prob": renormalised})
    _language_loss(model, [9, 20]).backward()
    for block in model.model.layers:
        assert (block.mlp.gate.weight.grad.norm() > 1e-4) != renormalised


@pytest.mark.parametrize("changes", MIXTURES)
def test_gradient_checkpointing_changes_nothing(changes: dict[str, Any]) -> None:
    model, found = tiny(dropout=0.2, **changes), []
    for recomputed in (False, True):
        model.gradient_checkpointing = recomputed
        routers: list[Tensor] = []
        torch.manual_seed(7)
        loss = _language_loss(model, [9, 20, 20], routers)
        boundaries = torch.tensor([0, 9, 29, 49])
        balance = load_balancing(routers, boundaries, changes["num_experts_per_tok"])
        (loss + 0.1 * balance).backward()
        found.append([balance.detach(), *(parameter.grad for parameter in model.parameters())])
        model.zero_grad(set_to_none=True)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert len(routers) == 3


def test_a_dense_model_has_no_routers() -> None:
    routers: list[Tensor] = []
    _language_loss(tiny(), [9], routers)
    assert routers == []


@pytest.mark.parametrize("changes", MIXTURES)
def test_documents_are_isolated(changes: dict[str, Any]) -> None:
    model = tiny(**changes).eval()
    tokens, positions, boundaries = flat([9, 20, 4])
    with torch.no_grad():
        together = model(tokens, positions, DocumentAttention(boundaries))
    for first, last in pairwise(boundaries):
        torch.testing.assert_close(together[first:last], hidden_of(model, tokens[first:last]), rtol=0, atol=2e-5)


@pytest.mark.parametrize("changes", MIXTURES)
def test_decoding_step_by_step_equals_the_full_forward(changes: dict[str, Any]) -> None:
    model = tiny(**changes).eval()
    texts = [torch.arange(n) * 7 % 97 for n in (11, 4, 18)]
    cache = KVCache(model.config, 3, 18)
    steps = []
    for first, last in ((0, -3), (-3, -2), (-2, -1), (-1, None)):
        parts = [text[first:last] for text in texts]
        counts = [len(part) for part in parts]
        with torch.no_grad():
            hidden = model(torch.cat(parts), cache.positions(counts), cache.attention(counts))
        steps.append(hidden.split(counts))
    for row, text in enumerate(texts):
        got = torch.cat([step[row] for step in steps])
        torch.testing.assert_close(got, hidden_of(model, text), rtol=0, atol=2e-5)


def test_load_balancing_by_hand() -> None:
    # Two documents, of two tokens and of one; two layers, two experts, one a token.
    first = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    second = torch.tensor([[0.7, 0.3], [0.4, 0.6], [0.5, 0.5 - 1e-7]])
    # First layer: the first document sends both tokens to expert 0: f = (1, 0), P = (0.75, 0.25): 2 · 2 · 0.75 = 3.
    # The second: f = (0, 1), P = (0.2, 0.8): 1 · 2 · 0.8 = 1.6.
    # Second layer: f = (½, ½), P = (0.55, 0.45): 2 · 2 · ½ = 2. And f = (1, 0), P = (½, ½): 1 · 2 · ½ = 1.
    loss = load_balancing([first, second], torch.tensor([0, 2, 3]), 1)
    assert loss.item() == pytest.approx((3 + 1.6 + 2 + 1) / 2)


def test_balance_is_one_a_token_and_does_not_grow_with_k() -> None:
    even = torch.full((12, 4), 0.25)
    for top_k in (1, 2, 4):
        assert load_balancing([even], torch.tensor([0, 5, 12]), top_k).item() == pytest.approx(12)
    collapsed = torch.tensor([0.49, 0.49, 0.01, 0.01]).expand(12, 4)
    # f = (½, ½, 0, 0): 4 · ½ · 0.98.
    assert load_balancing([collapsed], torch.tensor([0, 12]), 2).item() == pytest.approx(12 * 1.96)


def test_load_balancing_does_not_depend_on_the_micro_batches() -> None:
    torch.manual_seed(2)
    routers = [torch.randn(40, 4).softmax(-1).requires_grad_() for _ in range(3)]
    boundaries = [0, 7, 9, 30, 40]
    whole = load_balancing(routers, torch.tensor(boundaries), 2)
    whole.backward()
    whole_gradients = [router.grad for router in routers]
    for router in routers:
        router.grad = None
    parts = torch.zeros(())
    for documents in ([0, 1], [2], [3]):
        first, last = boundaries[documents[0]], boundaries[documents[-1] + 1]
        cu_seqlens = torch.tensor(boundaries[documents[0] : documents[-1] + 2]) - first
        parts = parts + load_balancing([router[first:last] for router in routers], cu_seqlens, 2)
    parts.backward()
    torch.testing.assert_close(parts, whole)
    for router, expected in zip(routers, whole_gradients, strict=True):
        torch.testing.assert_close(router.grad, expected)
    # As one document it is another number: the documents do matter.
    assert abs(load_balancing(routers, torch.tensor([0, 40]), 2).item() - whole.item()) > 0.1


def test_balance_s_gradient_flows_through_the_probabilities_only() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]], requires_grad=True)
    load_balancing([probabilities], torch.tensor([0, 3, 4]), 1).backward()
    # Of Σ E · f · p the derivative to p is E · f of the token's document.
    expected = torch.tensor([[4 / 3, 2 / 3]] * 3 + [[0.0, 2.0]])
    torch.testing.assert_close(probabilities.grad, expected)


def test_the_balance_loss_spreads_tokens() -> None:
    torch.manual_seed(3)
    x, weight = torch.randn(64, 16) + 1.0, torch.randn(4, 16, requires_grad=True)
    boundaries = torch.tensor([0, 20, 64])
    optimizer = torch.optim.SGD([weight], lr=0.02)
    before = router_figures([(x @ weight.T).softmax(-1)], 1)[0]
    for _ in range(100):
        load_balancing([(x @ weight.T).softmax(-1)], boundaries, 1).backward()
        optimizer.step()
        optimizer.zero_grad()
    after = router_figures([(x @ weight.T).softmax(-1)], 1)[0]
    assert before.max() > 35 and after.max() < 24, (before, after)


def test_router_figures_by_hand() -> None:
    first = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], requires_grad=True)
    second = torch.tensor([[1.0, 0.0, 0.0], [1 / 3, 1 / 3 + 1e-6, 1 / 3]], requires_grad=True)
    loads, entropy = router_figures([first, second], 1)
    assert loads.tolist() == [[1, 0, 1], [1, 1, 0]] and not entropy.requires_grad
    by_hand = [1.5 * math.log(2) - 0.2 * math.log(0.1) - 0.8 * math.log(0.8), math.log(3)]
    assert entropy.tolist() == pytest.approx(by_hand)
    assert router_figures([first, second], 3)[0].tolist() == [[2, 2, 2], [2, 2, 2]]
