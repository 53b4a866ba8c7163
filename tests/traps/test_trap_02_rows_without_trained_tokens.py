"""Rows with nothing to train on are counted, shown and dropped; a batch of them contributes zero, never 0/0."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import DataError
from engine.objectives.cross_entropy import linear_cross_entropy
from engine.text.audit import audit, refuse_if_useless
from engine.text.cache import CacheRequest, load_samples
from engine.text.encode import EncodeSettings
from engine.text.store import SampleStore
from engine.text.tokenizer import Tokenizer


def load(tokenizer: Tokenizer, folder: str, path: Path, rows: list[list[tuple[str, str]]]) -> SampleStore:
    lines = [json.dumps({"messages": [{"role": role, "content": text} for role, text in row]}) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return load_samples(CacheRequest(path, Path(folder), EncodeSettings(64), {}), tokenizer)


def test_they_are_counted_shown_and_dropped(tokenizer: Tokenizer, tokenizer_folder: str, tmp_path: Path) -> None:
    question = [("user", "q")]
    rows = [question, [*question, ("assistant", "a")], [*question, ("assistant", "  "), ("user", "r")]]
    store = load(tokenizer, tokenizer_folder, tmp_path / "some.jsonl", rows)
    assert store.columns["rows"].tolist() == [1]
    assert (np.concatenate([store.weights(index) for index in range(len(store))]) > 0).any()
    found = audit(store, max_seq_len=64, val_fraction=0, vocab_size=tokenizer.vocab_size)
    assert found["rows_without_trained_tokens"] == 2 and found["lines_without_trained_tokens"] == [1, 3]
    none = load(tokenizer, tokenizer_folder, tmp_path / "none.jsonl", [question, question])
    with pytest.raises(DataError, match="nothing to train on"):
        refuse_if_useless(audit(none, max_seq_len=64, val_fraction=0, vocab_size=1), "none.jsonl")


def test_a_conversation_longer_than_the_sample_still_trains(
    tokenizer: Tokenizer, tokenizer_folder: str, tmp_path: Path
) -> None:
    long = [("user", "dog " * 200), ("assistant", "fox"), ("user", "dog " * 200), ("assistant", "yes")]
    store = load(tokenizer, tokenizer_folder, tmp_path / "long.jsonl", [long])
    assert len(store) == 1 and store.lengths[0] <= 64 and store.columns["trained"][0] >= 2


def test_an_empty_micro_batch_contributes_zero_with_a_live_graph() -> None:
    hidden = torch.zeros(0, 4, requires_grad=True)
    head = torch.ones(7, 4, requires_grad=True)
    loss = linear_cross_entropy(hidden, head, torch.zeros(0, dtype=torch.long), torch.zeros(0), chunk=8)
    assert loss.item() == 0
    loss.backward()
    assert head.grad is None or not head.grad.any()
