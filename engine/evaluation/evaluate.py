"""`engine eval`: a checkpoint measured on a file."""

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.errors import DataError, Interrupted
from engine.evaluation.asking import ask
from engine.evaluation.pairs import evaluate_pairs
from engine.evaluation.passes import Trials
from engine.evaluation.questions import Question, question_of
from engine.generation.chat import ChatPartner
from engine.settings.registry import STAGES
from engine.text.batching import Batch, fill_batches
from engine.text.cache import CacheRequest, load_samples
from engine.text.encode import EncodeSettings
from engine.text.records import open_records
from engine.text.store import SampleStore, token_byte_lengths
from engine.training.validate import held_out_loss

Watcher = Callable[[str, float], None]

_BATCH_TOKENS = 8192
_ASKED = ("conversation", "prompt")
"""Shapes of rows that may be questions."""


def evaluate(
    folder: Path,
    data: Path,
    *,
    max_rows: int = 0,
    max_seq_len: int = 0,
    max_new_tokens: int = 128,
    batch_size: int = 64,
    trials: Trials | None = None,
    reference: Path | None = None,
    beta: float = 0.1,
    device: str = "cpu",
    answers: bool = False,
    progress: Watcher | None = None,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """What a file shows of a checkpoint.

    Of running text and conversations: loss and bits per byte of the trained tokens. Of conversations and prompts with
    known answers: see `engine.evaluation.asking.ask`. Of pairs: see `engine.evaluation.pairs.evaluate_pairs`.

    Args:
        folder: The checkpoint's Hugging Face folder.
        data: The file.
        max_rows: Only the first rows; 0: all.
        max_seq_len: The longest sample; 0: what the model reads, at most 2,048.
        max_new_tokens: How long an answer may be.
        batch_size: Questions at a time.
        trials: How often each question is sampled for pass@k; None: it is only answered greedily.
        reference: The checkpoint that pairs are compared with.
        beta: How much a nat of difference to the reference counts.
        device: Where.
        answers: Whether the result lists every question with what was said.
        progress: Told what is being done (`encoding`, `loss`, `questions`, `pairs`, `reference`) and how much of it is
            done (0 to 1).
        stop: Once it is set, the evaluation is given up before the model's next pass.

    Raises:
        DataError: The file holds nothing that can be measured, or nothing to sample or to compare with the reference.
        Interrupted: It was told to stop.
    """

    def go_on(*_: object) -> None:
        if stop and stop.is_set():
            raise Interrupted("the evaluation was stopped", where=str(data))

    def tell(what: str, done: float) -> None:
        go_on()
        if progress:
            progress(what, done)

    go_on()
    records = open_records(data, max_rows=max_rows or None)
    result: dict[str, Any] = {"model": str(folder), "data": str(data), "shape": records.shape}
    if trials and records.shape not in _ASKED:
        raise DataError(f"rows of shape {records.shape} are no questions to sample answers to", where=str(data))
    if reference and records.shape != "pair":
        raise DataError(f"rows of shape {records.shape} have no two sides; a reference is for pairs", where=str(data))
    if records.shape == "pair":
        return result | evaluate_pairs(
            folder, data, tell, reference=reference, beta=beta, max_rows=max_rows, max_seq_len=max_seq_len,
            device=device,
        )  # fmt: skip
    partner = ChatPartner(folder, device=device)
    # Every pass of the model, over rows and in decoding, is a moment at which the work can be given up.
    partner.model.register_forward_pre_hook(go_on)
    if records.shape in ("text", "conversation"):
        length = max_seq_len or min(2048, partner.model.config.max_position_embeddings)
        train_on = STAGES["sft" if records.shape == "conversation" else "pretrain"].train_on
        request = CacheRequest(data, folder, EncodeSettings(length, train_on), {}, max_rows, (records.shape,))
        tell("encoding", 0.0)
        store = load_samples(request, partner.tokenizer, lambda done: tell("encoding", done))
        result |= _loss(partner, store, tell)
    questions: list[Question] = []
    if partner.tokenizer.chat_template and records.shape in _ASKED:
        for record in records.records():
            go_on()
            if question := question_of(record):
                questions.append(question)
    if questions:
        tell("questions", 0.0)
        result |= ask(
            partner,
            questions,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            trials=trials,
            answers=answers,
            progress=lambda done: tell("questions", done),
        )
    elif trials:
        raise DataError("no row is a question with a known answer that this model can be asked", where=str(data))
    if len(result) == 3:
        raise DataError(
            f"rows of shape {records.shape} cannot be measured with this model",
            where=str(data),
            hint="give running text, conversations, or prompts with an answer field",
        )
    return result


def _loss(partner: ChatPartner, store: SampleStore, tell: Watcher) -> dict[str, float]:
    """loss, perplexity, bits_per_byte and tokens of a file."""
    found = held_out_loss(
        partner.model,
        _batches(store, tell),
        token_byte_lengths(partner.tokenizer),
        autocast=nullcontext(),
        dtype=torch.float32,
    )
    return {name.removeprefix("val_"): value for name, value in found.items()}


def _batches(store: SampleStore, tell: Watcher) -> Iterator[Batch]:
    """All samples, sorted by length, so that documents of like length are read together."""
    done, total = 0, int(store.lengths.sum())
    for batch in fill_batches(store, np.argsort(store.lengths, kind="stable").tolist(), _BATCH_TOKENS):
        tell("loss", done / total)
        yield batch
        done += len(batch.input_ids)
    tell("loss", 1.0)
