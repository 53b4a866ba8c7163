"""Answers of a teacher as conversations."""

import json
from collections.abc import Callable
from pathlib import Path

from engine.curation.distil import distil
from engine.curation.recipe import Asking
from tests.curation.taught import ENDLESS, KNOWS, prompts, rows_of
from tests.evaluation.helpers import write_rows


def test_the_teacher_answers_every_prompt(ask: Callable[..., Asking], tmp_path: Path) -> None:
    data = prompts(tmp_path / "in.jsonl", [*KNOWS, ENDLESS])
    asking = ask(data, temperature=0.0)
    found = distil(asking)
    rows = rows_of(asking.out)
    assert [(row.messages[0].content, row.messages[1].content) for row in rows] == list(KNOWS.items())
    assert [row.extra["reward"] for row in rows] == [1.0, 1.0, 0.0, 0.0]
    assert found["dropped"] == {"the answer is cut off": 1} and found["truncated"] == 1
    assert found["pass_at_1"] == 2 / 5 and found["mean_reward"] is None and found["mean_reward_kept"] == 0.5


def test_turns_before_stay_and_unknown_answers_have_no_reward(ask: Callable[..., Asking], tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "一"}, {"role": "user", "content": "name 2"},
        {"role": "assistant", "content": "two"}, {"role": "user", "content": "name 1"},
    ]  # fmt: skip
    data = write_rows(tmp_path / "in.jsonl", [{"messages": turns, "reward": 7, "lang": "en"}] * 3)
    asking = ask(data, temperature=0.7, max_rows=2)
    found = distil(asking)
    assert found["asked"] == 2 and found["pass_at_1"] is None
    for line in asking.out.read_text().splitlines():
        row = json.loads(line)
        assert row["conversations"][:4] == turns and row["conversations"][4]["role"] == "assistant"
        assert row["source"] == "teacher@best" and row["lang"] == "en"
        assert "reward" not in row  # that was another reply's
