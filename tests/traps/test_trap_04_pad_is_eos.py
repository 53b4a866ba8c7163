"""A padding token that equals the end token hides nothing: there is no padding, and no id decides what is trained."""

from pathlib import Path

import numpy as np

from engine.text.batching import make_batch
from engine.text.encode import Encoder, EncodeSettings
from engine.text.messages import Message
from engine.text.records import Record
from engine.text.store import SampleStore, collect
from engine.text.tokenizer import Tokenizer


def test_end_tokens_are_trained_and_no_pad_enters(tokenizer: Tokenizer, tmp_path: Path) -> None:
    end = "<|im_end|>"
    same = Tokenizer(
        tokenizer._state(),
        special_tokens={**tokenizer.special_tokens, "pad_token": end, "eos_token": end},
        chat_template=tokenizer.chat_template,
    )
    assert same.pad_id == same.eos_id == same.control_tokens[end]
    records = [
        Record(n, n + 1, "conversation", "openai", messages=(Message("user", "q"), Message("assistant", "dog " * size)))
        for n, size in enumerate((1, 9, 4))
    ]
    SampleStore.write(
        tmp_path / "s", collect(records, Encoder(same, EncodeSettings(64)), ("conversation",)), same.vocab_size
    )
    store = SampleStore(tmp_path / "s")
    batch = make_batch(store, np.arange(3), slots=192)
    assert len(batch.input_ids) == store.lengths.sum() == batch.cu_seqlens[-1]
    assert (batch.input_ids == same.pad_id).sum() == 6, "two turns end in each row, and nothing is padded"
    for start, stop in zip(batch.cu_seqlens, batch.cu_seqlens[1:], strict=False):
        ends = np.flatnonzero(batch.input_ids[start:stop] == same.eos_id)
        assert batch.loss_weights[start:stop][ends].tolist() == [0, 1]
