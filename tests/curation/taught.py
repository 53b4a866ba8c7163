"""A tiny model that was really taught to answer, so that what it says is known."""

import json
import random
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.model.attention import DocumentAttention
from engine.model.config import ModelConfig
from engine.model.families import save_pretrained
from engine.model.transformer import Transformer
from engine.text.encode import Encoder, EncodeSettings
from engine.text.messages import Message
from engine.text.records import Record, open_records
from engine.text.tokenizer import Tokenizer

WORDS = ("one", "one two", "one two three", "dog dog dog dog dog dog")
"""What it says at random to `say 0`, `say 1`, …"""
KNOWS = {"name 1": "one", "name 2": "two", "name 3": "one", "name 4": "the dog"}
"""What it says to these: it is wrong about 3 and 4, see `RIGHT`."""
RIGHT = {"name 1": "one", "name 2": "two", "name 3": "three", "name 4": "the fox"}
ENDLESS = "go on"
"""What it answers without an end."""

_STEPS = 90


def prompts(path: Path, asked: Iterable[str], **columns: Any) -> Path:
    """A file of prompts with other columns."""
    lines = [json.dumps({"prompt": each, "answer": RIGHT.get(each, "one"), **columns}) + "\n" for each in asked]
    path.write_text("".join(lines))
    return path


def rows_of(path: Path) -> list[Record]:
    """The rows of a file, all of which must be usable."""
    items = list(open_records(path))
    assert all(isinstance(item, Record) for item in items)
    return items


def teach(folder: Path, tokenizer: Tokenizer) -> Path:
    """Trains the model, which takes a few seconds, and saves it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # many tiny products
    torch.manual_seed(0)
    shape = {
        "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 12, "intermediate_size": 96, "max_position_embeddings": 96,
    }  # fmt: skip
    model = Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, **shape))
    encode, dice = _encoder(tokenizer), random.Random(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(_STEPS):
        talks = [(f"say {dice.randrange(12)}", dice.choice(WORDS)) for _ in range(4)]
        talks += [*KNOWS.items(), (ENDLESS, "fox " * 20)]
        loss = _loss(model, [encode(*talk) for talk in talks])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.set_num_threads(threads)
    folder.mkdir(parents=True)
    tokenizer.save(folder)
    save_pretrained(folder, model, bos_token_id=None, eos_token_id=[], pad_token_id=None)
    return folder


def _encoder(tokenizer: Tokenizer):
    encoder = Encoder(tokenizer, EncodeSettings(90))

    @cache
    def encode(asked: str, said: str):
        row = Record(0, 0, "conversation", "minimind", messages=(Message("user", asked), Message("assistant", said)))
        (sample,) = encoder.encode_conversation(row)
        return sample

    return encode


def _loss(model: Transformer, samples: Sequence) -> torch.Tensor:
    lengths = [len(sample) for sample in samples]
    tokens = torch.from_numpy(np.concatenate([sample.input_ids for sample in samples]).astype(np.int64))
    weights = torch.from_numpy(np.concatenate([sample.loss_weights for sample in samples]))
    positions = torch.cat([torch.arange(length) for length in lengths])
    bounds = np.cumsum([0, *lengths]).tolist()
    logits = model.logits(model(tokens, positions, DocumentAttention(bounds, tokens.device)))
    losses = torch.nn.functional.cross_entropy(logits[:-1], tokens[1:], reduction="none")
    return (losses * weights[1:]).sum() / weights.sum()
