"""One taught model for all."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.curation.recipe import Asking
from engine.generation.sampling import SamplingSettings
from engine.text.tokenizer import Tokenizer
from tests.curation.taught import teach


@pytest.fixture(scope="session")
def taught(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teach(tmp_path_factory.mktemp("taught") / "model", tokenizer)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Products of tiny matrices wait for threads longer than they take."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def ask(taught: Path, tmp_path: Path) -> Callable[..., Asking]:
    """What to ask the taught model; the new rows go to out.jsonl."""

    def make(data: Path, temperature: float = 1.0, seed: int = 0, **others: Any) -> Asking:
        sampling = SamplingSettings(temperature=temperature, top_p=1.0, max_new_tokens=12, seed=seed)
        return Asking(data, others.pop("out", tmp_path / "out.jsonl"), taught, "teacher@best", sampling, **others)

    return make
