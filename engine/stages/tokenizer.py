"""The tokenizer stage: text in, a tokenizer folder out."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from engine.settings.tokenizer import TokenizerSettings
from engine.text.records import Record, open_records
from engine.text.tokenizer_training import evaluate_tokenizer, train_tokenizer

_EVALUATED_TEXTS = 2000


def texts_of(record: Record) -> Iterator[str]:
    """Everything that a record says."""
    if record.text:
        yield record.text
    for message in (*record.messages, *record.rejected):
        # the roles stand in every conversation: the tokenizer must know them as words
        yield f"{message.role}\n{message.reasoning_content or ''}{message.content}"


def file_texts(path: Path, mapping: dict[str, str], max_rows: int) -> Iterator[str]:
    """The texts of a file's usable rows."""
    for record in open_records(path, mapping=mapping, max_rows=max_rows or None).records():
        yield from texts_of(record)


def train(settings: TokenizerSettings, data: Path, out: Path, progress: Callable[[str, float], None]) -> dict[str, Any]:
    """Trains a tokenizer on a file and writes its folder.

    Returns:
        The tokenizer's figures (see `evaluate_tokenizer`) on the first `texts` texts of the same file, and the stage's
        metric: characters_per_token over all languages.
    """
    mapping, max_rows = dict(settings.mapping), settings.max_rows
    progress("training the tokenizer", 0.0)
    tokenizer = train_tokenizer(file_texts(data, mapping, max_rows), settings.vocab_size)
    tokenizer.save(out)
    progress("evaluating the tokenizer", 0.9)
    sample = [text for text, _ in zip(file_texts(data, mapping, max_rows), range(_EVALUATED_TEXTS), strict=False)]
    found = evaluate_tokenizer(tokenizer, sample)
    figures = found["tokenizer"]
    ratio = figures["languages"]["all"]["characters_per_token"]
    return {"characters_per_token": ratio, "texts": found["texts"], **figures}
