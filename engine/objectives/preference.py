"""Learning from pairs: direct preference optimization and the reward model's likelihood."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Preferences:
    """What DPO makes of some pairs; each of shape (pairs,).

    Attributes:
        losses: The loss of each pair, with gradients.
        chosen_rewards: The implicit reward β·log(policy / reference) of the chosen side, without gradients.
        rejected_rewards: The same of the rejected side.
    """

    losses: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor


def dpo(chosen: Tensor, rejected: Tensor, beta: float, loss_type: str) -> Preferences:
    """Direct preference optimization (Rafailov et al., arXiv 2305.18290, equation 7), and IPO (arXiv 2310.12036).

    Args:
        chosen: log(policy / reference) of the chosen answers, shape (pairs,): summed over the answer's tokens for
            `sigmoid`, their mean for `ipo` and `sigmoid_norm`.
        rejected: The same of the rejected answers.
        beta: How much a nat of difference counts.
        loss_type: `sigmoid`: −log σ(β·h), where h = chosen − rejected. `sigmoid_norm`: the same formula on means
            (MiniMind2). `ipo`: (h − 1/(2β))², equation 17 of the IPO paper on means a token.
    """
    margin = chosen - rejected
    losses = (margin - 1 / (2 * beta)) ** 2 if loss_type == "ipo" else -F.logsigmoid(beta * margin)
    return Preferences(losses, beta * chosen.detach(), beta * rejected.detach())


def takes_mean(loss_type: str) -> bool:
    """Whether a DPO loss works on log-probabilities a token, not on their sum."""
    return loss_type in ("ipo", "sigmoid_norm")


def bradley_terry(chosen: Tensor, rejected: Tensor) -> Tensor:
    """−log σ(score of chosen − score of rejected) of each pair (InstructGPT, arXiv 2203.02155, equation 1)."""
    return -F.logsigmoid(chosen - rejected)


def calibration_error(margins: Tensor, bins: int = 10) -> float:
    """The expected calibration error of σ(margin) as the probability that the chosen side is the better one.

    A pair's confidence is that of the side that scores higher; it is right where that side is the chosen one. The
    error is the mean distance between confidence and share of right pairs over equally wide bins, weighted by pairs
    (Guo et al., arXiv 1706.04599, equation 3); 0 is perfectly calibrated.
    """
    confidence, right = margins.abs().sigmoid(), (margins > 0).float() + 0.5 * (margins == 0).float()
    place = ((confidence - 0.5) * 2 * bins).long().clamp(max=bins - 1)
    gaps = (confidence - right).new_zeros(bins).index_add(0, place, confidence - right)
    return float(gaps.abs().sum() / max(len(margins), 1))
