"""What replies are worth that rows have already, and what goes wrong where rewards are given."""

from collections.abc import Sequence
from typing import Any

from engine.curation.rows import reply_text
from engine.rewards.completion import Completion
from engine.rewards.reward_set import RewardSet
from engine.text.records import Record
from engine.text.tokenizer import Tokenizer


class RowJudge:
    """Gives the reward of a conversation's last reply, or of a pair's chosen one.

    Args:
        rewards: What replies are worth.
        tokenizer: Counts their tokens.
    """

    def __init__(self, rewards: RewardSet, tokenizer: Tokenizer) -> None:
        self._rewards, self._tokenizer = rewards, tokenizer

    def __call__(self, records: Sequence[Record]) -> list[float | None]:
        """The reward of each row; None where no reply has the last word."""
        replies = [_replies(record) for record in records]
        texts = [reply_text(record.messages[-1]) for record, replied in zip(records, replies, strict=True) if replied]
        judged = [record for record, replied in zip(records, replies, strict=True) if replied]
        completions = [
            Completion(record.messages[:-1], text, ids, False, record.answer, record.check, record.extra)
            for record, text, ids in zip(judged, texts, self._tokenizer.tokenize_batch(texts), strict=True)
        ]
        scores = iter(self._rewards.score(completions))
        return [next(scores).total if replied else None for replied in replies]


def troubles(rewards: RewardSet) -> dict[str, Any]:
    """`failures` of rewards, for how many answers and the last one's reason; `fallbacks` of checks, for how many."""
    failures = {
        name: {"answers": count, "last": rewards.last_error[name]} for name, count in rewards.failures.items()
    }  # fmt: skip
    return {"failures": failures, "fallbacks": dict(rewards.fallbacks)}


def _replies(record: Record) -> bool:
    return record.shape in ("conversation", "pair") and record.messages[-1].role == "assistant"
