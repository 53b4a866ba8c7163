"""Packed documents are isolated: positions begin anew, no attention and no loss across the seam, masks come along."""

from pathlib import Path

import numpy as np
import torch

from engine.text.batching import Sampler
from engine.text.encode import Encoder, EncodeSettings
from engine.text.messages import Message
from engine.text.records import Record
from engine.text.store import SampleStore, collect
from engine.text.tokenizer import Tokenizer
from engine.training.batch import to_device
from tests.model.helpers import tiny


def packed(tokenizer: Tokenizer, folder: Path) -> tuple[SampleStore, Sampler]:
    records = [
        Record(n, n + 1, "conversation", "openai",
               messages=(Message("user", "dog " * (n % 4)  + "?"), Message("assistant", "fox " * (n % 3 + 1))))
        for n in range(12)
    ]  # fmt: skip
    parts = collect(records, Encoder(tokenizer, EncodeSettings(64)), ("conversation",))
    SampleStore.write(folder / "s", parts, tokenizer.vocab_size)
    store = SampleStore(folder / "s")
    sampler = Sampler(
        store, np.arange(12), batch_size=2, accumulation_steps=1, max_seq_len=64, packing=True, seed=0
    )  # fmt: skip
    return store, sampler


def test_masks_are_carried_through_and_nothing_is_trained_across_a_seam(tokenizer: Tokenizer, tmp_path: Path) -> None:
    store, sampler = packed(tokenizer, tmp_path)
    trained = 0
    for step in range(sampler.steps_per_epoch):
        for batch in sampler.step(step):
            starts = batch.cu_seqlens[:-1]
            assert len(starts) > 2 and not batch.loss_weights[starts].any()
            moved = to_device(batch, torch.device("cpu"))
            assert moved.positions[starts].tolist() == [0] * len(starts)
            document = np.searchsorted(batch.cu_seqlens, moved.sources.numpy(), side="right")
            targets = np.searchsorted(batch.cu_seqlens, moved.sources.numpy() + 1, side="right")
            assert (document == targets).all()
            for row, start, end in zip(batch.rows, starts, batch.cu_seqlens[1:], strict=True):
                assert batch.loss_weights[start:end].tolist() == store.weights(int(row)).tolist()
            trained += len(moved.targets)
    assert trained == store.columns["trained"].sum()


def test_a_change_in_one_document_changes_no_other_s_logits(tokenizer: Tokenizer, tmp_path: Path) -> None:
    _, sampler = packed(tokenizer, tmp_path)
    batch = sampler.step(0)[0]
    moved = to_device(batch, torch.device("cpu"))
    model = tiny(vocab_size=tokenizer.vocab_size).eval()
    first, second = int(batch.cu_seqlens[1]), int(batch.cu_seqlens[2])
    perturbed = moved.tokens.clone()
    perturbed[first:second] = (perturbed[first:second] + 1) % tokenizer.vocab_size
    with torch.no_grad():
        before, after = (
            model(tokens, moved.positions, moved.attention) @ model.head_weight.T
            for tokens in (moved.tokens, perturbed)
        )
    changed = (before != after).any(dim=1)
    assert changed[first:second].all()
    assert not changed[:first].any() and not changed[second:].any()
