"""Rows of reasoning_gym: with the package, without it, and with one that would run what a model says."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.rewards import checks
from engine.rewards.checks import can_check, is_correct, reasoning_gym_available
from engine.rewards.reward_set import RewardSet
from engine.settings.rewards import RewardSettings
from tests.rewards.made import said

COUNT_BITS = {"rg": {"dataset": "count_bits", "seed": 1234, "size": 110, "index": 6}}
SORTING = {"rg": {"dataset": "word_sorting", "seed": 1234, "size": 110, "index": 3}}
CHAIN = {"rg": {"dataset": "chain_sum", "seed": 1234, "size": 110, "index": 3}}

PACKAGE = """
from reasoning_gym.dataset import ProceduralDataset

class Plain(ProceduralDataset):
    pass

class Evaluates(ProceduralDataset):
    def score_answer(self, answer, entry):
        return float(eval(answer) == 3)

MADE = []

def create_dataset(name, seed, size):
    MADE.append(name)
    return {"plain": Plain, "n_queens": Evaluates}[name](seed, size)
"""
DATASET = """
class ProceduralDataset:
    def __init__(self, seed, size):
        self.seed, self.size = seed, size

    def __getitem__(self, index):
        return {"answer": str(self.seed + index)}

    def score_answer(self, answer, entry):
        return 1.0 if answer == entry["answer"] else 0.5 if entry["answer"] in answer else 0.0
"""


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """What was loaded from one package is not used with another."""
    yield
    checks._gym_entry.cache_clear()
    checks._gym_dataset.cache_clear()


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is not installed."""
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)


@pytest.fixture
def made_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A package of the same form, with a scorer that evaluates answers as some of the real ones do."""
    folder = tmp_path / "reasoning_gym"
    folder.mkdir()
    (folder / "__init__.py").write_text(PACKAGE)
    (folder / "dataset.py").write_text(DATASET)
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "reasoning_gym"}
    monkeypatch.syspath_prepend(str(tmp_path))
    import reasoning_gym

    yield reasoning_gym
    for name in [name for name in sys.modules if name.split(".")[0] == "reasoning_gym"]:
        del sys.modules[name]
    sys.modules.update(kept)


def _row(dataset: object, seed: object = 1, size: object = 10, index: object = 2) -> dict[str, Any]:
    return {"rg": {"dataset": dataset, "seed": seed, "size": size, "index": index}}


@pytest.mark.usefixtures("absent")
def test_without_the_package_the_expected_answer_decides() -> None:
    assert not reasoning_gym_available()
    assert not can_check("reasoning_gym", COUNT_BITS)
    for right in ("16", "<answer>16.0</answer>", "There are 16."):
        assert is_correct(right, "16", "reasoning_gym", COUNT_BITS) == 1.0
    for wrong in ("17", "<answer>16 bits</answer>", ""):
        assert is_correct(wrong, "16", "reasoning_gym", COUNT_BITS) == 0.0
    assert is_correct("a, b", "a, b", "reasoning_gym", SORTING) == 1.0
    assert is_correct("b, a", "a, b", "reasoning_gym", SORTING) == 0.0


@pytest.mark.usefixtures("absent")
def test_rows_that_fell_back_are_counted() -> None:
    rewards = RewardSet(RewardSettings())
    scored = rewards.score([
        said("16", "16", "reasoning_gym", **COUNT_BITS), said("17", "16", "reasoning_gym", **COUNT_BITS),
        said("3", "3", "number"), said("3", "3"), said("3", "3", "by\x1bhand"),
    ])  # fmt: skip
    assert [each.total for each in scored] == [1, 0, 1, 1, 1]
    assert rewards.fallbacks == {"reasoning_gym": 2, "by␛hand": 1}
    assert not rewards.failures


def test_the_package_scores_what_it_knows(made_package: Any) -> None:
    assert reasoning_gym_available()
    row = _row("plain")
    assert can_check("reasoning_gym", row)
    assert is_correct("<think>9</think><answer>3</answer>", "", "reasoning_gym", row) == 1.0
    assert is_correct("it is 3", "", "reasoning_gym", row) == 0.5
    assert is_correct("4", "4", "reasoning_gym", row) == 0.0
    assert is_correct("4", "", "reasoning_gym", _row("plain", index=3)) == 1.0
    assert made_package.MADE == ["plain"], "a data set is made once"
    rewards = RewardSet(RewardSettings())
    assert rewards.score([said("3", None, "reasoning_gym", **row)])[0].total == 1.0
    assert not rewards.fallbacks and not rewards.failures


def test_a_scorer_that_evaluates_answers_is_never_asked(made_package: Any, tmp_path: Path) -> None:
    row, trace = _row("n_queens"), tmp_path / "ran"
    assert not can_check("reasoning_gym", row)
    assert is_correct(f"open({str(trace)!r}, 'w') or 3", "4", "reasoning_gym", row) == 0.0
    assert is_correct("1+2", "3", "reasoning_gym", row) == 0.0
    assert not trace.exists()


@pytest.mark.usefixtures("made_package")
@pytest.mark.parametrize(
    "row",
    [
        {}, {"rg": None}, {"rg": "plain"}, {"rg": {}}, _row("unknown"), _row(["plain"]), _row("plain", seed="1"),
        _row("plain", size=True), _row("plain", index=10), _row("plain", index=-1), _row("plain", index=1.0),
    ],
)  # fmt: skip
def test_rows_that_name_no_entry_fall_back(row: dict[str, Any]) -> None:
    assert not can_check("reasoning_gym", row)
    assert is_correct("it is 3", "3", "reasoning_gym", row) == 1.0


def test_with_the_real_package() -> None:
    pytest.importorskip("reasoning_gym")
    assert is_correct("<think>…</think><answer>16</answer>", "16", "reasoning_gym", COUNT_BITS) == 1.0
    assert is_correct("17", "16", "reasoning_gym", COUNT_BITS) == 0.0
    scorer = checks._gym_dataset("word_sorting", 1234, 110)
    words = scorer[3]["metadata"]["sorted_words"]
    assert is_correct(", ".join(words), "", "reasoning_gym", SORTING) == 1.0
    assert 0 < is_correct(", ".join(words[:1]), "", "reasoning_gym", SORTING) < 1
    total = checks._gym_dataset("chain_sum", 1234, 110)[3]["answer"]
    for hostile in ("1e999999", "9" * 10_000, "nan", "inf"):
        assert is_correct(hostile, total, "reasoning_gym", CHAIN) < 1
    for name in ("n_queens", "countdown", "puzzle24", "spiral_matrix", "coin_flip"):
        assert not can_check("reasoning_gym", _row(name)), "its scorer runs what it is given"
