"""From records to samples: one encoder for the eye and for the loss."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.errors import DataError
from engine.randomness import derive_seed
from engine.text.chat import Rendering, Segment, render_conversation, render_prompt
from engine.text.records import Message, Record
from engine.text.sample import Pair, Prompt, Sample, Span
from engine.text.template import ChatTemplate
from engine.text.tokenizer import Tokenizer

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


DOUBLE_BOS = "the row begins with two begin-of-text tokens"


@dataclass(frozen=True)
class EncodeSettings:
    """All that decides how a record becomes samples, besides tokenizer and template."""

    max_seq_len: int
    train_on: str = "assistant"
    """`assistant`: the assistant's words and its end-of-turn token. `all`: every token (mid-training)."""
    parse_special_tokens: bool = False
    system_prompt_ratio: float = 0.0
    empty_think_ratio: float = 1.0
    seed: int = 0


class Encoder:
    """Makes samples of records.

    Args:
        tokenizer: The tokenizer, with its chat template for conversations.
        settings: Lengths, what is trained, augmentations.
        template: Another chat template than the tokenizer's.

    Raises:
        DataError: From the methods: a conversation needs a template and there is none.
    """

    def __init__(self, tokenizer: Tokenizer, settings: EncodeSettings, template: str | None = None) -> None:
        self.tokenizer, self.settings = tokenizer, settings
        source = template if template is not None else tokenizer.chat_template
        self._template = ChatTemplate(source, tokenizer.special_tokens) if source else None

    @property
    def template(self) -> ChatTemplate:
        """The chat template in use."""
        if self._template is None:
            raise DataError(
                "the tokenizer has no chat template, so it cannot be known which tokens are the assistant's",
                hint="use a tokenizer with a chat template, or pretrain on running text",
            )
        return self._template

    def encode(self, record: Record) -> list[Sample]:
        """The samples of a text or a conversation; several where a text is longer than a window.

        Raises:
            TemplateFailure: The template cannot render the row.
        """
        if record.shape == "text":
            return self.encode_text(record.text, record.row)
        return self.encode_conversation(record)

    def encode_text(self, text: str, row: int = 0) -> list[Sample]:
        """Running text between document tokens, in windows that overlap by one token: each token is predicted."""
        return self._windows(self.document(text, row))

    def encode_texts(self, texts: Sequence[str], rows: Sequence[int]) -> list[list[Sample]]:
        """`encode_text` of many texts at once, on all cores."""
        batch = self.tokenizer.tokenize_batch(texts, markers=self.settings.parse_special_tokens)
        return [self._windows(self._document(ids, row)) for ids, row in zip(batch, rows, strict=True)]

    def _windows(self, whole: Sample) -> list[Sample]:
        length = self.settings.max_seq_len
        if len(whole) <= length:
            return [whole]
        starts = range(0, len(whole) - 1, length - 1)
        return [_window(whole, start, min(start + length, len(whole))) for start in starts]

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
        return Sample(tokens, weights, spans, row)

    def encode_conversation(self, record: Record) -> list[Sample]:
        """Conversations with the assistant's words trained, cut to the length by whole turns where that is possible.

        Where every token is trained, long ones are split into windows instead and nothing is lost.
        """
        messages = self._augment(record.messages, record.line)
        samples = self._samples(messages, record)
        if self.settings.train_on == "all":
            return [window for sample in samples for window in self._windows(sample)]
        return [self._fit(sample, messages, record, index) for index, sample in enumerate(samples)]

    def encode_pair(self, record: Record) -> Pair:
        """Both sides of a pair, with the last assistant turn trained and the same augmentations on both."""
        sides: list[Sample] = []
        for messages in (record.messages, record.rejected):
            side = replace(record, messages=self._augment(messages, record.line))
            sample = self._samples(side.messages, side)[-1]
            sides.append(self._cut_tokens(_only_last_turn(sample)))
        return Pair(sides[0], sides[1])

    def encode_prompt(self, record: Record) -> Prompt:
        """A prompt up to where the assistant is to speak; nothing of it is trained."""
        rendering = render_prompt(record.messages, record.tools, self.template, self.tokenizer)
        sample = self._encode_segments(rendering, record.row)
        sample = replace(sample, loss_weights=np.zeros_like(sample.loss_weights))
        return Prompt(sample, record.answer, record.check)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids for generation, cut as in training."""
        rendering = render_prompt(messages, None, self.template, self.tokenizer)
        return [int(token) for token in self._encode_segments(rendering, 0).input_ids]

    def _augment(self, messages: tuple[Message, ...], line: int) -> tuple[Message, ...]:
        ratio = self.settings.system_prompt_ratio
        if not ratio or messages[0].role == "system":
            return messages
        dice = _dice(self.settings.seed, "system", line)
        return (Message("system", dice.choice(SYSTEM_PROMPTS)), *messages) if dice.random() < ratio else messages

    def _samples(self, messages: Sequence[Message], record: Record) -> list[Sample]:
        keep = self.settings.empty_think_ratio
        remove = keep < 1 and _dice(self.settings.seed, "think", record.line).random() >= keep
        renderings = render_conversation(
            messages, record.tools, self.template, self.tokenizer, remove_empty_think=remove
        )
        return [self._encode_segments(rendering, record.row) for rendering in renderings]

    def _encode_segments(self, rendering: Rendering, row: int) -> Sample:
        ids: list[int] = []
        weights: list[float] = []
        spans: list[Span] = []
        for group in _groups(rendering.segments):
            text = "".join(segment.text for segment in group)
            starts = np.cumsum([0, *(len(segment.text) for segment in group)])
            literal = [
                (int(start) + first, int(start) + last)
                for segment, start in zip(group, starts, strict=False)
                for first, last in segment.literal
            ]
            tokens = self.tokenizer.tokenize(text, literal=literal)
            owner = np.searchsorted(starts, [first for first, _ in tokens.offsets], side="right") - 1
            for index in range(len(group)):
                count = int(np.count_nonzero(owner == index))
                if count:
                    spans.append(Span(len(ids), len(ids) + count, group[index].role, group[index].kind))
                    ids += [0] * count
            ids[len(ids) - len(tokens.ids) :] = tokens.ids
            trained = group[0].trained or self.settings.train_on == "all"
            weights += [1.0 if trained else 0.0] * len(tokens.ids)
        weighted = np.array(weights, dtype=np.float32)
        weighted[:1] = 0
        whole = self.tokenizer.tokenize("".join(segment.text for segment in rendering.segments)).ids
        bos = self.tokenizer.bos_id
        double = (DOUBLE_BOS,) if bos is not None and ids[:2] == [bos, bos] else ()
        return Sample(
            np.array(ids, dtype=np.int32), weighted, tuple(spans), row,
            problems=(*rendering.problems, *double), one_string_differs=whole != ids,
        )  # fmt: skip

    def _fit(self, sample: Sample, messages: tuple[Message, ...], record: Record, index: int) -> Sample:
        """Drops the oldest turns until the sample fits; cuts tokens only inside the last exchange."""
        length = self.settings.max_seq_len
        if len(sample) <= length:
            return sample
        system = messages[:1] if messages[0].role == "system" else ()
        rest = messages[len(system) :]
        if index == 0:
            last = max((place for place, message in enumerate(rest) if message.role == "assistant"), default=-1)
            for place in (place for place, message in enumerate(rest[:last]) if place and message.role == "user"):
                shorter = self._samples((*system, *rest[place : last + 1]), record)
                if len(shorter) == 1 and len(shorter[0]) <= length:
                    return replace(shorter[0], truncated=len(sample) - len(shorter[0]))
        return self._cut_tokens(sample)

    def _cut_tokens(self, sample: Sample) -> Sample:
        """Keeps the last tokens up to the end of the last trained one."""
        length = self.settings.max_seq_len
        if len(sample) <= length:
            return sample
        trained = np.flatnonzero(sample.loss_weights)
        end = int(trained[-1]) + 1 if len(trained) else len(sample)
        start = max(0, end - length)
        return replace(_window(sample, start, end), truncated=len(sample) - (end - start))


def split_key(record: Record) -> float:
    """A number in [0, 1) by which rows are split; equal for rows that begin with the same prompt.

    Duplicates, and longer variants of one conversation, fall on the same side: conversations count by their first
    user message, running text by its first 256 characters (white space folded).
    """
    first = next((message.content for message in record.messages if message.role == "user"), record.text[:1024])
    folded = " ".join(first.split())
    key = folded if record.messages else folded[:256]
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64


def _dice(seed: int, purpose: str, line: int) -> random.Random:
    return random.Random(derive_seed(seed, purpose, line))


def _groups(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Neighbours that are tokenised as one text; a border where training begins or ends, as in generation."""
    groups: list[list[Segment]] = []
    for segment in segments:
        said = segment.trained or (segment.role == "assistant" and segment.kind in ("content", "end"))
        before = groups[-1][-1] if groups else None
        joined = before is not None and said == (
            before.trained or (before.role == "assistant" and before.kind in ("content", "end"))
        )
        if joined:
            groups[-1].append(segment)
        else:
            groups.append([segment])
    return groups


def _window(sample: Sample, start: int, end: int) -> Sample:
    weights = sample.loss_weights[start:end].copy()
    weights[:1] = 0
    spans = tuple(
        Span(max(span.start, start) - start, min(span.end, end) - start, span.role, span.kind)
        for span in sample.spans
        if span.start < end and span.end > start
    )
    return replace(sample, input_ids=sample.input_ids[start:end], loss_weights=weights, spans=spans)


def _only_last_turn(sample: Sample) -> Sample:
    """Trains the last assistant turn alone: what comes before it is the shared prompt."""
    trained = np.flatnonzero(sample.loss_weights)
    if not len(trained):
        return sample
    breaks = np.flatnonzero(np.diff(trained) > 1)
    first = int(trained[breaks[-1] + 1]) if len(breaks) else int(trained[0])
    weights = sample.loss_weights.copy()
    weights[:first] = 0
    return replace(sample, loss_weights=weights)
