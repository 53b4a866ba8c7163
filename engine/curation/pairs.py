"""On-policy pairs: a model's best answer preferred to its worst one."""

from collections.abc import Sequence
from typing import Any

from engine.curation.answers import Answer, New, usable
from engine.curation.recipe import Asking, Progress, curate
from engine.rewards.reward_set import RewardSet
from engine.text.records import Record, open_records
from engine.text.shortcuts import shortcut_audit
from engine.text.strict_json import BadRow


def preference_pairs(
    asking: Asking, rewards: RewardSet, min_gap: float, progress: Progress | None = None
) -> dict[str, Any]:
    """Writes each prompt with the best and the worst of its answers, of several the first, as a pair.

    Args:
        asking: What and whom; two answers a prompt or more.
        rewards: What answers are worth.
        min_gap: By how much their rewards must differ at least, above 0.
        progress: See `curate`.

    Returns:
        See `curate`; `shortcuts`: see `engine.text.shortcuts.shortcut_audit`. New rows have a `reward`, that of the
        chosen answer, and a `rejected_reward`.

    Raises:
        UserError: See `curate`.
    """

    def recipe(_: Record, answers: Sequence[Answer]) -> New:
        whole = usable(answers, least=2)
        best, worst = (pick(whole, key=lambda answer: answer.reward) for pick in (max, min))
        if best.reward - worst.reward < min_gap:
            raise BadRow("best and worst reward are too close")
        return New(best.message, worst.message, {"reward": best.reward, "rejected_reward": worst.reward})

    found = curate(asking, recipe, rewards=rewards, progress=progress)
    return {**found, "shortcuts": shortcut_audit(open_records(asking.out).records())}
