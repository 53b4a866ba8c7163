"""How reasoning is fine-tuned."""

from typing import Literal

from engine.settings.fields import Section, setting

QUESTIONS = 64
"""Held-out questions that are asked in an evaluation."""
_ROOM = 256
"""Tokens that an answer may have beyond the longest right one; at most as many as that has."""


def most_tokens(longest: int) -> int:
    """How long an answer may become, where the longest right one has so many tokens."""
    return min(2 * longest, longest + _ROOM)


class ReasonSettings(Section):
    """Weights on the tags that frame thoughts and answers."""

    tag_weight: float = setting(
        10.0, gt=0, le=1000,
        controls="The loss weight of <think>, </think>, <answer> and </answer> in the assistant's words.",
        high="The tags are learnt at the expense of what stands between them.",
        low="1: as any other token; a small model forgets to close them.",
        start="10",
    )  # fmt: skip
    loss_denominator: Literal["weights", "tokens"] = setting(
        "weights",
        controls="What the weighted sum is divided by: the weights' sum, or the number of trained tokens (MiniMind).",
        high="tokens: the weights raise the learning rate besides.",
        low="weights: the tags take their share from the other tokens.",
        start="weights",
    )  # fmt: skip
