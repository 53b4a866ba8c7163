"""From records to samples: one encoder for the eye and for the loss."""

import random
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby, pairwise

import numpy as np

from engine.errors import DataError
from engine.randomness import derive_seed
from engine.text.chat import MOST_MESSAGES, ChatRenderer
from engine.text.cutting import Rendering
from engine.text.fitting import Encoded, Messages, cut_sides, cut_start, drop_turns, last_answer, windows
from engine.text.records import Message, Record
from engine.text.sample import Pair, Prompt, Sample, Span
from engine.text.shapes import as_prompt
from engine.text.template import ChatTemplate, TemplateFailure
from engine.text.tokenizer import Tokenizer, Tokens

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a small language model that answers briefly and honestly.",
    "Answer the question. Say so when you do not know.",
    "You are a friendly partner for conversation.",
    "Think first, then answer clearly.",
    "你是一个乐于助人的助手。",
    "你是一个小型语言模型，请简洁、如实地回答。",
    "请回答问题，不知道时请直接说明。",
    "你是一位友好的聊天伙伴。",
    "请先思考，再清楚地作答。",
)
"""What `system_prompt_ratio` chooses from."""

TAGS = re.compile(r"</?(?:think|answer)>")
"""What frames thoughts and answers."""

DOUBLE_BOS = "the row begins with two begin-of-text tokens"


@dataclass(frozen=True)
class EncodeSettings:
    """All that decides how a record becomes samples, besides tokenizer and template."""

    max_seq_len: int
    train_on: str = "assistant"
    """`assistant`: the assistant's words and its end-of-turn token. `all`: every token (mid-training). `prompt`: none;
    a conversation is read up to its last answer, which the model is to find itself."""
    tag_weight: float = 1.0
    """The weight of the tags that frame thoughts and answers, in what the assistant is trained to say."""
    parse_special_tokens: bool = False
    system_prompt_ratio: float = 0.0
    empty_think_ratio: float = 1.0
    seed: int = 0

    def without_idle_seed(self) -> "EncodeSettings":
        """The same settings with the seed left out where nothing depends on it."""
        drawn = self.system_prompt_ratio > 0 or 0 < self.empty_think_ratio < 1
        return self if drawn else replace(self, seed=0)


class Encoder:
    """Makes samples of records.

    Args:
        tokenizer: The tokenizer, with its chat template for conversations.
        settings: Lengths, what is trained, augmentations.
        template: Another chat template than the tokenizer's.

    Raises:
        DataError: From the methods: a conversation needs a template and there is none.
        TemplateFailure: From the methods: the template cannot render the row, or no mask can be made.
    """

    def __init__(self, tokenizer: Tokenizer, settings: EncodeSettings, template: str | None = None) -> None:
        self.tokenizer, self.settings = tokenizer, settings
        source = template if template is not None else tokenizer.chat_template
        self._renderer = ChatRenderer(ChatTemplate(source, tokenizer.special_tokens), tokenizer) if source else None
        self._markers = frozenset([*tokenizer.control_tokens.values(), *tokenizer.tags.values()])
        apart = [*tokenizer.tokenize("\n").ids, *tokenizer.tokenize("a").ids]
        self._adds_space = tokenizer.decode(apart) != "\na"
        """Whether the tokenizer puts a space before every text (SentencePiece), which no middle of a text has."""

    @property
    def renderer(self) -> ChatRenderer:
        """The chat template in use."""
        if self._renderer is None:
            raise DataError(
                "the tokenizer has no chat template, so it cannot be known which tokens are the assistant's",
                hint="use a tokenizer with a chat template, or pretrain on running text",
            )
        return self._renderer

    def encode(self, record: Record) -> list[Sample]:
        """The samples of a record: several of a text longer than a window, and both sides of a pair."""
        match record.shape:
            case "text":
                return self.encode_text(record.text, record.row)
            case "pair":
                pair = self.encode_pair(record)
                return [pair.chosen, pair.rejected]
            case "prompt":
                return [self.encode_prompt(record).sample]
            case _ if self.settings.train_on == "prompt":
                return [self.encode_prompt(as_prompt(record)).sample]
            case _:
                return self.encode_conversation(record)

    def encode_text(self, text: str, row: int = 0) -> list[Sample]:
        """Running text between document tokens, in windows that overlap by one token: each token is predicted."""
        return windows(self.document(text, row), self.settings.max_seq_len)

    def encode_texts(self, texts: Sequence[str], rows: Sequence[int]) -> list[list[Sample]]:
        """`encode_text` of many texts at once, on all cores."""
        batch = self.tokenizer.tokenize_batch(texts, markers=self.settings.parse_special_tokens)
        length = self.settings.max_seq_len
        return [windows(self._document(ids, row), length) for ids, row in zip(batch, rows, strict=True)]

    def document(self, text: str, row: int = 0) -> Sample:
        """Running text as one sample, however long."""
        ids = self.tokenizer.tokenize(text, markers=self.settings.parse_special_tokens).ids
        return self._document(ids, row)

    def _document(self, ids: list[int], row: int) -> Sample:
        start, end = self.tokenizer.document_start, self.tokenizer.document_end
        opening = [] if start is None else [start]
        closing = [] if end is None else [end]
        tokens = np.array([*opening, *ids, *closing], dtype=np.int32)
        weights = np.ones(len(tokens), dtype=np.float32)
        weights[:1] = 0
        body = len(opening) + len(ids)
        bounds = [(0, len(opening), "start"), (len(opening), body, "content"), (body, len(tokens), "end")]
        spans = tuple(Span(first, last, "text", kind) for first, last, kind in bounds if last > first)
        double = (DOUBLE_BOS,) if opening and ids[:1] == opening else ()
        return Sample(tokens, weights, spans, row, problems=double)

    def encode_conversation(self, record: Record) -> list[Sample]:
        """Conversations with the assistant's words trained, cut to the length by whole turns where that is possible.

        Where every token is trained, long ones are split into windows instead and nothing is lost.
        """
        messages = self._augment(record.messages, record)
        if self.settings.train_on == "all":
            whole = self._encode_segments(self.renderer.running(messages, record.tools), record.row).sample
            return windows(whole, self.settings.max_seq_len)
        messages, skipped = self._newest(messages)
        samples = self._conversation(messages, record)
        if len(samples) == 1:
            return [self._fit(samples[0], messages, record, skipped, last_only=False)]
        turns = [index for index, message in enumerate(messages) if message.role == "assistant"]
        return [
            self._fit(sample, messages[: turn + 1], record, skipped, last_only=True)
            for turn, sample in zip(turns, samples, strict=True)
            if not messages[turn].is_empty
        ]

    def encode_pair(self, record: Record) -> Pair:
        """Both sides of a pair, with the last assistant turn trained and the same augmentations on both.

        Sides that are too long lose the same oldest turns, then the same start of the prompt.
        """
        sides = [self._augment(messages, record) for messages in (record.messages, record.rejected)]

        def encode(messages: Messages) -> Encoded:
            return self._conversation(messages, record, last_only=True)[0]

        encoded = [encode(messages) for messages in sides]
        ends = [last_answer(messages) for messages in sides]
        kept = drop_turns(encoded, sides, ends, self.settings.max_seq_len, _or_none(encode))
        cut = cut_sides([each.sample for each in kept], self.settings.max_seq_len)
        chosen, rejected = (
            replace(sample, truncated=len(before.sample) - len(sample))
            for sample, before in zip(cut, encoded, strict=True)
        )
        return Pair(chosen, rejected)

    def encode_answer(self, record: Record) -> Sample:
        """A conversation with its last assistant turn alone trained, as in pairs; an empty one counts like any."""
        encoded = self._conversation(record.messages, record, last_only=True)[0]
        return self._fit(encoded, record.messages, record, 0, last_only=True)

    def encode_prompt(self, record: Record) -> Prompt:
        """A prompt up to where the assistant is to speak, without its oldest turns where it is too long."""

        def encode(messages: Messages) -> Encoded:
            encoded = self._encode_segments(self.renderer.prompt(messages, record.tools), record.row)
            untrained = np.zeros(len(encoded.sample), dtype=np.float32)
            return replace(encoded, sample=replace(encoded.sample, loss_weights=untrained))

        encoded = encode(record.messages)
        length, messages = self.settings.max_seq_len, record.messages
        kept = drop_turns([encoded], [messages], [len(messages)], length, _or_none(encode))[0].sample
        sample = cut_start(kept, length)
        return Prompt(replace(sample, truncated=len(encoded.sample) - len(sample)), record.answer, record.check)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids for generation, cut as in training."""
        sample = self._encode_segments(self.renderer.prompt(messages), 0).sample
        return [int(token) for token in sample.input_ids]

    def _augment(self, messages: Messages, record: Record) -> Messages:
        """MiniMind's random system prompt, for conversations without one and without tools."""
        ratio = self.settings.system_prompt_ratio
        if not ratio or messages[0].role == "system" or record.tools:
            return messages
        dice = _dice(self.settings.seed, "system", record.line)
        return (Message("system", dice.choice(SYSTEM_PROMPTS)), *messages) if dice.random() < ratio else messages

    def _newest(self, messages: Messages) -> tuple[Messages, int]:
        """The newest of very many messages, beginning with a user's, and how many tokens of content that leaves out."""
        if len(messages) <= MOST_MESSAGES:
            return messages, 0
        system = messages[:1] if messages[0].role == "system" else ()
        first = len(messages) - MOST_MESSAGES + 1
        first = next((i for i in range(first, len(messages)) if messages[i].role == "user"), first)
        skipped = [message.content for message in messages[len(system) : first]]
        return (*system, *messages[first:]), sum(map(len, self.tokenizer.tokenize_batch(skipped)))

    def _conversation(self, messages: Messages, record: Record, *, last_only: bool = False) -> list[Encoded]:
        keep = self.settings.empty_think_ratio
        remove = keep < 1 and _dice(self.settings.seed, "think", record.line).random() >= keep
        renderings = self.renderer.conversation(messages, record.tools, remove_empty_think=remove, last_only=last_only)
        return [self._encode_segments(rendering, record.row) for rendering in renderings]

    def _encode_segments(self, rendering: Rendering, row: int) -> Encoded:
        """Tokenises a rendering: what a model says apart from what it is given, as in generation."""
        ids: list[int] = []
        spans: list[Span] = []
        pieces: list[str] = []
        trained_from: list[tuple[int, int]] = []
        tagged: set[int] = set()
        counts = np.zeros(rendering.segments[-1].message + 1 if rendering.segments else 0, dtype=np.int64)
        literal_anywhere = False
        for said, group in groupby(rendering.segments, key=lambda segment: segment.said):
            segments = list(group)
            starts, text, literal = [], "", []
            for segment in segments:
                starts.append(len(text))
                literal += [(len(text) + first, len(text) + last) for first, last in segment.literal]
                text += segment.text
            tokens = self._tokenize(text, literal, ids)
            begins = [begin for begin, _ in tokens.offsets]
            edges = [*accumulate([0, *(bisect_left(begins, start) for start in starts[1:])], max), len(begins)]
            for number, (segment, (first, last)) in enumerate(zip(segments, pairwise(edges), strict=True)):
                if last > first:
                    span = Span(len(ids) + first, len(ids) + last, segment.role, segment.kind)
                    spans.append(span)
                    counts[segment.message] += last - first
                    if said and segment.trained:
                        trained_from.append((span.start, span.end))
                        end = starts[number] + len(segment.text)
                        tagged |= {
                            len(ids) + place
                            for tag in TAGS.finditer(text, starts[number], end)
                            if not any(begin < tag.end() and tag.start() < stop for begin, stop in literal)
                            for place in _covering(tokens.offsets, *tag.span())
                        }
            ids += tokens.ids
            pieces.append(text)
            literal_anywhere |= bool(literal)
        everything = self.settings.train_on == "all"
        weights = np.full(len(ids), 1.0 if everything else 0.0, dtype=np.float32)
        for first, last in trained_from:
            weights[first:last] = 1
        for place in tagged:
            weights[place] *= self.settings.tag_weight
        weights[:1] = 0
        differs = len(pieces) > 1 or literal_anywhere
        differs = differs and self.tokenizer.tokenize_batch(["".join(pieces)])[0] != ids
        bos = self.tokenizer.bos_id
        double = (DOUBLE_BOS,) if bos is not None and ids[:2] == [bos, bos] else ()
        sample = Sample(
            np.array(ids, dtype=np.int32), weights, tuple(spans), row,
            problems=(*rendering.problems, *double), one_string_differs=differs,
        )  # fmt: skip
        return Encoded(sample, counts)

    def _tokenize(self, text: str, literal: list[tuple[int, int]], before: list[int]) -> Tokens:
        """A piece of a longer text: only the text's own beginning, or what follows a marker, may get a space."""
        if self._adds_space and before and before[-1] not in self._markers:
            tokens = self.tokenizer.tokenize("\n" + text, literal=[(a + 1, b + 1) for a, b in literal])
            first = next((i for i, (begin, end) in enumerate(tokens.offsets) if end > 1), len(tokens.ids))
            if first == len(tokens.ids) or tokens.offsets[first][0] == 1:
                return Tokens(tokens.ids[first:], [(begin - 1, end - 1) for begin, end in tokens.offsets[first:]])
        return self.tokenizer.tokenize(text, literal=literal)

    def _fit(self, encoded: Encoded, messages: Messages, record: Record, skipped: int, *, last_only: bool) -> Sample:
        """Drops the oldest turns until the sample fits; cuts tokens only inside the last exchange."""

        def encode(fewer: Messages) -> Encoded | None:
            shorter = self._conversation(fewer, record, last_only=last_only)
            return shorter[0] if len(shorter) == 1 else None

        length, end = self.settings.max_seq_len, last_answer(messages)
        kept = drop_turns([encoded], [messages], [end], length, _or_none(encode))[0].sample
        sample = cut_start(kept, length)
        return replace(sample, truncated=skipped + len(encoded.sample) - len(sample))


def _or_none(encode: Callable[[Messages], Encoded | None]) -> Callable[[Messages], Encoded | None]:
    """The encoder for fewer messages, which a template may refuse."""

    def tried(messages: Messages) -> Encoded | None:
        try:
            return encode(messages)
        except TemplateFailure:
            return None

    return tried


def _covering(offsets: Sequence[tuple[int, int]], start: int, end: int) -> Iterator[int]:
    """The places of the tokens that have characters from `start` to `end`."""
    first = bisect_right(offsets, start, key=lambda span: span[1])
    for place in range(first, len(offsets)):
        if offsets[place][0] >= end:
            return
        yield place


def _dice(seed: int, purpose: str, line: int) -> random.Random:
    return random.Random(derive_seed(seed, purpose, line))
