import math

import pytest
import torch

from engine.objectives.advantage import (
    Tracker,
    discount,
    generalised_advantages,
    group_advantages,
    whitened,
    without_signal,
)

# Groups


@pytest.mark.parametrize(
    ("std", "divisor"),
    [
        ("none", 1.0),
        # Rewards 0, 0, 0, 4: mean 1, squared distances 1 + 1 + 1 + 9 = 12
        ("population", math.sqrt(12 / 4)),
        ("sample", math.sqrt(12 / 3) + 1e-4),
    ],
)
def test_group_by_hand(std: str, divisor: float) -> None:
    rewards = torch.tensor([[0.0, 0.0, 0.0, 4.0], [1.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
    found = group_advantages(rewards, std, floor=1e-4)
    assert found[0].tolist() == pytest.approx([-1 / divisor, -1 / divisor, -1 / divisor, 3 / divisor])
    assert found[1].tolist() == [0.0] * 4


def test_advantages_of_a_group_sum_to_nothing() -> None:
    rewards = torch.rand(5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for std in ("population", "sample", "none"):
        assert group_advantages(rewards, std, floor=1e-4).sum(dim=1).abs().max() < 1e-12


@pytest.mark.parametrize(("std", "divisor"), [("population", 0.1), ("sample", 0.1), ("none", 1.0)])
def test_floor_keeps_a_small_difference_small(std: str, divisor: float) -> None:
    """Rewards 0 and 0.002: a deviation of 0.001, or √2 · 0.001 + 0.0001, both under a floor of 0.1."""
    found = group_advantages(torch.tensor([[0.0, 0.002]], dtype=torch.float64), std, floor=0.1)
    assert found[0].tolist() == pytest.approx([-0.001 / divisor, 0.001 / divisor])


@pytest.mark.parametrize("std", ["population", "sample", "none"])
def test_rounding_is_no_signal(std: str) -> None:
    """Trap 12: 0.1 + 0.2 is not 0.3 in floating point; divided by its deviation that would be an advantage of 1."""
    assert 0.1 + 0.2 != 0.3
    rewards = torch.tensor([[0.1 + 0.2, 0.3, 0.3], [7.0, 7.0, 7.0], [-1e8, -1e8, -1e8]], dtype=torch.float64)
    assert without_signal(rewards).tolist() == [True, True, True]
    assert group_advantages(rewards, std, floor=0.0).tolist() == [[0.0] * 3] * 3


def test_what_has_a_signal() -> None:
    rewards = torch.tensor([[0.0, 1.0], [0.0, 1e-3], [1000.0, 1000.01], [0.0, 0.0]], dtype=torch.float64)
    assert without_signal(rewards).tolist() == [False, False, False, True]


# Tokens


def test_generalised_advantages_by_hand() -> None:
    """γ = ½, λ = ½, rewards 0, 0, 8, values 2, 4, 6, and the answer ended.

    δ = 0 + ½·4 − 2 = 0; 0 + ½·6 − 4 = −1; 8 + 0 − 6 = 2. A₂ = 2; A₁ = −1 + ¼·2 = −½; A₀ = 0 − ¼·½ = −⅛.
    """
    found = generalised_advantages([0, 0, 8], [2, 4, 6], gamma=0.5, lam=0.5, beyond=0.0)
    assert found == pytest.approx([-0.125, -0.5, 2.0])


def test_truncated_is_not_terminated() -> None:
    """δ is 0, −1 and, where the answer ended, 0 − 6 = −6; cut off before a state worth 12, ½·12 − 6 = 0."""
    ended = generalised_advantages([0, 0, 0], [2, 4, 6], gamma=0.5, lam=0.5, beyond=0.0)
    cut_off = generalised_advantages([0, 0, 0], [2, 4, 6], gamma=0.5, lam=0.5, beyond=12.0)
    # A₂ = −6; A₁ = −1 − ¼·6 = −5/2; A₀ = 0 − ¼·5/2 = −5/8
    assert ended == pytest.approx([-0.625, -2.5, -6.0])
    # A₂ = 0; A₁ = −1; A₀ = −¼
    assert cut_off == pytest.approx([-0.25, -1.0, 0.0])


@pytest.mark.parametrize("beyond", [0.0, 3.0])
@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_lambda_one_is_monte_carlo(gamma: float, beyond: float) -> None:
    """Discounted returns less values."""
    rewards, values = [0.5, -1.0, 0.0, 2.0], [0.3, 0.1, -0.7, 1.5]
    expected = []
    for start, value in enumerate(values):
        later = [*rewards[start:], beyond]
        expected.append(sum(gamma**delay * reward for delay, reward in enumerate(later)) - value)
    assert generalised_advantages(rewards, values, gamma=gamma, lam=1.0, beyond=beyond) == pytest.approx(expected)


def test_lambda_zero_is_one_step_td() -> None:
    rewards, values = [0.5, -1.0, 0.0, 2.0], [0.3, 0.1, -0.7, 1.5]
    found = generalised_advantages(rewards, values, gamma=0.9, lam=0.0, beyond=3.0)
    following = [*values[1:], 3.0]
    assert found == pytest.approx([r + 0.9 * n - v for r, n, v in zip(rewards, following, values, strict=True)])


def test_gamma_zero_looks_at_the_next_reward_only() -> None:
    found = generalised_advantages([0.5, -1.0], [0.3, 0.1], gamma=0.0, lam=0.95, beyond=3.0)
    assert found == pytest.approx([0.5 - 0.3, -1.0 - 0.1])


def test_no_tokens_have_no_advantages() -> None:
    assert generalised_advantages([], [], gamma=1.0, lam=0.95, beyond=1.0) == []


# Whitening


def test_whitened_by_hand() -> None:
    """1, 2, 3, 6: mean 3, squared distances 4 + 1 + 0 + 9 = 14."""
    found = whitened(torch.tensor([1.0, 2.0, 3.0, 6.0]), count=4, total=12, squares=1 + 4 + 9 + 36)
    deviation = math.sqrt(14 / 4)
    assert found.tolist() == pytest.approx([-2 / deviation, -1 / deviation, 0.0, 3 / deviation])


def test_whitened_in_parts_is_whitened_whole() -> None:
    """Parts (processes, micro-batches) share count, total and squares."""
    values = torch.randn(20, generator=torch.Generator().manual_seed(4), dtype=torch.float64) * 3 + 5
    sums = {"count": 20.0, "total": values.sum().item(), "squares": (values**2).sum().item()}
    parts = torch.cat([whitened(values[:7], **sums), whitened(values[7:], **sums)])
    torch.testing.assert_close(parts, whitened(values, **sums))
    assert parts.mean().item() == pytest.approx(0.0, abs=1e-9)
    assert parts.std(correction=0).item() == pytest.approx(1.0)


@pytest.mark.parametrize("value", [0.0, 0.3, 5.0, -123.456])
def test_whitened_equal_values_are_zero(value: float) -> None:
    values = torch.full((7,), value)
    wide = values.double()
    sums = {"count": 7.0, "total": wide.sum().item(), "squares": (wide**2).sum().item()}
    assert whitened(values, **sums).abs().max() < 1e-6


def test_whitened_nothing() -> None:
    assert whitened(torch.zeros(0), count=0, total=0, squares=0).shape == (0,)


# Trackers


def test_tracker_begins_with_the_mean_of_the_first_rewards() -> None:
    """ρ_min = ¾ weighs 1/(1 − ¾) = 4 answers; ¾ of them right: α = 3, β = 1."""
    tracker = Tracker.begun([1.0, 1.0, 0.0, 1.0], least_rho=0.75)
    assert (tracker.alpha, tracker.beta) == pytest.approx((3.0, 1.0))
    assert tracker.value == pytest.approx(0.75)
    assert tracker.deviation == pytest.approx(math.sqrt(3) / 4)


def test_tracker_sees_by_hand() -> None:
    """α = 3, β = 1, ρ = ½: a reward of 1 makes 2.5 and 0.5, then one of ¼ makes 1.5 and 1."""
    tracker = Tracker(3.0, 1.0)
    tracker.see(1.0, rho=0.5)
    assert (tracker.alpha, tracker.beta, tracker.value) == pytest.approx((2.5, 0.5, 2.5 / 3))
    tracker.see(0.25, rho=0.5)
    assert (tracker.alpha, tracker.beta, tracker.value) == pytest.approx((1.5, 1.0, 0.6))


def test_tracker_moves_as_a_mean_with_an_adaptive_rate() -> None:
    """v + (r − v)/(ρ·N + 1), N being the weight of what was seen (the paper's second form of the update)."""
    tracker = Tracker(1.2, 2.3)
    for reward, rho in [(1.0, 0.9), (0.0, 0.6), (0.4, 0.875)]:
        expected = tracker.value + (reward - tracker.value) / (rho * (tracker.alpha + tracker.beta) + 1)
        tracker.see(reward, rho)
        assert tracker.value == pytest.approx(expected)


def test_tracker_keeps_the_weight_that_it_begins_with() -> None:
    """At ρ = ρ_min: 4·¾ + 1 = 4."""
    tracker = Tracker.begun([0.0, 1.0], least_rho=0.75)
    for reward in (1.0, 0.0, 1.0):
        tracker.see(reward, rho=0.75)
        assert tracker.alpha + tracker.beta == pytest.approx(4.0)


@pytest.mark.parametrize("reward", [0.0, 1.0])
def test_decided_tracker_has_no_deviation(reward: float) -> None:
    tracker = Tracker.begun([reward] * 3, least_rho=0.875)
    tracker.see(reward, rho=0.9)
    assert tracker.value == reward and tracker.deviation == 0.0


def test_discount_halves_with_every_half_life() -> None:
    assert discount(0.0, half=0.06, least=0.1, most=1.0) == 1.0
    assert discount(0.06, half=0.06, least=0.1, most=1.0) == pytest.approx(0.5)
    assert discount(0.18, half=0.06, least=0.1, most=1.0) == pytest.approx(0.125)


def test_discount_is_clipped_on_both_sides() -> None:
    assert discount(0.0, half=0.06, least=0.875, most=0.96) == 0.96
    assert discount(10.0, half=0.06, least=0.875, most=0.96) == 0.875
    assert discount(0.006, half=0.06, least=0.875, most=0.96) == pytest.approx(2**-0.1)
    assert discount(math.inf, half=0.06, least=0.875, most=0.96) == 0.875
