import math
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.objectives.log_probs import linear_log_probs


def _case(tokens: int = 13, width: int = 8, vocabulary: int = 17) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    hidden, head = torch.randn(tokens, width, generator=generator), torch.randn(vocabulary, width, generator=generator)
    return hidden, head, torch.randint(0, vocabulary, (tokens,), generator=generator)


def _reference(hidden: Tensor, head: Tensor, targets: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """The same from full logits in float64."""
    table = (hidden.double() @ head.double().T / temperature).log_softmax(dim=-1)
    return table.gather(1, targets[:, None])[:, 0], -(table.exp() * table).sum(dim=-1)


def _gradients(function: Any, case: tuple[Tensor, Tensor, Tensor], slopes: Tensor, **more: Any) -> list[Tensor | None]:
    hidden, head = (each.detach().clone().requires_grad_() for each in case[:2])
    (function(hidden, head, case[2], **more)[0] * slopes).sum().backward()
    return [hidden.grad, head.grad]


def test_by_hand() -> None:
    """Logits 0 and ln 3 give probabilities 1/4 and 3/4."""
    hidden = torch.tensor([[1.0], [1.0]], requires_grad=True)
    head = torch.tensor([[0.0], [math.log(3)]], requires_grad=True)
    log_probs, entropies = linear_log_probs(hidden, head, torch.tensor([1, 0]))
    assert log_probs.tolist() == pytest.approx([math.log(3 / 4), math.log(1 / 4)])
    # 1/4·ln 4 + 3/4·ln(4/3)
    assert entropies.tolist() == pytest.approx([0.25 * math.log(4) + 0.75 * math.log(4 / 3)] * 2)
    (log_probs * torch.tensor([1.0, 10.0])).sum().backward()
    # d/dlogits: one-hot − p = (−1/4, 1/4) for the first token, 10 · (3/4, −3/4) for the second
    assert head.grad is not None and hidden.grad is not None
    assert head.grad[:, 0].tolist() == pytest.approx([-0.25 + 7.5, 0.25 - 7.5])
    assert hidden.grad[:, 0].tolist() == pytest.approx([0.25 * math.log(3), -7.5 * math.log(3)])


def test_temperature_by_hand() -> None:
    """Logits 0 and ln 9 at temperature 2 are 0 and ln 3; slopes on the logits are halved."""
    hidden, head = torch.tensor([[1.0]]), torch.tensor([[0.0], [math.log(9)]], requires_grad=True)
    log_probs, entropies = linear_log_probs(hidden, head, torch.tensor([1]), temperature=2.0)
    assert log_probs.item() == pytest.approx(math.log(3 / 4))
    assert entropies.item() == pytest.approx(0.25 * math.log(4) + 0.75 * math.log(4 / 3))
    log_probs.sum().backward()
    assert head.grad is not None
    assert head.grad[:, 0].tolist() == pytest.approx([-0.125, 0.125])


@pytest.mark.parametrize("temperature", [1.0, 0.7, 3.0])
@pytest.mark.parametrize("chunk", [1, 4, 13, 1000])
def test_equals_full_logits(chunk: int, temperature: float) -> None:
    case = _case()
    found, expected = linear_log_probs(*case, chunk=chunk, temperature=temperature), _reference(*case, temperature)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)
    slopes = torch.randn(13, generator=torch.Generator().manual_seed(1))
    ours = _gradients(linear_log_probs, case, slopes, chunk=chunk, temperature=temperature)
    theirs = _gradients(_reference, case, slopes, temperature=temperature)
    for mine, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-5)


def test_products_in_float64_leave_only_the_softmax_in_float32() -> None:
    case = _case()
    wide = (case[0].double(), case[1].double(), case[2])
    slopes = torch.ones(13)
    for mine, wanted in zip(
        _gradients(linear_log_probs, wide, slopes, chunk=5), _gradients(_reference, wide, slopes), strict=True
    ):
        assert mine is not None and mine.dtype == torch.float64
        torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("frozen", [0, 1])
def test_one_side_frozen(frozen: int) -> None:
    case = _case()
    case[1 - frozen].requires_grad_()
    linear_log_probs(*case, chunk=4)[0].sum().backward()
    assert case[frozen].grad is None
    wanted = _gradients(_reference, _case(), torch.ones(13))[1 - frozen]
    torch.testing.assert_close(case[1 - frozen].grad, wanted, rtol=1e-4, atol=1e-5)


def test_both_sides_frozen_has_no_graph() -> None:
    log_probs, entropies = linear_log_probs(*_case())
    assert not log_probs.requires_grad and not entropies.requires_grad


def test_entropies_have_no_gradient_and_known_extremes() -> None:
    hidden = torch.tensor([[0.0], [1.0]], requires_grad=True)
    head = torch.tensor([[200.0], [0.0], [0.0], [0.0]])
    _, entropies = linear_log_probs(hidden, head, torch.tensor([0, 0]))
    assert not entropies.requires_grad
    assert entropies.tolist() == pytest.approx([math.log(4), 0.0], abs=1e-4)


def test_tied_head_gathers_both_gradients() -> None:
    def gradient(function: Any) -> Tensor:
        _, table, targets = _case()
        table.requires_grad_()
        function(table[torch.arange(13)] * 0.5, table, targets)[0].sum().backward()
        assert table.grad is not None
        return table.grad

    torch.testing.assert_close(gradient(linear_log_probs), gradient(_reference), rtol=1e-4, atol=1e-5)


def test_large_logits_stay_finite() -> None:
    hidden, head = torch.tensor([[1.0]], requires_grad=True), torch.tensor([[1e4], [0.0]])
    log_probs, entropies = linear_log_probs(hidden, head, torch.tensor([1]))
    log_probs.sum().backward()
    assert log_probs.item() == -1e4 and entropies.item() == 0
    assert hidden.grad is not None and hidden.grad.item() == -1e4


def test_bfloat16_products_keep_softmax_and_gradients_in_float32() -> None:
    hidden, head, targets = _case(tokens=64, width=32, vocabulary=101)
    case = ((hidden * 0.3).requires_grad_(), (head * 0.3).requires_grad_(), targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        log_probs, entropies = linear_log_probs(*case, chunk=10, dtype=torch.bfloat16, temperature=0.8)
    log_probs.sum().backward()
    expected = _reference(*case, 0.8)
    assert log_probs.dtype == entropies.dtype == torch.float32
    assert (log_probs - expected[0]).abs().mean() < 5e-3
    assert (entropies - expected[1]).abs().mean() < 5e-3
    for ours, theirs in zip(
        (case[0].grad, case[1].grad), _gradients(_reference, case, torch.ones(64), temperature=0.8), strict=True
    ):
        assert ours is not None and theirs is not None and ours.dtype == torch.float32 and ours.isfinite().all()
        assert torch.linalg.vector_norm(ours - theirs) / torch.linalg.vector_norm(theirs) < 0.01


def test_no_tokens_give_nothing_with_a_live_graph() -> None:
    hidden, head = torch.randn(0, 8, requires_grad=True), torch.randn(5, 8, requires_grad=True)
    log_probs, entropies = linear_log_probs(hidden, head, torch.zeros(0, dtype=torch.long))
    log_probs.sum().backward()
    assert log_probs.shape == entropies.shape == (0,)
    assert hidden.grad is not None and hidden.grad.shape == (0, 8)
    assert head.grad is not None and not head.grad.any()
