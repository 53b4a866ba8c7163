"""Tiny models with random weights, and files of questions and pairs."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from engine.model.config import ModelConfig
from engine.model.families import save_pretrained
from engine.model.transformer import Transformer
from engine.text.tokenizer import Tokenizer


def save_model(folder: Path, tokenizer: Tokenizer, seed: int = 0, **changes: Any) -> Path:
    """A checkpoint large enough that its opinions differ from token to token."""
    torch.manual_seed(seed)
    shape = {
        "vocab_size": tokenizer.vocab_size, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 32, "max_position_embeddings": 64,
        "initializer_range": 0.3, **changes,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(folder)
    save_pretrained(folder, Transformer(ModelConfig(**shape)), bos_token_id=None, eos_token_id=[], pad_token_id=None)
    return folder


def without_template(folder: Path) -> Path:
    """Takes the chat template from a checkpoint."""
    config = folder / "tokenizer_config.json"
    fields = json.loads(config.read_text())
    fields.pop("chat_template", None)
    config.write_text(json.dumps(fields))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    assert Tokenizer.load(folder).chat_template is None
    return folder


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """A JSONL file."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def pair(question: str, chosen: str, rejected: str) -> dict[str, Any]:
    """A row of a pair file."""
    asked = {"role": "user", "content": question}
    return {
        "chosen": [asked, {"role": "assistant", "content": chosen}],
        "rejected": [asked, {"role": "assistant", "content": rejected}],
    }
