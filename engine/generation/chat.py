"""A chat partner: a checkpoint with its tokenizer, answering with a stream of text."""

import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from engine.errors import CheckpointError
from engine.generation.generate import stream
from engine.generation.sampling import SamplingSettings
from engine.generation.scoring import Score, TokenScores
from engine.model.adapters import check_base, load_adapter, read_adapter
from engine.model.families import load_pretrained
from engine.model.loading import base_folder, is_adapter, load_model
from engine.model.lora import detach
from engine.text.encode import Encoder, EncodeSettings
from engine.text.messages import Message
from engine.text.tokenizer import Tokenizer

_ANSWER_ROOM = 512


class Choice(NamedTuple):
    """A token that could have been said: its probability under the model, and its chance to be drawn."""

    id: int
    name: str
    probability: float
    sampled_probability: float


@dataclass(frozen=True)
class Token:
    """One token of an answer and how probable it was; see `engine.generation.scoring.Score`.

    Attributes:
        id: Its id.
        text: The text that it completes; together with the other tokens' it is the answer. Empty inside a character,
            and for the token that ends the answer.
        name: Its own text, bytes of a split character as `\\xe4`.
        special: Whether it is a marker of the tokenizer, not text.
        score: Its probabilities.
        choices: The most probable tokens, best first.
    """

    id: int
    text: str
    name: str
    special: bool
    score: Score
    choices: tuple[Choice, ...]

    @property
    def probability(self) -> float:
        """Its probability under the model, at temperature 1."""
        return math.exp(self.score.logprob)


@dataclass(frozen=True)
class Piece:
    """Text as it comes; the last piece of an answer has the reason for its end and the figures.

    Attributes:
        text: New text, whole characters only; may be empty.
        stop_reason: `stop`, `length`, `context`; empty while the answer goes on.
        tokens: Tokens generated so far.
        tokens_per_second: Speed so far, the reading of the prompt included.
        token: The piece's token with its probabilities, where they were asked for.
    """

    text: str
    stop_reason: str
    tokens: int
    tokens_per_second: float
    token: Token | None = None


def opening_ids(encoder: Encoder, text: str) -> list[int]:
    """Token ids of running text that is to be continued: begun as a document, not ended as one."""
    sample = encoder.document(text)
    end = next((span.start for span in sample.spans if span.kind == "end"), len(sample))
    return [int(token) for token in sample.input_ids[:end]]


class ChatPartner:
    """Answers conversations.

    Wherever it speaks, `alternatives` above 0 gives every piece its token, with so many of the most probable ones.

    Args:
        folder: A Hugging Face folder, or an adapter, whose base is found.
        dtype: Precision of the weights.
        device: Where.

    Attributes:
        base: The folder of the model itself, whatever adapter is beside it.
        adapter: The adapter in use, if any.
    """

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> None:
        self.adapter = read_adapter(folder) if is_adapter(folder) else None
        self.base = base_folder(self.adapter) if self.adapter else folder
        self.model = load_model(folder, dtype).to(device).eval()
        self.tokenizer = Tokenizer.load(folder)
        self._encoder = Encoder(self.tokenizer, EncodeSettings(max_seq_len=self.model.config.max_position_embeddings))
        self._exact = dtype == torch.float32
        self._fits = {None, self.adapter.base_fingerprint if self.adapter else None}

    def use(self, folder: Path | None) -> None:
        """Answers with another adapter of the same base from now on, or with the base alone; the base stays loaded.

        Args:
            folder: An adapter's, as peft writes it; None takes the adapter out.

        Raises:
            CheckpointError: It cannot be read, or belongs to another base; the partner is as before.
        """
        adapter, before = (read_adapter(folder) if folder else None), self.adapter
        if adapter and adapter.base_fingerprint not in self._fits:
            # An adapter is tied to the weights as they were trained, not as they were rounded here.
            check_base(adapter, self.model if self._exact else load_pretrained(self.base), str(self.base))
            self._fits.add(adapter.base_fingerprint)
        detach(self.model)
        try:
            if adapter:
                load_adapter(self.model, adapter)
        except CheckpointError:
            if before:
                load_adapter(self.model, before)
            raise
        self.adapter = adapter

    def answer(
        self, messages: Sequence[Message], settings: SamplingSettings, *, opening: str = "", alternatives: int = 0
    ) -> Iterator[Piece]:
        """Streams the assistant's next turn, or what follows its `opening`; close the iterator to stop early."""
        yield from self.continue_ids(self.prompt_ids(messages, opening), settings, alternatives=alternatives)

    def prompt_ids(self, messages: Sequence[Message], opening: str = "") -> list[int]:
        """Token ids of a conversation up to where the assistant speaks, or goes on after its `opening`.

        A conversation that leaves no room for an answer loses its oldest turns, never its system prompt nor the last
        question.
        """
        room = self.model.config.max_position_embeddings
        system, turns = list(messages[:1]), list(messages[1:])
        if system and system[0].role != "system":
            system, turns = [], list(messages)
        ids = self._prompt([*system, *turns], opening)
        while len(ids) > room - min(_ANSWER_ROOM, room // 4):
            later = [place for place, turn in enumerate(turns) if place and turn.role == "user"]
            if not later:
                break
            turns = turns[later[0] :]
            ids = self._prompt([*system, *turns], opening)
        return ids

    def complete(self, text: str, settings: SamplingSettings, *, alternatives: int = 0) -> Iterator[Piece]:
        """Streams the continuation of running text, as a pretrained model writes it."""
        yield from self.continue_ids(opening_ids(self._encoder, text), settings, alternatives=alternatives)

    def continue_ids(
        self, prompt: Sequence[int], settings: SamplingSettings, *, alternatives: int = 0
    ) -> Iterator[Piece]:
        """Streams what follows these tokens."""
        decoder = self.tokenizer.stream()
        scorer = TokenScores(alternatives) if alternatives else None
        began, count = time.perf_counter(), 0
        for step in stream(self.model, [prompt], settings, self.tokenizer.stop_ids, None, scorer):
            for row, id_, reason in step:
                count += 1
                text = "" if reason == "stop" else decoder.feed([id_])
                if reason:
                    text += decoder.flush()
                token = self._token(id_, text, scorer.newest[row]) if scorer else None
                yield Piece(text, reason, count, count / (time.perf_counter() - began), token)

    def _token(self, id_: int, text: str, score: Score) -> Token:
        choices = tuple(
            Choice(other.id, self._name(other.id), math.exp(other.logprob), other.sampled_probability)
            for other in score.alternatives
        )
        return Token(id_, text, self._name(id_), self._is_special(id_), score, choices)

    def _name(self, id_: int) -> str:
        return self.tokenizer.token_bytes(id_).decode(errors="backslashreplace") or f"#{id_}"

    def _is_special(self, id_: int) -> bool:
        return id_ in self.tokenizer.control_tokens.values() or id_ in self.tokenizer.tags.values()

    def _prompt(self, messages: Sequence[Message], opening: str) -> list[int]:
        ids = self._encoder.prompt_ids(messages)
        if not opening:
            return ids
        spoken = self._spoken(opening)
        if self.tokenizer.decode([*ids, *spoken]) != self.tokenizer.decode(ids) + opening:
            # SentencePiece puts a space before every text, which no middle of a text has; a control character
            # melts with nothing, and is cut off again.
            spoken = self._spoken("\1" + opening)[len(self._spoken("\1")) :]
        return [*ids, *spoken]

    def _spoken(self, text: str) -> list[int]:
        """Token ids of an assistant's words: its tags are tokens, everything else that looks like a marker is text."""
        markers = "|".join(map(re.escape, sorted(self.tokenizer.control_tokens, key=len, reverse=True)))
        literal = [match.span() for match in re.finditer(markers, text)] if markers else []
        return self.tokenizer.tokenize(text, literal=literal).ids
