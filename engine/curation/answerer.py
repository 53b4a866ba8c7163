"""A model that answers rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import CheckpointError, EngineError
from engine.generation.generate import stream
from engine.generation.sampling import SamplingSettings
from engine.model.loading import load_model
from engine.rewards.completion import Completion
from engine.text.encode import Encoder, EncodeSettings
from engine.text.records import Record
from engine.text.shapes import DUMMY_ANSWERS
from engine.text.strict_json import BadRow
from engine.text.tokenizer import Tokenizer

_MOST_COPIES = 1 << 20
"""Answers that a prompt can have: the distance between the numbers of two rows' first answers."""
_BROKEN = "\ufffd"
"""What stands for bytes that are no character."""


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        record: The row as the file has it.
        prompt: What it asks, with the answer that a right reply gives.
        ids: The prompt's tokens.
    """

    record: Record
    prompt: Record
    ids: list[int]


@dataclass(frozen=True)
class Reply:
    """What the model said.

    Attributes:
        completion: As rewards see it.
        flaw: Why it cannot be learnt from, in a few words; empty: it can.
    """

    completion: Completion
    flaw: str


class Answerer:
    """Answers questions; what is said depends on the seed, the row and the copy, not on what is asked beside it.

    Args:
        folder: A checkpoint with a chat template.
        sampling: How to sample.
        copies: Answers a question. More of them begin with the same ones.
        device: Where.

    Raises:
        CheckpointError: The folder cannot be read, or its model cannot be asked.
    """

    def __init__(self, folder: Path, sampling: SamplingSettings, copies: int, device: str) -> None:
        self._tokenizer = Tokenizer.load(folder)
        if not self._tokenizer.chat_template:
            raise CheckpointError(
                "the model has no chat template, so it cannot be asked",
                where=str(folder),
                hint="take one that was trained on conversations",
            )
        self._model = load_model(folder).to(device).eval()
        room = self._model.config.max_position_embeddings
        self._encoder = Encoder(self._tokenizer, EncodeSettings(room - 1))
        self._sampling, self._copies = sampling, copies
        self._control = frozenset(self._tokenizer.control_tokens.values())

    def question(self, record: Record, prompt: Record) -> Question:
        """A row that can be asked.

        Raises:
            BadRow: It cannot: it is too long, or the chat template refuses it.
        """
        try:
            sample = self._encoder.encode_prompt(prompt).sample
        except EngineError as error:
            raise BadRow(f"cannot be encoded: {error.what}"[:500]) from None
        if sample.truncated:
            raise BadRow(f"{len(sample) + sample.truncated} tokens leave the model no room for an answer")
        return Question(record, prompt, sample.input_ids.tolist())

    def answer(self, questions: Sequence[Question]) -> Iterator[list[Reply]]:
        """The answers to each question, all made at once."""
        copies = range(self._copies)
        numbers = [question.record.row * _MOST_COPIES + copy for question in questions for copy in copies]
        said: list[list[int]] = [[] for _ in numbers]
        reasons = [""] * len(numbers)
        prompts, stops = [question.ids for question in questions], self._tokenizer.stop_ids
        for step in stream(self._model, prompts, self._sampling, stops, numbers, None, self._copies):
            for row, token, reason in step:
                if reason != "stop":
                    said[row].append(token)
                reasons[row] = reason
        for place, question in enumerate(questions):
            rows = range(place * self._copies, (place + 1) * self._copies)
            yield [self._reply(question, said[row], reasons[row]) for row in rows]

    def _reply(self, question: Question, ids: list[int], reason: str) -> Reply:
        prompt, text = question.prompt, self._tokenizer.decode(ids)
        completion = Completion(
            prompt.messages, text, ids, reason != "stop", prompt.answer, prompt.check, prompt.extra
        )  # fmt: skip
        flaws = {
            "cut off": completion.truncated,
            "empty": text.strip() in DUMMY_ANSWERS,
            "with a control token inside": not self._control.isdisjoint(ids),
            "with broken characters": _BROKEN in text,
        }
        return Reply(completion, next((flaw for flaw, found in flaws.items() if found), ""))
