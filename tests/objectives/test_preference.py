import math

import pytest
import torch

from engine.objectives.preference import bradley_terry, calibration_error, dpo, takes_mean

LN2, LN3 = math.log(2), math.log(3)


@pytest.mark.parametrize("loss_type", ["sigmoid", "sigmoid_norm"])
def test_dpo_is_ln_2_where_policy_and_reference_are_one(loss_type: str) -> None:
    chosen = torch.zeros(2, requires_grad=True)
    found = dpo(chosen, torch.zeros(2), beta=0.1, loss_type=loss_type)
    assert found.losses.tolist() == pytest.approx([LN2, LN2], abs=1e-7)
    found.losses.sum().backward()
    # −β·σ(0)
    assert chosen.grad is not None and chosen.grad.tolist() == pytest.approx([-0.05, -0.05])


def test_dpo_by_hand() -> None:
    """β = 0.5 and h = 2·ln 3: −log σ(ln 3) = ln(4/3), and the slope on h is −β·σ(−ln 3) = −1/8."""
    chosen, rejected = (torch.tensor([value], requires_grad=True) for value in (LN3, -LN3))
    found = dpo(chosen, rejected, beta=0.5, loss_type="sigmoid")
    assert found.losses.item() == pytest.approx(math.log(4 / 3))
    assert found.chosen_rewards.item() == pytest.approx(0.5 * LN3)
    assert found.rejected_rewards.item() == pytest.approx(-0.5 * LN3)
    assert not found.chosen_rewards.requires_grad and not found.rejected_rewards.requires_grad
    found.losses.sum().backward()
    assert chosen.grad is not None and rejected.grad is not None
    assert (chosen.grad.item(), rejected.grad.item()) == pytest.approx((-0.125, 0.125))


def test_dpo_of_a_pair_that_is_all_wrong_stays_finite() -> None:
    """−log σ(−x) is x for a large x."""
    found = dpo(torch.tensor([-5000.0]), torch.tensor([5000.0]), beta=0.1, loss_type="sigmoid")
    assert found.losses.item() == pytest.approx(1000.0)


def test_ipo_by_hand() -> None:
    """β = 0.1 wants a margin of 1/(2·0.1) = 5 nats a token: (2 − 5)² = 9 with slope 2·(2 − 5) = −6."""
    chosen = torch.tensor([1.5, 5.0], requires_grad=True)
    found = dpo(chosen, torch.tensor([-0.5, 0.0]), beta=0.1, loss_type="ipo")
    assert found.losses.tolist() == pytest.approx([9.0, 0.0])
    found.losses.sum().backward()
    assert chosen.grad is not None and chosen.grad.tolist() == pytest.approx([-6.0, 0.0])


def test_which_losses_take_a_mean() -> None:
    assert [takes_mean(name) for name in ("sigmoid", "ipo", "sigmoid_norm")] == [False, True, True]


def test_bradley_terry_by_hand() -> None:
    """σ(ln 3) = 3/4: the chosen side is better with that probability."""
    chosen = torch.tensor([2.0, 2.0 + LN3, 2.0], requires_grad=True)
    losses = bradley_terry(chosen, torch.tensor([2.0, 2.0, 2.0 + LN3]))
    assert losses.tolist() == pytest.approx([LN2, math.log(4 / 3), math.log(4)])
    losses.sum().backward()
    assert chosen.grad is not None and chosen.grad.tolist() == pytest.approx([-0.5, -0.25, -0.75])


def test_calibration_error_by_hand() -> None:
    """Three of four pairs right at confidence 3/4 is calibrated; four of four is 1/4 too timid, none 3/4 too bold."""
    assert calibration_error(torch.tensor([LN3, LN3, LN3, -LN3])) == pytest.approx(0.0, abs=1e-6)
    assert calibration_error(torch.tensor([LN3] * 4)) == pytest.approx(0.25)
    assert calibration_error(torch.tensor([-LN3] * 4)) == pytest.approx(0.75)


def test_calibration_error_weighs_bins_by_their_pairs() -> None:
    """Two bins: three pairs at confidence 3/4, all right (gap 1/4); one at 9/10, wrong (gap 9/10)."""
    margins = torch.tensor([LN3, LN3, LN3, -math.log(9)])
    assert calibration_error(margins) == pytest.approx((3 * 0.25 + 0.9) / 4)
    # One bin over everything: |(3·3/4 + 9/10)/4 − 3/4|
    assert calibration_error(margins, bins=1) == pytest.approx(abs((2.25 + 0.9) / 4 - 0.75), rel=1e-5)


def test_calibration_error_at_the_ends() -> None:
    assert calibration_error(torch.zeros(3)) == pytest.approx(0.0)  # a tie is half right at confidence 1/2
    assert calibration_error(torch.tensor([100.0, 100.0])) == pytest.approx(0.0)
    assert calibration_error(torch.tensor([100.0, -100.0])) == pytest.approx(0.5)
    assert calibration_error(torch.zeros(0)) == 0.0
