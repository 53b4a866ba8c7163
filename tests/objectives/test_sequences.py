import pytest
import torch

from engine.objectives.sequences import lengths, means, sums

VALUES = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
SEQUENCE = torch.tensor([0, 0, 1, 3, 3])
"""Two tokens, one, none, two."""


def test_by_hand() -> None:
    assert sums(VALUES, SEQUENCE, 4).tolist() == [3.0, 4.0, 0.0, 24.0]
    assert lengths(SEQUENCE, 4).tolist() == [2.0, 1.0, 0.0, 2.0]
    assert means(VALUES, SEQUENCE, 4).tolist() == [1.5, 4.0, 0.0, 12.0]


def test_order_of_tokens_does_not_matter() -> None:
    order = torch.tensor([3, 0, 2, 4, 1])
    assert means(VALUES[order], SEQUENCE[order], 4).tolist() == [1.5, 4.0, 0.0, 12.0]


def test_gradient_of_a_mean_is_shared_by_its_tokens() -> None:
    values = VALUES.clone().requires_grad_()
    (means(values, SEQUENCE, 4) * torch.tensor([1.0, 10.0, 100.0, 1000.0])).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == pytest.approx([0.5, 0.5, 10.0, 500.0, 500.0])


def test_no_tokens_give_zeros_with_a_live_graph() -> None:
    values = torch.zeros(0, requires_grad=True)
    found = means(values, torch.zeros(0, dtype=torch.long), 2)
    found.sum().backward()
    assert found.tolist() == [0.0, 0.0]
    assert values.grad is not None and values.grad.shape == (0,)


def test_precision_of_the_values_is_kept() -> None:
    assert means(VALUES.double(), SEQUENCE, 4).dtype == torch.float64
