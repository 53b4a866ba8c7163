"""`engine eval`: a checkpoint measured on a file."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.errors import DataError
from engine.evaluation.questions import exact_match, question_of
from engine.generation.chat import ChatPartner
from engine.settings.registry import STAGES
from engine.text.batching import Batch, make_batch
from engine.text.cache import CacheRequest, load_samples
from engine.text.encode import EncodeSettings
from engine.text.records import open_records
from engine.text.store import SampleStore, token_byte_lengths
from engine.training.validate import held_out_loss


def evaluate(
    folder: Path,
    data: Path,
    *,
    max_rows: int = 0,
    max_seq_len: int = 0,
    max_new_tokens: int = 128,
    batch_size: int = 64,
    device: str = "cpu",
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Loss and bits per byte of a file's trained tokens, and exact match where its rows are questions with answers.

    Args:
        folder: The checkpoint's Hugging Face folder.
        data: The file.
        max_rows: Only the first rows; 0: all.
        max_seq_len: The longest sample; 0: what the model reads, at most 2,048.
        max_new_tokens: How long an answer may be.
        batch_size: Questions at a time.
        device: Where.
        progress: Told the share of questions answered.

    Raises:
        DataError: The file holds nothing that can be measured.
    """
    partner = ChatPartner(folder, device=device)
    records = open_records(data, max_rows=max_rows or None)
    result: dict[str, Any] = {"model": str(folder), "data": str(data), "shape": records.shape}
    if records.shape in ("text", "conversation"):
        length = max_seq_len or min(2048, partner.model.config.max_position_embeddings)
        train_on = STAGES["sft" if records.shape == "conversation" else "pretrain"].train_on
        request = CacheRequest(data, folder, EncodeSettings(length, train_on), {}, max_rows, (records.shape,))
        store = load_samples(request, partner.tokenizer)
        found = held_out_loss(
            partner.model,
            _batches(store),
            token_byte_lengths(partner.tokenizer),
            autocast=nullcontext(),
            dtype=torch.float32,
        )
        names = {
            "val_loss": "loss",
            "val_perplexity": "perplexity",
            "val_bits_per_byte": "bits_per_byte",
            "val_tokens": "tokens",
        }
        result |= {names[name]: value for name, value in found.items()}
    if partner.tokenizer.chat_template and records.shape in ("conversation", "prompt"):
        questions = [question for record in records.records() if (question := question_of(record))]
        if questions:
            result |= exact_match(
                partner, questions, max_new_tokens=max_new_tokens, batch_size=batch_size, progress=progress
            )
    if len(result) == 3:
        raise DataError(
            f"rows of shape {records.shape} cannot be measured with this model",
            where=str(data),
            hint="give running text, conversations, or prompts with an answer field",
        )
    return result


def _batches(store: SampleStore, room: int = 8192) -> Iterator[Batch]:
    """All samples, sorted by length, about `room` tokens at a time."""
    waiting: list[int] = []
    tokens = 0
    for index in np.argsort(store.lengths, kind="stable").tolist():
        waiting.append(index)
        tokens += int(store.lengths[index])
        if tokens >= room:
            yield make_batch(store, np.array(waiting), slots=tokens)
            waiting, tokens = [], 0
    if waiting:
        yield make_batch(store, np.array(waiting), slots=tokens)
