"""Bits per byte divides by the raw bytes of tokens, not by the bytes of their decoded text."""

import contextlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.text.batching import make_batch
from engine.text.encode import Encoder, EncodeSettings
from engine.text.records import Record
from engine.text.store import SampleStore, collect, token_byte_lengths
from engine.text.tokenizer import Tokenizer
from engine.training.validate import held_out_loss
from tests.model.helpers import hidden_of, tiny

TEXTS = ["😀 鬱 dog", "é", "fox 从前"]


def test_bits_per_byte_by_hand(tokenizer: Tokenizer, tmp_path: Path) -> None:
    encoder = Encoder(tokenizer, EncodeSettings(64))
    records = [Record(n, n + 1, "text", "text", text=text) for n, text in enumerate(TEXTS)]
    SampleStore.write(tmp_path / "s", collect(records, encoder, ("text",)), tokenizer.vocab_size)
    store = SampleStore(tmp_path / "s")
    model = tiny(vocab_size=tokenizer.vocab_size)
    batches = [make_batch(store, np.array([0, 2]), slots=128), make_batch(store, np.array([1]), slots=64)]
    lengths = token_byte_lengths(tokenizer)
    found = held_out_loss(model, batches, lengths, autocast=contextlib.nullcontext(), dtype=torch.float32)

    nats, text_nats, tokens = 0.0, 0.0, 0
    for text in TEXTS:
        ids = torch.from_numpy(encoder.document(text).input_ids.astype(np.int64))
        log_probs = (hidden_of(model.eval(), ids) @ model.head_weight.T).detach().log_softmax(-1)
        losses = -log_probs[:-1].gather(1, ids[1:, None])[:, 0].double()
        nats, tokens = nats + float(losses.sum()), tokens + len(losses)
        text_nats += float(losses[:-1].sum())  # the end-of-document token stands for no text
    raw_bytes = sum(len(text.encode()) for text in TEXTS)
    assert found["val_tokens"] == tokens
    assert found["val_loss"] == pytest.approx(nats / tokens, rel=1e-5)
    assert found["val_bits_per_byte"] == pytest.approx(text_nats / math.log(2) / raw_bytes, rel=1e-5)


def test_a_token_of_half_a_character_counts_its_own_bytes(tokenizer: Tokenizer) -> None:
    ids = tokenizer.tokenize("😀鬱").ids
    lengths = token_byte_lengths(tokenizer)
    assert len(ids) > 2 and int(lengths[ids].sum()) == 7
    decoded = sum(len(tokenizer.decode([id_]).encode()) for id_ in ids)
    assert decoded != 7, "decoding token by token would count replacement characters"
