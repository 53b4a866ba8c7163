"""From rewards to advantages: how much better than expected an answer, or one of its tokens, was."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from torch import Tensor

_LEAST_VARIANCE = 1e-8
"""What is added to a variance that is divided by: a deviation of 1e-4."""
SAMPLE_EPSILON = 1e-4
"""What TRL adds to the sample standard deviation."""


def group_advantages(rewards: Tensor, std: str, floor: float) -> Tensor:
    """Rewards of answers to the same prompt against each other (DeepSeekMath, arXiv 2402.03300, section 4.1.2).

    Args:
        rewards: Shape (groups, answers).
        std: What the distance to the group's mean is divided by: `population` standard deviation (MiniMind), `sample`
            standard deviation + 1e-4 (TRL), or `none` (Dr. GRPO, arXiv 2503.20783).
        floor: The least that it is divided by, so that rounding is not blown up to a signal.

    Returns:
        Shape (groups, answers); exactly 0 in groups whose rewards are all equal.
    """
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    if std == "population":
        centred = centred / rewards.std(dim=1, correction=0, keepdim=True).clamp(min=floor)
    elif std == "sample":
        centred = centred / (rewards.std(dim=1, keepdim=True) + SAMPLE_EPSILON).clamp(min=floor)
    return centred.masked_fill(without_signal(rewards)[:, None], 0.0)


def without_signal(rewards: Tensor) -> Tensor:
    """The groups whose rewards are all equal, up to rounding: bool (groups,)."""
    spread = rewards.amax(dim=1) - rewards.amin(dim=1)
    return spread <= 1e-6 * rewards.abs().amax(dim=1).clamp(min=1.0)


def generalised_advantages(
    rewards: Sequence[float], values: Sequence[float], *, gamma: float, lam: float, beyond: float
) -> list[float]:
    """Generalised advantage estimation over the tokens of one answer (arXiv 1506.02438, equation 16).

    δ_t = r_t + γ·V(s_{t+1}) − V(s_t) and A_t = δ_t + γλ·A_{t+1}.

    Args:
        rewards: Of each token.
        values: V of the state before each token.
        gamma: Discount.
        lam: 0 trusts the values, 1 the rewards.
        beyond: V of the state after the last token: 0 where the answer ended by itself, the critic's value where it
            was cut off (truncated is not terminated).
    """
    advantages, following, value = [0.0] * len(rewards), 0.0, beyond
    for place in reversed(range(len(rewards))):
        delta = rewards[place] + gamma * value - values[place]
        following = delta + gamma * lam * following
        advantages[place], value = following, values[place]
    return advantages


def whitened(values: Tensor, count: float, total: float, squares: float) -> Tensor:
    """Values moved to mean 0 and standard deviation 1; what hardly differs is not blown up.

    Args:
        values: Any shape.
        count: How many values there are over all processes, with `total` and `squares` their sum and sum of squares.
        total: See above.
        squares: See above.
    """
    mean = total / max(count, 1.0)
    variance = max(squares / max(count, 1.0) - mean**2, 0.0)
    found: Tensor = (values - mean) / math.sqrt(variance + _LEAST_VARIANCE)
    return found


@dataclass
class Tracker:
    """What a prompt's reward is expected to be: a Beta distribution over [0, 1] (SPO, arXiv 2509.13232, section 3.1).

    Attributes:
        alpha: Weight of the rewards seen, older ones discounted.
        beta: The same of what was missing from 1.
    """

    alpha: float
    beta: float

    @staticmethod
    def begun(rewards: Sequence[float], least_rho: float) -> "Tracker":
        """From n₀ first rewards: their mean with the weight 1/(1 − ρ_min) that a tracker has in the long run."""
        weight, mean = 1 / (1 - least_rho), fmean(rewards)
        return Tracker(weight * mean, weight * (1 - mean))

    @property
    def value(self) -> float:
        """The expected reward."""
        return self.alpha / (self.alpha + self.beta)

    @property
    def deviation(self) -> float:
        """√(v·(1 − v)): how undecided the prompt is, by which prompts are prioritised."""
        return math.sqrt(self.value * (1 - self.value))

    def see(self, reward: float, rho: float) -> None:
        """Takes in a reward; what was seen before counts ρ of what it did."""
        self.alpha = rho * self.alpha + reward
        self.beta = rho * self.beta + 1 - reward


def discount(divergence: float, half: float, least: float, most: float) -> float:
    """ρ: how far a tracker is still to be believed after its policy has moved by this KL divergence.

    2^(−D / D_half), between `least` and `most`.
    """
    return min(max(2 ** (-divergence / half), least), most)
