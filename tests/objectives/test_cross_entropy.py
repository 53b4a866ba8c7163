import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from engine.objectives.cross_entropy import linear_cross_entropy, token_losses


def _case(tokens: int = 13, width: int = 8, vocabulary: int = 17) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "hidden": torch.randn(tokens, width, generator=generator),
        "head": torch.randn(vocabulary, width, generator=generator),
        "targets": torch.randint(0, vocabulary, (tokens,), generator=generator),
        "weights": torch.tensor([0.0, 1.0, 10.0])[torch.randint(0, 3, (tokens,), generator=generator)],
    }


def _reference(hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    return (functional.cross_entropy(hidden @ head.T, targets, reduction="none") * weights).sum()


def test_by_hand() -> None:
    """Logits 0 and ln 3 give probabilities 1/4 and 3/4."""
    hidden = torch.tensor([[1.0], [1.0]], requires_grad=True)
    head = torch.tensor([[0.0], [math.log(3)]], requires_grad=True)
    loss = linear_cross_entropy(hidden, head, torch.tensor([1, 0]), torch.tensor([1.0, 10.0]))
    assert loss.item() == pytest.approx(math.log(4 / 3) + 10 * math.log(4))
    loss.backward()
    # d/dlogits: (1/4, -1/4) for the first token, 10 · (-3/4, 3/4) for the second
    assert head.grad is not None and hidden.grad is not None
    assert head.grad[:, 0].tolist() == pytest.approx([0.25 - 7.5, 7.5 - 0.25])
    assert hidden.grad[:, 0].tolist() == pytest.approx([-0.25 * math.log(3), 7.5 * math.log(3)])
    assert token_losses(hidden, head, torch.tensor([1, 0])).tolist() == pytest.approx([math.log(4 / 3), math.log(4)])


@pytest.mark.parametrize("chunk", [1, 4, 13, 1000])
def test_equals_torch(chunk: int) -> None:
    case = _case()
    ours = {name: each.clone().requires_grad_(name in ("hidden", "head")) for name, each in case.items()}
    theirs = {name: each.clone().requires_grad_(name in ("hidden", "head")) for name, each in case.items()}
    loss, expected = linear_cross_entropy(**ours, chunk=chunk), _reference(**theirs)
    torch.testing.assert_close(loss, expected)
    (loss / 7).backward()
    (expected / 7).backward()
    for name in ("hidden", "head"):
        torch.testing.assert_close(ours[name].grad, theirs[name].grad)
    plain = token_losses(case["hidden"], case["head"], case["targets"], chunk=chunk)
    torch.testing.assert_close(
        plain, functional.cross_entropy(case["hidden"] @ case["head"].T, case["targets"], reduction="none")
    )


@pytest.mark.parametrize("frozen", ["hidden", "head"])
def test_one_side_frozen(frozen: str) -> None:
    free = "head" if frozen == "hidden" else "hidden"
    case = _case()
    case[free].requires_grad_()
    linear_cross_entropy(**case).backward()
    again = _case()
    again[free].requires_grad_()
    _reference(**again).backward()
    assert case[frozen].grad is None
    torch.testing.assert_close(case[free].grad, again[free].grad)


def test_tied_head_gathers_both_gradients() -> None:
    def gradient(loss_of: Any) -> Tensor:
        case = _case(vocabulary=17)
        table = case["head"].clone().requires_grad_()
        inputs = torch.arange(13) % 17
        loss_of(table[inputs] * 0.5, table, case["targets"], case["weights"]).backward()
        assert table.grad is not None
        return table.grad

    torch.testing.assert_close(gradient(linear_cross_entropy), gradient(_reference))


def test_bfloat16_autocast_keeps_softmax_and_gradients_in_float32() -> None:
    case = _case(tokens=64, width=32, vocabulary=101)
    for name in ("hidden", "head"):
        case[name] = (case[name] * 0.3).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = linear_cross_entropy(**case, dtype=torch.bfloat16)
    loss.backward()
    again = {name: each.detach().clone().requires_grad_(name in ("hidden", "head")) for name, each in case.items()}
    expected = _reference(**again)
    expected.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=2e-3)
    for name in ("hidden", "head"):
        ours, theirs = case[name].grad, again[name].grad
        assert ours is not None and theirs is not None and ours.dtype == torch.float32
        assert torch.linalg.vector_norm(ours - theirs) / torch.linalg.vector_norm(theirs) < 0.01


def test_nothing_to_train_gives_zero_with_a_live_graph() -> None:
    hidden, head = torch.randn(0, 8, requires_grad=True), torch.randn(5, 8, requires_grad=True)
    loss = linear_cross_entropy(hidden, head, torch.zeros(0, dtype=torch.long), torch.zeros(0))
    loss.backward()
    assert loss.item() == 0
    assert head.grad is not None and not head.grad.any()
