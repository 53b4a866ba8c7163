"""One row as people and programs see it: every token with its text, role and weight, and why it has that weight."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engine.errors import UserError
from engine.text.encode import Encoder, EncodeSettings
from engine.text.records import Record
from engine.text.sample import Sample
from engine.text.shapes import as_prompt
from engine.text.tokenizer import Tokenizer

UNLIMITED = 1 << 30
"""A `max_seq_len` that cuts nothing."""

_REASONING_TAGS = ("<think>", "</think>", "<answer>", "</answer>")

_GIVEN = {
    "system": "the system prompt is given; the model learns to follow it, not to write it",
    "user": "the user says it; the model learns to answer, not to ask",
    "tool": "a tool says it; the model learns to use results, not to make them up",
}
_SAME = "both sides are the same: this pair teaches nothing"
_WRAPPED = {
    "system": "the template writes it around the system prompt",
    "user": "the template writes it around the user's words",
    "tool": "the template writes it around the tool's result",
}


@dataclass(frozen=True)
class InspectedSample:
    """A sample in columns, one entry a token in each.

    Attributes:
        sample: The sample that the loss reads.
        purpose: What it is for: `text`, `all` (a conversation of which everything is trained), `conversation`, `turn`
            (one of several samples of a conversation), `chosen`, `rejected`, `prompt`; `cached` where only its tokens
            and weights are known.
        continues: Whether it is a window that begins with the last token of the window before.
        ids: Token ids.
        texts: Texts that concatenate to the exact string: a split character stands on its last token.
        bytes: Raw bytes.
        roles: Who says it: system, user, assistant, tool, text.
        kinds: Which part of the turn it is: header, content, end, after; of a document start, content, end.
        weights: Loss weights.
        special: Whether it is a control token or a tag, one token by the tokenizer's word.
        problems: What is odd about the sample, in words.
        shared: Of a side of a pair: with how many tokens both sides begin.
    """

    sample: Sample
    purpose: str
    continues: bool
    ids: Sequence[int]
    texts: Sequence[str]
    bytes: Sequence[bytes]
    roles: Sequence[str]
    kinds: Sequence[str]
    weights: Sequence[float]
    special: Sequence[bool]
    problems: tuple[str, ...]
    shared: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def why(self, index: int) -> str:
        """One sentence on why a token is trained or not."""
        weight = self.weights[index]
        if not weight:
            return f"not trained: {self._why_not(index)}"
        return f"trained{'' if weight == 1 else f' with weight {weight:g}'}: {self._why_trained(index)}"

    def _why_trained(self, index: int) -> str:
        role, kind = self.roles[index], self.kinds[index]
        if self.purpose == "cached":
            return "the token cache gives it a weight"
        if role == "text":
            if kind == "end":
                return "the end of the document, so that it learns where texts end"
            return "running text, where every token is predicted from those before it"
        if self.purpose == "all":
            return "every token of the row counts, whoever says it"
        if index < self.shared:
            return "a part of the answer, but the other answer says the same here: it cancels out"
        if kind == "end":
            return "the assistant's end of turn, so that it learns to stop"
        if self.weights[index] != 1 and not self.special[index]:
            return "a part of a reasoning tag"
        if self.special[index]:
            return "a reasoning tag" if self.texts[index] in _REASONING_TAGS else "a marker that the assistant writes"
        if self.purpose == "chosen":
            return "the preferred answer's words, to be made more likely"
        if self.purpose == "rejected":
            return "the rejected answer's words, to be made less likely"
        return "the assistant's words"

    def _why_not(self, index: int) -> str:
        role, kind = self.roles[index], self.kinds[index]
        if index == 0 and self.continues:
            return "it is here as context; the window before ends with it and trains it"
        if index == 0:
            return "the first token has nothing before it to be predicted from"
        if role in _GIVEN:
            return _GIVEN[role] if kind == "content" else _WRAPPED[role]
        if role != "assistant":
            return "the token cache gives it no weight"
        if kind == "header":
            return "the turn marker is given by the template in generation"
        if kind == "after":
            return "it follows the end of the turn, where generation has stopped"
        if self.purpose == "prompt":
            return "an earlier turn of the assistant, given here; training begins with what it answers now"
        if self.purpose in ("chosen", "rejected"):
            return "an earlier turn of the assistant; only the last answer is judged"
        if self.purpose == "turn":
            return "an earlier turn of the assistant, which has a sample of its own"
        return "the assistant says nothing in this turn"


def inspect_sample(sample: Sample, tokenizer: Tokenizer, purpose: str, *, continues: bool = False) -> InspectedSample:
    """A sample in columns; see `InspectedSample` for the arguments."""
    ids = sample.input_ids.tolist()
    owners = [(span.role, span.kind) for span in sample.spans for _ in range(span.end - span.start)]
    special = {*tokenizer.control_tokens.values(), *tokenizer.tags.values()}
    problems = [*sample.problems]
    if purpose != "prompt" and not sample.trained:
        problems.append("nothing in this row is trained")
    if sample.truncated:
        problems.append(f"{sample.truncated} tokens were cut to fit")
    return InspectedSample(
        sample=sample,
        purpose=purpose,
        continues=continues,
        ids=ids,
        texts=tokenizer.texts(ids),
        bytes=[tokenizer.token_bytes(id_) for id_ in ids],
        roles=[role for role, _ in owners],
        kinds=[kind for _, kind in owners],
        weights=sample.loss_weights.tolist(),
        special=[id_ in special for id_ in ids],
        problems=tuple(problems),
    )


def inspect_samples(record: Record, encoder: Encoder) -> list[InspectedSample]:
    """The samples that training makes of a record, in columns: windows, turns, or the chosen and the rejected side.

    Raises:
        DataError: The row is a conversation and the tokenizer has no chat template.
        TemplateFailure: The chat template cannot render the row.
    """
    tokenizer = encoder.tokenizer
    if encoder.settings.train_on == "prompt" and record.shape == "conversation":
        record = as_prompt(record)
    if record.shape == "pair":
        pair = encoder.encode_pair(record)
        sides = (pair.chosen, pair.rejected)
        shared = _shared(*sides)
        shown = [inspect_sample(each, tokenizer, ("chosen", "rejected")[side]) for side, each in enumerate(sides)]
        same = (_SAME,) if shared == len(pair.chosen) == len(pair.rejected) else ()
        return [replace(side, shared=shared, problems=(*side.problems, *same)) for side in shown]
    samples = encoder.encode(record)
    windowed = record.shape == "text" or (record.shape == "conversation" and encoder.settings.train_on == "all")
    if record.shape == "conversation":
        purpose = "all" if windowed else "turn" if len(samples) > 1 else "conversation"
    else:
        purpose = record.shape
    return [
        inspect_sample(sample, tokenizer, purpose, continues=windowed and index > 0)
        for index, sample in enumerate(samples)
    ]


def _shared(chosen: Sample, rejected: Sample) -> int:
    """With how many tokens both begin."""
    length = min(len(chosen), len(rejected))
    differs = chosen.input_ids[:length] != rejected.input_ids[:length]
    return int(np.argmax(differs)) if differs.any() else length


def inspect_record(
    record: Record, tokenizer: Tokenizer, settings: EncodeSettings, *, stage: str, template: str | None = None
) -> dict[str, Any]:
    """The samples of a record, token by token, for JSON.

    Args:
        record: The row.
        tokenizer: The tokenizer.
        settings: How the row becomes samples; a `max_seq_len` of `UNLIMITED` cuts nothing.
        stage: The stage's name, which is only repeated.
        template: Another chat template than the tokenizer's.

    Returns:
        row, line, shape, stage, and then for texts and conversations tokens (each id, text, bytes in hex, role, kind,
        weight, special, why), total, trained, truncated (tokens cut) and problems; for pairs the same under chosen and
        rejected. Texts concatenate to the exact string: a split character stands on its last token. Where a row makes
        several samples (a template that rewrites history, a long conversation of which everything is trained) tokens
        are the first sample's, and samples holds the others. A long running text is shown whole, its windows in
        windows.

    Raises:
        UserError: The length is too small.
        DataError: The row is a conversation and the tokenizer has no chat template.
        TemplateFailure: The chat template cannot render the row.
    """
    if settings.max_seq_len < 4:
        raise UserError(f"max_seq_len is {settings.max_seq_len}; it must be 4 or more", where="max_seq_len")
    encoder = Encoder(tokenizer, settings, template)
    head: dict[str, Any] = {"row": record.row, "line": record.line, "shape": record.shape, "stage": stage}
    if record.shape == "text":
        whole = inspect_sample(encoder.document(record.text, record.row), tokenizer, "text")
        windows = [len(window) for window in encoder.encode_text(record.text, record.row)]
        return head | _as_json(whole) | ({"windows": windows} if len(windows) > 1 else {})
    first, *others = map(_as_json, inspect_samples(record, encoder))
    if record.shape == "pair":
        return head | {"chosen": first, "rejected": others[0]}
    if record.shape == "prompt":
        return head | first | {"answer": record.answer, "check": record.check}
    return head | first | ({"samples": others} if others else {})


def _as_json(sample: InspectedSample) -> dict[str, Any]:
    columns = zip(
        sample.ids, sample.texts, sample.bytes, sample.roles, sample.kinds, sample.weights, sample.special, strict=True
    )
    tokens = [
        {
            "id": id_,
            "text": text,
            "bytes": raw.hex(),
            "role": role,
            "kind": kind,
            "weight": weight,
            "special": special,
            "why": sample.why(index),
        }
        for index, (id_, text, raw, role, kind, weight, special) in enumerate(columns)
    ]
    return {
        "tokens": tokens,
        "total": len(sample),
        "trained": sample.sample.trained,
        "truncated": sample.sample.truncated,
        "problems": list(sample.problems),
    }
