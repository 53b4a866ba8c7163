"""Small real runs: a world of a few sentences, a tokenizer made of it, models of some ten thousand weights."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from engine.runs.events import Evaluated, Event, Sampled, Step
from engine.runs.folder import RunFolder
from engine.session import TrainRequest, begin, carry_out
from engine.settings.places import runs_folder
from engine.settings.values import value_text
from engine.text.tokenizer_training import train_tokenizer

NAMES = ("Ann", "Bo", "Cem", "Dora", "Eli", "Fay")
THINGS = ("a red kite", "two books", "the old boat", "a small grey stone", "bread", "小猫")
TIMELIKE = {"tokens_per_second", "memory_bytes", "mfu", "rollout_tokens_per_second"}
"""Metrics that differ between two equal runs."""

MODEL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 32,
    "max_position_embeddings": 256,
}
TRAINING = {
    "batch_size": 4,
    "max_seq_len": 48,
    "max_steps": 8,
    "learning_rate": 3e-3,
    "warmup_steps": 2,
    "dtype": "float32",
    "device": "cpu",
    "num_threads": 1,
    "val_fraction": 0.1,
    "log_interval": 1,
    "eval_interval": 0,
    "save_interval": 0,
    "eval_rows": 8,
    "sample_tokens": 4,
}


_RL = {
    "max_seq_len": 24,
    "max_new_tokens": 12,
    "batch_size": 2,
    "accumulation_steps": 2,
    "truncated": "score",
    "rewards": {"length": 1.0, "repetition": 0.5},
    "reward_length_min": 4,
    "reward_length_max": 8,
}
OF_STAGE: dict[str, dict[str, Any]] = {
    "lora": {"lora_rank": 2},
    "reason": {"tag_weight": 10.0},
    "distill": {"teacher": "start"},
    "dpo": {"beta": 0.5},
    "reward": {},
    "grpo": {**_RL, "num_generations": 4, "updates_per_rollout": 2},
    "ppo": {**_RL, "ppo_epochs": 1, "mini_batches": 2},
    "spo": {**_RL, "initial_rollouts": 2, "pool_size": 8, "epochs": 4, "max_steps": 0},
}
"""What a stage needs besides the tiny settings. All of these start from the run `start`, see `World.start`."""


def sentence(dice: random.Random) -> str:
    """A line of the world."""
    return f"{dice.choice(NAMES)} gives {dice.choice(NAMES)} {dice.choice(THINGS)}."


def write_texts(path: Path, rows: int = 60) -> Path:
    """Running text, rows of one to eight sentences."""
    dice = random.Random(7)
    lines = [{"text": " ".join(sentence(dice) for _ in range(dice.randint(1, 8)))} for _ in range(rows)]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def write_talks(path: Path, rows: int = 60) -> Path:
    """Conversations of one or two questions with answers of different lengths."""
    dice = random.Random(8)
    lines = []
    for number in range(rows):
        turns = []
        for _ in range(dice.randint(1, 2)):
            turns.append({"role": "user", "content": f"{number}: who gives what?"})
            turns.append({"role": "assistant", "content": " ".join(sentence(dice) for _ in range(dice.randint(1, 3)))})
        lines.append({"conversations": turns})
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def write_pairs(path: Path, rows: int = 40) -> Path:
    """Questions with a long answer that is preferred to a short one."""
    dice = random.Random(10)
    lines = []
    for number in range(rows):
        asked = {"role": "user", "content": f"{number}: who gives what?"}
        good = " ".join(sentence(dice) for _ in range(2))
        sides = {"chosen": good, "rejected": sentence(dice)}
        lines.append({name: [asked, {"role": "assistant", "content": text}] for name, text in sides.items()})
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def write_prompts(path: Path, rows: int = 24) -> Path:
    """Questions with the answer to check against."""
    dice = random.Random(11)
    lines = [{"prompt": f"{number}: who gives?", "answer": dice.choice(NAMES)} for number in range(rows)]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def write_tokenizer(folder: Path) -> Path:
    """A tokenizer of 320 tokens."""
    dice = random.Random(9)
    train_tokenizer([f"user\nassistant\n{sentence(dice)}" for _ in range(200)], 320).save(folder)
    return folder


def request(
    stage: str, data: Path, tokenizer: Path, name: str = "", start_from: str = "", **changes: Any
) -> TrainRequest:
    """A request for a run of a stage with the tiny settings."""
    folder = data.parent / "profiles"
    folder.mkdir(exist_ok=True)
    profile = folder / f"{stage}.toml"
    settings = {**({} if start_from else MODEL), **TRAINING}
    profile.write_text(f'stage = "{stage}"\n' + "".join(f"{key} = {json.dumps(v)}\n" for key, v in settings.items()))
    assignments = tuple(f"{key}={value_text(value)}" for key, value in changes.items())
    return TrainRequest(
        str(profile), str(data), "" if start_from else str(tokenizer), start_from, assignments, name or stage
    )


def tensors(run: RunFolder, step: int | None = None) -> dict[str, torch.Tensor]:
    """All weights and optimizer states of a checkpoint."""
    folder = run.checkpoint(run.checkpoint_steps()[-1] if step is None else step)
    return {
        f"{path.relative_to(folder)}:{name}": tensor
        for path in sorted(folder.rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of tensors are equal to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def told(events: list[Event]) -> Iterator[tuple[Any, ...]]:
    """What a run said of its steps and evaluations, apart from times."""
    for event in events:
        if isinstance(event, Step):
            metrics = {name: value for name, value in event.metrics.items() if name not in TIMELIKE}
            yield ("step", event.step, event.epoch, event.tokens, metrics)
        elif isinstance(event, Evaluated):
            yield ("evaluated", event.step, event.metrics)
        elif isinstance(event, Sampled):
            yield ("sampled", event.step, event.prompt, event.text, event.stop_reason)


def losses(run: RunFolder) -> list[float]:
    """The loss of every reported step."""
    return [event.metrics["loss"] for event in run.history() if isinstance(event, Step)]


@dataclass(frozen=True)
class World:
    """The files of a tiny world."""

    folder: Path
    texts: Path
    talks: Path
    pairs: Path
    prompts: Path
    tokenizer: Path

    @staticmethod
    def make(folder: Path) -> "World":
        """Writes them."""
        return World(
            folder,
            write_texts(folder / "texts.jsonl"),
            write_talks(folder / "talks.jsonl"),
            write_pairs(folder / "pairs.jsonl"),
            write_prompts(folder / "prompts.jsonl"),
            write_tokenizer(folder / "tokenizer"),
        )

    def data(self, stage: str) -> Path:
        """The file that a stage reads."""
        by_stage = {"pretrain": self.texts, "dpo": self.pairs, "reward": self.pairs}
        asking = dict.fromkeys(("ppo", "grpo", "spo"), self.prompts)
        return (by_stage | asking).get(stage, self.talks)

    def start(self) -> str:
        """The name of a finished fine-tuning run that other stages start from."""
        if not (runs_folder() / "start").exists():
            self.trained("sft", "start")
        return "start"

    def begun(self, stage: str, name: str = "", **changes: Any) -> RunFolder:
        """A run's folder, nothing trained yet."""
        start = changes.pop("start_from", self.start() if stage in OF_STAGE else "")
        changes = {**OF_STAGE.get(stage, {}), **changes}
        return begin(request(stage, self.data(stage), self.tokenizer, name, start, **changes))

    def trained(self, stage: str, name: str = "", **changes: Any) -> RunFolder:
        """A finished run."""
        run = self.begun(stage, name, **changes)
        carry_out(run)
        return run
