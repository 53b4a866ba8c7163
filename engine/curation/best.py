"""Best of k, or rejection sampling: of several answers the best one is worth learning.

Llama 2 (arXiv 2307.09288, section 3.2.3) and RAFT (arXiv 2304.06767) train on such rows.
"""

from collections.abc import Sequence
from typing import Any

from engine.curation.answers import Answer, New, usable
from engine.curation.recipe import Asking, Progress, curate
from engine.rewards.reward_set import RewardSet
from engine.text.records import Record
from engine.text.strict_json import BadRow


def best_of(
    asking: Asking, rewards: RewardSet, min_reward: float | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Writes each prompt with the best of its answers, the first one of several, as a conversation.

    Args:
        asking: What and whom.
        rewards: What answers are worth.
        min_reward: What the best answer must be worth at least; None: more than the lowest that the rewards give.
        progress: See `curate`.

    Returns:
        See `curate`. New rows have a `reward`.

    Raises:
        UserError: See `curate`.
    """

    def recipe(_: Record, answers: Sequence[Answer]) -> New:
        best = max(usable(answers), key=lambda answer: answer.reward)
        if best.reward <= rewards.low if min_reward is None else best.reward < min_reward:
            raise BadRow("the best reward is too low")
        return New(best.message, columns={"reward": best.reward})

    return curate(asking, recipe, rewards=rewards, progress=progress)
