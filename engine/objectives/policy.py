"""Policy losses of reinforcement learning, over the tokens of answers in a flat batch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.objectives.sequences import means


@dataclass(frozen=True)
class PolicyLoss:
    """A policy loss by name.

    Attributes:
        surrogate: `clip`: −min(r·A, clip(r)·A) (PPO, arXiv 1707.06347, equation 7). `cispo`:
            −min(r, 1 + ε_high)·A·log π with the ratio held fixed (MiniMax-M1, arXiv 2506.13585, equations 4 and 5).
            `reinforce`: −A·log π.
        aggregation: `sequence`: each answer's mean over its tokens, then the mean over answers. `token`: the mean over
            all tokens of the step. `constant`: the sum over tokens, over answers × the longest answer allowed.
    """

    surrogate: str
    aggregation: str


GRPO_LOSSES = {
    "grpo": PolicyLoss("clip", "sequence"),
    "dr_grpo": PolicyLoss("clip", "constant"),
    "dapo": PolicyLoss("clip", "token"),
    "cispo": PolicyLoss("cispo", "token"),
    "reinforce": PolicyLoss("reinforce", "token"),
}
"""GRPO (arXiv 2402.03300), Dr. GRPO (arXiv 2503.20783), DAPO (arXiv 2503.14476), CISPO, and plain policy gradient
as in nanochat. Names as in `loss_type`."""


@dataclass(frozen=True)
class Surrogate:
    """What a policy loss makes of each token, shape (tokens,).

    Attributes:
        losses: With gradients.
        ratios: policy / old policy, without.
        clipped: Whether the clip decides, 0 or 1, without gradients. Under `clip` such a token has no gradient, under
            `cispo` a bounded one.
    """

    losses: Tensor
    ratios: Tensor
    clipped: Tensor


def surrogate(
    kind: str, log_probs: Tensor, old: Tensor, advantages: Tensor, *, clip_low: float, clip_high: float
) -> Surrogate:
    """The loss of every token; see `PolicyLoss.surrogate`.

    Args:
        kind: `clip`, `cispo` or `reinforce`.
        log_probs: Of the policy, with gradients, shape (tokens,).
        old: Of the policy that sampled them.
        advantages: Of the tokens.
        clip_low: The ratio may fall to 1 − clip_low.
        clip_high: The ratio may rise to 1 + clip_high.
    """
    ratios = torch.exp(log_probs - old)
    fixed = ratios.detach()
    if kind == "reinforce":
        return Surrogate(-advantages * log_probs, fixed, torch.zeros_like(fixed))
    if kind == "cispo":
        over = fixed > 1 + clip_high
        return Surrogate(-fixed.clamp(max=1 + clip_high) * advantages * log_probs, fixed, over.float())
    bounded = ratios.clamp(1 - clip_low, 1 + clip_high)
    losses = -torch.minimum(ratios * advantages, bounded * advantages)
    binding = ((fixed > 1 + clip_high) & (advantages > 0)) | ((fixed < 1 - clip_low) & (advantages < 0))
    return Surrogate(losses, fixed, binding.float())


def value_losses(values: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """½·max((V − R)², (clip(V, V_old ± clip) − R)²) of every token (the PPO implementation of OpenAI baselines).

    Args:
        values: Of the critic, with gradients, shape (tokens,).
        old: Of the critic when the answers were sampled.
        returns: What they should have been: advantage + old value.
        clip: How far a value may move in one round; 0: as far as it likes.
    """
    losses = (values - returns) ** 2
    if clip:
        losses = torch.maximum(losses, (old + (values - old).clamp(-clip, clip) - returns) ** 2)
    return 0.5 * losses


def aggregate(losses: Tensor, sequence: Tensor, count: int, aggregation: str) -> Tensor:
    """The sum over a micro-batch of what `aggregation` averages; see `PolicyLoss.aggregation`.

    Args:
        losses: Of the answers' tokens, shape (tokens,).
        sequence: The answer that each token belongs to.
        count: How many answers there are.
        aggregation: By name.
    """
    return means(losses, sequence, count).sum() if aggregation == "sequence" else losses.sum()


def aggregated_count(tokens: int, answers: int, longest: int, aggregation: str) -> float:
    """What the sums of `aggregate` are divided by, over the whole optimizer step."""
    return {"sequence": float(answers), "token": float(tokens), "constant": float(answers * longest)}[aggregation]
