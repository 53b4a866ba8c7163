import pytest
import torch
from torch import Tensor

from engine.objectives.policy import GRPO_LOSSES, PolicyLoss, aggregate, aggregated_count, surrogate, value_losses

LOW, HIGH = 0.2, 0.3


def _tokens(ratios: list[float]) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the policy, with gradients, and of the old one."""
    old = torch.tensor([-0.5 * (place + 1) for place in range(len(ratios))], dtype=torch.float64)
    log_probs = (old + torch.tensor(ratios, dtype=torch.float64).log()).requires_grad_()
    return log_probs, old


def _slopes(losses: Tensor, log_probs: Tensor) -> list[float]:
    (gradient,) = torch.autograd.grad(losses.sum(), log_probs)
    return gradient.tolist()


# Surrogates


def test_clip_by_hand() -> None:
    """Ratios 0.5, 1, 2 within [0.8, 1.3], once with A = 2 and once with A = −2."""
    log_probs, old = _tokens([0.5, 1.0, 2.0] * 2)
    advantages = torch.tensor([2.0] * 3 + [-2.0] * 3, dtype=torch.float64)
    found = surrogate("clip", log_probs, old, advantages, clip_low=LOW, clip_high=HIGH)
    # −min(r·A, clip(r)·A): −min(1, 1.6), −min(2, 2), −min(4, 2.6), −min(−1, −1.6), −min(−2, −2), −min(−4, −2.6)
    assert found.losses.tolist() == pytest.approx([-1.0, -2.0, -2.6, 1.6, 2.0, 4.0])
    assert found.ratios.tolist() == pytest.approx([0.5, 1.0, 2.0] * 2)
    assert found.clipped.tolist() == [0, 0, 1, 1, 0, 0]
    assert not found.ratios.requires_grad and not found.clipped.requires_grad
    # −r·A where the clip does not decide
    assert _slopes(found.losses, log_probs) == pytest.approx([-1.0, -2.0, 0.0, 0.0, 2.0, 4.0])


@pytest.mark.parametrize("advantage", [1.5, -1.5])
def test_clipped_is_exactly_where_the_gradient_is_zero(advantage: float) -> None:
    ratios = [0.1, 0.5, 0.79, 0.81, 0.99, 1.0, 1.01, 1.29, 1.31, 2.0, 10.0]
    log_probs, old = _tokens(ratios)
    advantages = torch.full((len(ratios),), advantage, dtype=torch.float64)
    found = surrogate("clip", log_probs, old, advantages, clip_low=LOW, clip_high=HIGH)
    slopes = _slopes(found.losses, log_probs)
    assert [slope == 0.0 for slope in slopes] == [flag == 1 for flag in found.clipped.tolist()]
    assert 0 < sum(found.clipped.tolist()) < len(ratios)
    for slope, ratio, flag in zip(slopes, ratios, found.clipped.tolist(), strict=True):
        assert slope == pytest.approx(0.0 if flag else -ratio * advantage)


def test_cispo_by_hand() -> None:
    """The ratio weighs −A·log π, at most 1.3 times, whatever the advantage's sign; every token keeps a gradient."""
    log_probs, old = _tokens([0.5, 1.0, 2.0] * 2)
    advantages = torch.tensor([2.0] * 3 + [-2.0] * 3, dtype=torch.float64)
    found = surrogate("cispo", log_probs, old, advantages, clip_low=LOW, clip_high=HIGH)
    weights = [0.5, 1.0, 1.3] * 2
    expected = [-w * a * p for w, a, p in zip(weights, advantages.tolist(), log_probs.tolist(), strict=True)]
    assert found.losses.tolist() == pytest.approx(expected)
    assert found.clipped.tolist() == [0, 0, 1] * 2
    assert _slopes(found.losses, log_probs) == pytest.approx([-1.0, -2.0, -2.6, 1.0, 2.0, 2.6])


def test_reinforce_by_hand() -> None:
    log_probs, old = _tokens([0.5, 2.0])
    advantages = torch.tensor([2.0, -3.0], dtype=torch.float64)
    found = surrogate("reinforce", log_probs, old, advantages, clip_low=LOW, clip_high=HIGH)
    assert found.losses.tolist() == pytest.approx([-2.0 * log_probs[0].item(), 3.0 * log_probs[1].item()])
    assert found.clipped.tolist() == [0, 0]
    assert found.ratios.tolist() == pytest.approx([0.5, 2.0])
    assert _slopes(found.losses, log_probs) == pytest.approx([-2.0, 3.0])


@pytest.mark.parametrize("kind", ["clip", "cispo", "reinforce"])
def test_on_policy_all_are_the_policy_gradient(kind: str) -> None:
    """Where policy and old policy are one, the slope on log π is −A."""
    log_probs, _ = _tokens([1.0, 1.0, 1.0])
    advantages = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)
    found = surrogate(kind, log_probs, log_probs.detach(), advantages, clip_low=LOW, clip_high=HIGH)
    assert _slopes(found.losses, log_probs) == pytest.approx([-1.0, 2.0, 0.0])
    assert found.clipped.tolist() == [0, 0, 0]


# The critic


def test_value_losses_by_hand() -> None:
    """Old value 1, clip ½."""
    values = torch.tensor([1.25, 3.0, 3.0, 0.0], requires_grad=True)
    returns = torch.tensor([2.0, 2.0, 5.0, 2.0])
    losses = value_losses(values, torch.ones(4), returns, clip=0.5)
    # Within the clip: ½·0.75². Beyond it: ½·max(1², (1.5 − 2)²), ½·max(2², (1.5 − 5)²), ½·max(2², (0.5 − 2)²)
    assert losses.tolist() == pytest.approx([0.5 * 0.5625, 0.5, 0.5 * 12.25, 2.0])
    losses.sum().backward()
    # V − R, or 0 where the clipped value, which does not move, is the farther one
    assert values.grad is not None and values.grad.tolist() == pytest.approx([-0.75, 1.0, 0.0, -2.0])


def test_value_losses_without_clip() -> None:
    values = torch.tensor([3.0, 0.0], requires_grad=True)
    losses = value_losses(values, torch.ones(2), torch.tensor([5.0, 2.0]), clip=0.0)
    assert losses.tolist() == [2.0, 2.0]


# Aggregation


def _shares(aggregation: str, lengths: tuple[int, ...] = (10, 1000), longest: int = 1024) -> list[float]:
    """How much each answer's tokens weigh in the loss of the step."""
    sequence = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    losses = torch.ones(len(sequence), requires_grad=True)
    total = aggregate(losses, sequence, len(lengths), aggregation)
    (total / aggregated_count(sum(lengths), len(lengths), longest, aggregation)).backward()
    assert losses.grad is not None
    return [part.sum().item() for part in losses.grad.split(lengths)]


def test_ten_tokens_against_a_thousand() -> None:
    """Trap 11: by answers each weighs a half, by tokens 1 % and 99 %; by a constant a token always weighs the same."""
    assert _shares("sequence") == pytest.approx([0.5, 0.5])
    assert _shares("token") == pytest.approx([10 / 1010, 1000 / 1010])
    assert _shares("constant") == pytest.approx([10 / 2048, 1000 / 2048])


def test_constant_does_not_depend_on_the_other_answers() -> None:
    assert _shares("constant", (10, 1000))[0] == pytest.approx(_shares("constant", (10, 20))[0])
    assert _shares("token", (10, 1000))[0] < _shares("token", (10, 20))[0]


def test_aggregate_by_hand() -> None:
    losses, sequence = torch.tensor([1.0, 3.0, 8.0]), torch.tensor([0, 0, 1])
    # 2 + 8, over 2 answers; 12, over 3 tokens or 2 · 16 places
    assert aggregate(losses, sequence, 2, "sequence").item() == 10
    assert aggregate(losses, sequence, 2, "token").item() == aggregate(losses, sequence, 2, "constant").item() == 12
    counts = [aggregated_count(3, 2, 16, name) for name in ("sequence", "token", "constant")]
    assert counts == [2.0, 3.0, 32.0]


@pytest.mark.parametrize("aggregation", ["sequence", "token", "constant"])
def test_micro_batches_add_up(aggregation: str) -> None:
    """Sums and counts of any split of the answers are those of the whole step."""
    lengths = (3, 1, 7, 2)
    losses = torch.randn(sum(lengths), generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    parts = losses.split(lengths)

    def mean(groups: list[list[int]]) -> float:
        total = count = 0.0
        for group in groups:
            sizes = [lengths[place] for place in group]
            sequence = torch.arange(len(group)).repeat_interleave(torch.tensor(sizes))
            joined = torch.cat([parts[place] for place in group])
            total += aggregate(joined, sequence, len(group), aggregation).item()
            count += aggregated_count(sum(sizes), len(group), 16, aggregation)
        return total / count

    assert mean([[0, 1], [2, 3]]) == pytest.approx(mean([[0, 1, 2, 3]]))
    assert mean([[0], [1], [2], [3]]) == pytest.approx(mean([[0, 1, 2, 3]]))


@pytest.mark.parametrize("aggregation", ["sequence", "token", "constant"])
def test_no_answers_give_zero_with_a_live_graph(aggregation: str) -> None:
    losses = torch.zeros(0, requires_grad=True)
    total = aggregate(losses, torch.zeros(0, dtype=torch.long), 0, aggregation)
    total.backward()
    assert total.item() == 0 and losses.grad is not None


def test_losses_by_name() -> None:
    assert GRPO_LOSSES["grpo"] == PolicyLoss("clip", "sequence")
    assert GRPO_LOSSES["dr_grpo"] == PolicyLoss("clip", "constant")
    assert GRPO_LOSSES["dapo"] == PolicyLoss("clip", "token")
    assert GRPO_LOSSES["cispo"] == PolicyLoss("cispo", "token")
    assert GRPO_LOSSES["reinforce"] == PolicyLoss("reinforce", "token")


def test_first_ratio_is_one_and_the_first_loss_minus_the_mean_advantage() -> None:
    log_probs, _ = _tokens([1.0] * 4)
    advantages = torch.tensor([1.0, 1.0, 1.0, -1.0], dtype=torch.float64)
    found = surrogate("clip", log_probs, log_probs.detach(), advantages, clip_low=LOW, clip_high=HIGH)
    assert found.ratios.tolist() == [1.0] * 4
    sequence = torch.tensor([0, 0, 0, 1])
    # By answers (−1 + 1)/2, by tokens −(3 − 1)/4
    assert aggregate(found.losses, sequence, 2, "sequence").item() / 2 == pytest.approx(0.0)
    assert aggregate(found.losses, sequence, 2, "token").item() / 4 == pytest.approx(-0.5)
