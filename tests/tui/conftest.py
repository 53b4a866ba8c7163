"""A home of its own for every test, with tiny profiles and data."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

from minimind_tui.app import MinimindApp

WORDS = tuple("the cat sat on a red mat and saw one dog run to an old house".split())  # noqa: SIM905

_TOKENIZER = 'stage = "tokenizer"\ndata = "{data}"\nvocab_size = 300\n'
_PRETRAIN = """
stage = "pretrain"
title = "Tiny, for tests"
data = "{data}"
tokenizer = "tiny-tokenizer"
max_seq_len = 32
val_fraction = 0.1
hidden_size = 16
num_hidden_layers = 1
num_attention_heads = 2
num_key_value_heads = 2
intermediate_size = 32
max_position_embeddings = 512
batch_size = 4
max_steps = 30
warmup_steps = 2
learning_rate = 1e-2
log_interval = 1
eval_interval = 10
save_interval = 10
eval_rows = 8
sample_tokens = 8
num_threads = 1
dtype = "float32"
device = "cpu"
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home with the profiles tiny/tokenizer, tiny/pretrain and tiny/long."""
    monkeypatch.setenv("MINIMIND_HOME", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    data = tmp_path / "tiny.jsonl"
    rows = [" ".join(WORDS[(row * 7 + place * 3) % len(WORDS)] for place in range(12)) for row in range(80)]
    data.write_text("".join(json.dumps({"text": f"{row} {text}."}) + "\n" for row, text in enumerate(rows)))
    profiles = tmp_path / "profiles" / "tiny"
    profiles.mkdir(parents=True)
    (profiles / "tokenizer.toml").write_text(_TOKENIZER.format(data=data))
    (profiles / "pretrain.toml").write_text(_PRETRAIN.format(data=data))
    long = _PRETRAIN.format(data=data).replace("max_steps = 30", "max_steps = 100000")
    (profiles / "long.toml").write_text(long)
    return tmp_path


@pytest.fixture
def app(home: Path) -> MinimindApp:
    """The app on that home."""
    return MinimindApp()


async def until(pilot: Pilot[None], true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Waits for something to become true; fails when it does not."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        await pilot.pause(0.05)
