"""What becomes of rows and answers, counted."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from engine.curation.answers import Answer, New


class Counts:
    """What a recipe that asks a model did.

    Args:
        copies: Answers a prompt.
        has_rewards: Whether they are worth anything.
    """

    def __init__(self, copies: int, *, has_rewards: bool) -> None:
        self.copies, self._has_rewards = copies, has_rewards
        self.rows = self.asked = self.kept = self.answers = self.truncated = 0
        self.dropped: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.quarantined: list[dict[str, Any]] = []
        self._rewards = self._kept_rewards = 0.0
        self._kept_judged = self._known = self._right = self._solved = 0

    def refuse(self, line: int, reason: str) -> None:
        """A line that cannot be asked."""
        self.quarantined.append({"line": line, "reason": reason})

    def add(self, answers: Sequence[Answer]) -> None:
        """A prompt that was asked."""
        self.asked += 1
        self.answers += len(answers)
        self.truncated += sum(answer.flaw == "cut off" for answer in answers)
        self._rewards += sum(answer.reward for answer in answers)
        known = [answer.correct for answer in answers if answer.correct is not None]
        right = sum(correct >= 1 for correct in known)
        self._known += bool(known)
        self._right += right
        self._solved += bool(right)

    def keep(self, new: New, lost: Sequence[str]) -> None:
        """A row that was written."""
        self.kept += 1
        self.lost.update(lost)
        if "reward" in new.columns:
            self._kept_rewards += new.columns["reward"]
            self._kept_judged += 1

    def why(self) -> str:
        """Why there is nothing, in a line."""
        reasons = self.dropped or Counter(entry["reason"] for entry in self.quarantined)
        return "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common(3))

    def figures(self) -> dict[str, Any]:
        """What `curate` returns of it."""
        known = self._known
        found: dict[str, Any] = {
            "rows": self.rows, "asked": self.asked, "answers": self.answers, "truncated": self.truncated,
            "kept": self.kept, "dropped": dict(self.dropped.most_common()),
            "mean_reward": self._rewards / self.answers if self._has_rewards else None,
            "mean_reward_kept": self._kept_rewards / self._kept_judged if self._kept_judged else None,
            "pass_at_1": self._right / known / self.copies if known else None,
        }  # fmt: skip
        if self.copies > 1:
            found[f"pass_at_{self.copies}"] = self._solved / known if known else None
        return found | {"lost": dict(self.lost.most_common())}
