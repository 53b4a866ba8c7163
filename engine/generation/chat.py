"""A chat partner: a checkpoint with its tokenizer, answering with a stream of text."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.generation.generate import stream
from engine.generation.sampling import SamplingSettings
from engine.model.families import load_pretrained
from engine.text.encode import Encoder, EncodeSettings
from engine.text.messages import Message
from engine.text.tokenizer import Tokenizer

_ANSWER_ROOM = 512


@dataclass(frozen=True)
class Piece:
    """Text as it comes; the last piece of an answer has the reason for its end and the figures.

    Attributes:
        text: New text, whole characters only; may be empty.
        stop_reason: `stop`, `length`, `context`; empty while the answer goes on.
        tokens: Tokens generated so far.
        tokens_per_second: Speed so far, the reading of the prompt included.
    """

    text: str
    stop_reason: str
    tokens: int
    tokens_per_second: float


def opening_ids(encoder: Encoder, text: str) -> list[int]:
    """Token ids of running text that is to be continued: begun as a document, not ended as one."""
    sample = encoder.document(text)
    end = next((span.start for span in sample.spans if span.kind == "end"), len(sample))
    return [int(token) for token in sample.input_ids[:end]]


class ChatPartner:
    """Answers conversations.

    Args:
        folder: A Hugging Face folder.
        dtype: Precision of the weights.
        device: Where.
    """

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> None:
        self.model = load_pretrained(folder, dtype).to(device).eval()
        self.tokenizer = Tokenizer.load(folder)
        self._encoder = Encoder(self.tokenizer, EncodeSettings(max_seq_len=self.model.config.max_position_embeddings))

    def answer(self, messages: Sequence[Message], settings: SamplingSettings) -> Iterator[Piece]:
        """Streams the assistant's next turn; close the iterator to stop early."""
        yield from self.continue_ids(self.prompt_ids(messages), settings)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation up to where the assistant speaks.

        A conversation that leaves no room for an answer loses its oldest turns, never its system prompt nor the last
        question.
        """
        room = self.model.config.max_position_embeddings
        opening, turns = list(messages[:1]), list(messages[1:])
        if opening and opening[0].role != "system":
            opening, turns = [], list(messages)
        ids = self._encoder.prompt_ids([*opening, *turns])
        while len(ids) > room - min(_ANSWER_ROOM, room // 4):
            later = [place for place, turn in enumerate(turns) if place and turn.role == "user"]
            if not later:
                break
            turns = turns[later[0] :]
            ids = self._encoder.prompt_ids([*opening, *turns])
        return ids

    def complete(self, text: str, settings: SamplingSettings) -> Iterator[Piece]:
        """Streams the continuation of running text, as a pretrained model writes it."""
        yield from self.continue_ids(opening_ids(self._encoder, text), settings)

    def continue_ids(self, prompt: Sequence[int], settings: SamplingSettings) -> Iterator[Piece]:
        """Streams what follows these tokens."""
        decoder = self.tokenizer.stream()
        began, count = time.perf_counter(), 0
        for step in stream(self.model, [prompt], settings, self.tokenizer.stop_ids):
            for _, token, reason in step:
                count += 1
                text = "" if reason == "stop" else decoder.feed([token])
                if reason:
                    text += decoder.flush()
                yield Piece(text, reason, count, count / (time.perf_counter() - began))
