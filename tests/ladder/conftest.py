"""A ladder of tiny runs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.ladder.climb import climb
from engine.ladder.rungs import Claim, Figure, Line, Rung
from engine.session import TrainRequest, train
from tests.training.tiny import OF_STAGE, World, request

Climb = Callable[..., list[str]]


def profile(stage: str, world: World, **changes: Any) -> str:
    """A profile of a stage with the tiny settings; the start's shape is inherited, that of a pretraining is its own."""
    start = "" if stage == "pretrain" else "start"
    return request(stage, world.data(stage), world.tokenizer, start_from=start, **changes).profile


def bits(world: World) -> Figure:
    """How well the conversations are predicted."""
    return Figure("bits per byte", "bits_per_byte", str(world.talks), is_share=False)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"))


@pytest.fixture
def ladder(world: World) -> dict[str, Rung]:
    """Pretraining, fine-tuning, an adapter; and a rung that fails, with one that needs it."""
    talks = {"data": str(world.talks)}
    falls = Claim("less", lambda before, after: after < before, compares=True)
    rungs = (
        Rung("pretrain", profile("pretrain", world), {}, {"data": str(world.texts), "tokenizer": str(world.tokenizer)},
             lines=(Line(Figure("loss", "val_loss", is_share=False), before=None),)),
        Rung("broken", profile("sft", world), {"from": "pretrain"}, {"data": str(world.folder / "missing.jsonl")}),
        Rung("orphan", profile("sft", world), {"from": "broken"}, talks),
        Rung("sft", profile("sft", world), {"from": "pretrain"}, talks, lines=(Line(bits(world), falls),)),
        Rung("lora", profile("lora", world), {"from": "sft"}, {**talks, **OF_STAGE["lora"], "learning_rate": 0.05},
             lines=(Line(bits(world), falls), Line(bits(world), before="pretrain"),
                    Line(Figure("trained", "trainable_share"), before=None),
                    Line(Figure("the base", "base_unchanged"), Claim("yes", lambda _, after: after is True),
                         before=None))),
    )  # fmt: skip
    return {rung.name: rung for rung in rungs}


class Carrier:
    """Carries runs out, and knows which; `stop_at` is a run at whose start the program is killed."""

    def __init__(self) -> None:
        self.carried: list[str] = []
        self.told: list[str] = []
        self.stop_at = ""

    def __call__(self, wanted: TrainRequest) -> Mapping[str, Any]:
        if wanted.name == self.stop_at:
            raise KeyboardInterrupt
        self.carried.append(wanted.name)
        return train(wanted)

    def climb(self, ladder: Mapping[str, Rung], names: str, seed: int = 0, again: bool = False) -> list[str]:
        """Climbs; `carried` holds what was trained for it."""
        self.carried = []
        return climb(ladder, seed, names.split(), again=again, train=self, tell=self.told.append)


@pytest.fixture
def carrier() -> Carrier:
    return Carrier()


def only(path: Path, text: str) -> Path:
    """A file of this text."""
    path.write_text(text, encoding="utf-8")
    return path
