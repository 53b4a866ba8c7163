"""A user's own reward: what it gets, and all the ways in which it can be wrong."""

from pathlib import Path
from textwrap import dedent

import pytest

from engine.errors import UserError
from engine.rewards.python_reward import PythonReward
from engine.rewards.reward_set import RewardSet
from engine.settings.rewards import RewardSettings
from tests.rewards.made import said


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.py"


def _set(file: Path, source: str, **settings: object) -> RewardSet:
    file.write_text(dedent(source))
    given = {"rewards": {"python": 1.0}, "reward_python": str(file), **settings}
    return RewardSet(RewardSettings.model_validate(given))


def _totals(rewards: RewardSet, *texts: str) -> list[float]:
    return [
        each.total for each in rewards.score([said(text, "三", "exact", lang="zh", asked="几？") for text in texts])
    ]


def test_what_it_gets(file: Path) -> None:
    rewards = _set(
        file,
        """
        def reward(prompt, answer, row):
            assert prompt == [{"role": "user", "content": "几？"}]
            assert row == {"answer": "三", "check": "exact", "lang": "zh"}
            return 0.5 if row["answer"] in answer else False
        """,
    )
    assert _totals(rewards, "是三", "是四") == [0.5, 0]
    assert not rewards.failures and (rewards.low, rewards.high) == (0, 1)


def test_it_is_loaded_once_and_changes_only_copies(file: Path) -> None:
    rewards = _set(
        file,
        """
        calls = []

        def reward(prompt, answer, row):
            calls.append(answer)
            row["lang"] = row["notes"] = prompt[0]["content"] = "gone"
            row["deep"].append(1)
            return len(calls) / 10 if row["deep"] == [1] else 0
        """,
    )
    deep: list[int] = []
    completions = [said("a", deep=deep), said("b", deep=deep)]
    assert [each.total for each in rewards.score(completions)] == [0.1, 0.2]
    assert completions[0].extra == {"deep": []} and completions[0].prompt[0].content == "What is one plus two?"


def test_what_fails_costs_only_the_answer_it_fails_for(file: Path) -> None:
    rewards = _set(
        file,
        """
        import sys

        def reward(prompt, answer, row):
            if answer == "raise":
                return 1 / 0
            if answer == "exit":
                sys.exit(3)
            if answer == "escape":
                raise ValueError("\\x1b[2Jcleared\\nline")
            given = {"nan": float("nan"), "inf": float("inf"), "text": "1.0", "none": None, "huge": 10**400}
            return given.get(answer, 1)
        """,
        reward_failure=-0.5,
    )
    assert _totals(rewards, "good", "raise", "good") == [1, -0.5, 1]
    assert rewards.failures == {"python": 1}
    assert rewards.last_error["python"] == "mine.py:6: ZeroDivisionError: division by zero"
    for text, reason in (
        ("exit", "mine.py:8: SystemExit: 3"), ("escape", "mine.py:10: ValueError: ␛[2Jcleared␊line"),
        ("nan", "nan"), ("inf", "inf"), ("text", "not str"), ("none", "not NoneType"), ("huge", "OverflowError"),
    ):  # fmt: skip
        assert _totals(rewards, text) == [-0.5]
        assert reason in rewards.last_error["python"]
    assert rewards.failures == {"python": 8}
    assert not rewards.clipped
    assert (rewards.low, rewards.high) == (-0.5, 1), "what failing scores is part of the range"


def test_an_error_that_cannot_say_what_it_is(file: Path) -> None:
    rewards = _set(
        file,
        """
        class Silent(Exception):
            def __str__(self):
                raise RuntimeError

        def reward(prompt, answer, row):
            raise Silent
        """,
    )
    assert _totals(rewards, "x") == [0]
    assert "Silent" in rewards.last_error["python"]


def test_values_outside_its_range_are_cut_and_counted(file: Path) -> None:
    source = "LOW, HIGH = -2, 3\ndef reward(prompt, answer, row):\n    return float(answer)\n"
    rewards = _set(file, source, rewards={"python": 2.0})
    assert (rewards.low, rewards.high) == (-4, 6)
    assert _totals(rewards, "-5", "-2", "3", "1e300") == [-4, -4, 6, 6]
    assert rewards.clipped == {"python": 2} and not rewards.failures


def test_dataclasses_and_postponed_annotations_work(file: Path) -> None:
    rewards = _set(
        file,
        """
        from __future__ import annotations
        from dataclasses import dataclass
        from typing import ClassVar

        @dataclass
        class Rule:
            word: str
            worth: ClassVar[float] = 0.25

        def reward(prompt: list[dict], answer: str, row: dict) -> float:
            return Rule(answer).worth
        """,
    )
    assert _totals(rewards, "x") == [0.25]


@pytest.mark.parametrize(
    ("source", "line", "reason"),
    [
        ("def reward(:\n", ":1", "SyntaxError"),
        ("x = 1\ndef f():\n    return y\nf()\n", ":3", "NameError"),
        ("import not_there_at_all\n", ":1", "ModuleNotFoundError"),
        ("raise SystemExit(0)\n", ":1", "SystemExit"),
        ("x = '\0'\n", "", "null bytes"),
        ("def rewards(prompt, answer, row):\n    return 1\n", "", "defines no function reward"),
        ("reward = 1.0\n", "", "defines no function reward"),
        ("def reward(answer):\n    return 1\n", "", "does not take a prompt, an answer and a row"),
        ("def reward(p, a, r): return 1\nLOW = 1\n", "", "LOW the smaller one"),
        ("def reward(p, a, r): return 1\nHIGH = float('inf')\n", "", "finite numbers"),
        ("def reward(p, a, r): return 1\nHIGH = '1'\n", "", "finite numbers"),
    ],
)
def test_a_file_that_cannot_be_used(file: Path, source: str, line: str, reason: str) -> None:
    file.write_text(source)
    with pytest.raises(UserError) as caught:
        PythonReward(file)
    assert caught.value.where == f"{file}{line}" and reason in caught.value.what and caught.value.hint


def test_a_file_in_another_encoding_or_missing(file: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        PythonReward(file)
    file.write_bytes(b"x = '\xff'\n")
    with pytest.raises(UserError, match="utf-8"):
        PythonReward(file)
    with pytest.raises(UserError, match="cannot read"):
        PythonReward(file.parent)
