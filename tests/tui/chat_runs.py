"""Two tiny runs to talk with, trained once and copied to every home that wants them."""

import json
import shutil
import tempfile
from pathlib import Path

from engine.session import TrainRequest, train

_SETTINGS = ("max_steps=1", "warmup_steps=0", "max_position_embeddings=8192", "eval_interval=0")
_trained: list[tempfile.TemporaryDirectory[str]] = []


def put_chat_runs(home: Path) -> None:
    """`tiny-pretrain` continues text, `tiny-chat` answers; one step each, so neither has learnt to end."""
    if _trained:
        shutil.copytree(Path(_trained[0].name) / "runs", home / "runs")
        return
    rows = [{"conversations": [{"role": "user", "content": f"where is cat {row}?"},
                               {"role": "assistant", "content": "<think>a mat</think>on a red mat"}]}
            for row in range(12)]  # fmt: skip
    (home / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    profiles = home / "profiles" / "tiny"
    lines = (profiles / "pretrain.toml").read_text().replace('"pretrain"', '"sft"').splitlines()
    lines = [f'data = "{home / "chat.jsonl"}"' if line.startswith("data") else line for line in lines]
    (profiles / "chat.toml").write_text("\n".join(lines))
    train(TrainRequest("tiny/tokenizer"))
    train(TrainRequest("tiny/pretrain", assignments=_SETTINGS))
    train(TrainRequest("tiny/chat", assignments=_SETTINGS))
    _trained.append(tempfile.TemporaryDirectory())
    shutil.copytree(home / "runs", Path(_trained[0].name) / "runs")
