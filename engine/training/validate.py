"""How well a model predicts held-out text."""

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.model.transformer import Transformer
from engine.objectives.cross_entropy import token_losses
from engine.text.batching import Batch
from engine.training.batch import to_device


@torch.no_grad()
def held_out_loss(
    model: Transformer,
    batches: Iterable[Batch],
    byte_lengths: NDArray[np.int64],
    *,
    autocast: AbstractContextManager[Any],
    dtype: torch.dtype,
    chunk: int = 1024,
) -> dict[str, float]:
    """Loss over trained tokens, and bits per byte of raw text.

    Bits per byte divides the nats of tokens that stand for text by the bytes they stand for, so that models with
    different tokenizers can be compared; control tokens stand for no text and count in neither.

    Args:
        model: Is asked in evaluation mode.
        batches: The rows.
        byte_lengths: Bytes that each token id stands for.
        autocast: The precision of the model's blocks.
        dtype: Of the product with the output table.
        chunk: Tokens whose logits exist at a time.

    Returns:
        val_loss (nats a token, weights as in training), val_perplexity, val_bits_per_byte, val_tokens; empty when there
        is nothing to measure.
    """
    weight = model.head_weight
    nats = weighted = text_nats = 0.0
    tokens = text_bytes = 0
    training = model.training
    model.eval()
    try:
        for batch in batches:
            moved = to_device(batch, weight.device)
            with autocast:
                hidden = model(moved.tokens, moved.positions, moved.attention)[moved.sources]
            losses = token_losses(hidden, weight, moved.targets, chunk=chunk, dtype=dtype).cpu().double().numpy()
            del hidden  # the next batch needs its place
            weights = moved.weights.cpu().double().numpy()
            size = byte_lengths[moved.targets.cpu().numpy()]
            nats += float((losses * weights).sum())
            weighted += float(weights.sum())
            text_nats += float(losses[size > 0].sum())
            text_bytes += int(size.sum())
            tokens += len(losses)
    finally:
        model.train(training)
    if not weighted:
        return {}
    loss = nats / weighted
    metrics = {"val_loss": loss, "val_perplexity": math.exp(min(loss, 700.0)), "val_tokens": float(tokens)}
    return metrics | ({"val_bits_per_byte": text_nats / math.log(2) / text_bytes} if text_bytes else {})
