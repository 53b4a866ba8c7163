"""Answers of a policy on their way to the loss: judged, logged, and gathered into flat batches."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.generation.rollout import Rollout
from engine.rewards.reward_set import Scored
from engine.text.batching import Batch
from engine.text.records import Record


@dataclass(frozen=True)
class Answer:
    """One answer to a prompt of the data.

    Attributes:
        sample: The prompt's index in the store.
        record: Its row.
        prompt: Its token ids.
        rollout: What the policy said.
        text: The same as text, without the stop token.
        scored: What it is worth, in all and by part.
        reward: What it is learnt by: the total, or the lowest one for an answer that was cut off.
        correct: Whether it is right by the row's own check, 0 to 1; None where the row has no answer.
    """

    sample: int
    record: Record
    prompt: list[int]
    rollout: Rollout
    text: str
    scored: Scored
    reward: float
    correct: float | None


@dataclass(frozen=True)
class PolicyBatch:
    """Answers of a micro-batch: each document is a prompt with its answer.

    Attributes:
        batch: The documents; the weights are 1 on the answers' tokens.
        tokens: What is known of each answer token, by name, each float32 (answer tokens,) in the batch's order:
            `sampled` and `advantage`, and where they are needed `old`, `reference`, `value`, `return`.
    """

    batch: Batch
    tokens: dict[str, NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.batch.rows)

    @property
    def count(self) -> int:
        """Tokens of answers."""
        return int(np.count_nonzero(self.batch.loss_weights))

    def with_tokens(self, **more: NDArray[np.float32]) -> "PolicyBatch":
        """The same with more known of the tokens."""
        return replace(self, tokens=self.tokens | more)

    def documents(self) -> Iterator["PolicyBatch"]:
        """Every answer as a batch of its own."""
        start = 0
        for document in self.batch.documents():
            end = start + int(np.count_nonzero(document.loss_weights))
            yield PolicyBatch(document, {name: values[start:end] for name, values in self.tokens.items()})
            start = end


def policy_batch(judged: Sequence[tuple[Answer, float]]) -> PolicyBatch | None:
    """Gathers answers, each with one advantage for all of its tokens; None where there are none."""
    if not judged:
        return None
    answers, advantages = zip(*judged, strict=True)
    said = [len(answer.rollout.ids) for answer in answers]
    batch = answered(
        [(answer.prompt, answer.rollout.ids) for answer in answers],
        rows=[answer.record.row for answer in answers],
        samples=[answer.sample for answer in answers],
    )
    sampled = [value for answer in answers for value in answer.rollout.log_probs]
    advantage = np.repeat(np.array(advantages, dtype=np.float32), said)
    return PolicyBatch(batch, {"sampled": np.array(sampled, dtype=np.float32), "advantage": advantage})


def answered(
    documents: Sequence[tuple[Sequence[int], Sequence[int]]], rows: Sequence[int], samples: Sequence[int]
) -> Batch:
    """Documents of a prompt and its answer; the weights are 1 on the answers' tokens."""
    lengths = [len(prompt) + len(said) for prompt, said in documents]
    weights = [np.arange(length) >= len(prompt) for length, (prompt, _) in zip(lengths, documents, strict=True)]
    return Batch(
        input_ids=np.concatenate([np.array([*prompt, *said], dtype=np.int64) for prompt, said in documents]),
        loss_weights=np.concatenate(weights).astype(np.float32),
        cu_seqlens=np.cumsum([0, *lengths]),
        rows=np.array(rows),
        samples=np.array(samples),
        slots=len(documents) * max(lengths),
    )


class RolloutLog:
    """`rollouts.jsonl`: every answer, as a row that the Data screen and other tools read.

    What was written after the checkpoint that a run goes on from is cut off, as it will be made again.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.position = 0
        """Bytes that count; for the checkpoint."""

    def write(self, round: int, answers: Sequence[Answer], advantages: Sequence[float]) -> None:
        """Appends the answers of a round; those to one prompt form a group."""
        lines = "".join(
            json.dumps(self._row(round, answer, advantage), ensure_ascii=False) + "\n"
            for answer, advantage in zip(answers, advantages, strict=True)
        )
        with self._path.open("ab") as file:
            file.truncate(self.position)
            file.write(lines.encode("utf-8", "replace"))
            file.flush()
        self.position += len(lines.encode("utf-8", "replace"))

    def _row(self, round: int, answer: Answer, advantage: float) -> dict[str, Any]:
        asked = [message.as_dict() for message in answer.record.messages]
        return {
            "conversations": [*asked, {"role": "assistant", "content": answer.text.replace("\0", "\ufffd")}],
            "round": round,
            "group": f"{round}-{answer.record.row}",
            "row": answer.record.row,
            "expected": answer.record.answer,
            "reward": answer.reward,
            "rewards": answer.scored.parts,
            "advantage": advantage,
            "stop_reason": answer.rollout.stop_reason,
            "answer_ids": answer.rollout.ids,
            "log_probs": [round_(value) for value in answer.rollout.log_probs],
        }


def round_(value: float) -> float:
    """Short enough to read, exact enough to look at."""
    return float(f"{value:.5g}")
