"""On-policy pairs and correction pairs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.curation.corrections import correction_pairs
from engine.curation.pairs import preference_pairs
from engine.curation.recipe import Asking
from engine.errors import DataError
from engine.rewards.reward_set import RewardSet
from engine.settings.rewards import RewardSettings
from tests.curation.taught import ENDLESS, KNOWS, RIGHT, prompts, rows_of
from tests.evaluation.helpers import write_rows

Ask = Callable[..., Asking]

SAY = [f"say {number}" for number in range(9)]


def by_words(tmp_path: Path) -> RewardSet:
    """A reward of the user's: a tenth for each word."""
    file = tmp_path / "reward.py"
    file.write_text("def reward(prompt, answer, row):\n    return len(answer.split()) / 10\n")
    return RewardSet(RewardSettings(rewards={"python": 1.0}, reward_python=str(file)))


def test_best_and_worst_become_a_pair(ask: Ask, tmp_path: Path) -> None:
    asking = ask(prompts(tmp_path / "in.jsonl", SAY), copies=6)
    found = preference_pairs(asking, by_words(tmp_path), min_gap=0.1)
    rows = rows_of(asking.out)
    assert len(rows) == found["kept"] >= 7
    for row in rows:
        chosen, rejected = row.messages[-1], row.rejected[-1]
        assert row.shape == "pair" and row.messages[:-1] == row.rejected[:-1] and chosen.role == rejected.role
        words = [len(side.content.split()) / 10 for side in (chosen, rejected)]
        assert words == [row.extra["reward"], row.extra["rejected_reward"]] and words[0] > words[1]
        assert row.extra["source"] == "teacher@best"
    assert found["shortcuts"]["pairs"] == found["kept"]
    assert found["shortcuts"]["length_accuracy"] == 1.0  # a reward for words: length alone tells the sides apart
    assert found["mean_reward_kept"] == pytest.approx(sum(row.extra["reward"] for row in rows) / len(rows))


def test_only_rewards_far_enough_apart_make_a_pair(ask: Ask, tmp_path: Path) -> None:
    asking = ask(prompts(tmp_path / "in.jsonl", SAY), copies=6, overwrite=True)
    gaps = [
        row.extra["reward"] - row.extra["rejected_reward"]
        for row in rows_of(Path(preference_pairs(asking, by_words(tmp_path), 1e-9)["out"]))
    ]
    least = 0.45
    wide = [gap for gap in gaps if gap >= least]
    assert 0 < len(wide) < len(gaps)
    found = preference_pairs(asking, by_words(tmp_path), least)
    kept = [row.extra["reward"] - row.extra["rejected_reward"] for row in rows_of(asking.out)]
    assert kept == wide
    assert found["dropped"] == {"best and worst reward are too close": 9 - len(wide)}
    sure = replace(asking, sampling=replace(asking.sampling, temperature=0.0))
    with pytest.raises(DataError, match="9 × best and worst reward are too close"):
        preference_pairs(sure, by_words(tmp_path), 1e-9)


def test_columns_that_a_pair_cannot_hold_are_told(ask: Ask, tmp_path: Path) -> None:
    asking = ask(prompts(tmp_path / "in.jsonl", SAY, rejected="x", n=1), copies=6)
    found = preference_pairs(asking, by_words(tmp_path), 0.1)
    ((lost, count),) = found["lost"].items()
    assert "rejected" in lost and count == found["kept"]
    assert all(row.extra["n"] == 1 and len(row.messages) == 2 for row in rows_of(asking.out))


def test_wrong_answers_are_corrected(ask: Ask, tmp_path: Path) -> None:
    talk = {"conversations": [{"role": "user", "content": "name 4"}, {"role": "assistant", "content": RIGHT["name 4"]}]}
    said = {"role": "assistant", "content": "It is three.", "reasoning_content": "one two three"}
    counted = {"messages": [{"role": "user", "content": "name 3"}, said], "answer": "three", "check": "exact"}
    asked = [{"prompt": question, "answer": answer, "n": question[-1]} for question, answer in RIGHT.items()]
    tagged = {**counted, "messages": [counted["messages"][0], {**said, "content": "<answer>three</answer>"}]}
    lines = [*asked, talk, counted, tagged, {"messages": [{"role": "user", "content": "who?"}]}]
    lines += [{"prompt": ENDLESS, "answer": "stop"}, {"prompt": "name 1", "answer": " "}]
    asking = ask(write_rows(tmp_path / "in.jsonl", lines), temperature=0.0)
    found = correction_pairs(asking)
    rows = rows_of(asking.out)
    sides = [(row.messages[0].content, row.messages[-1].content, row.rejected[-1].content) for row in rows]
    assert sides == [
        ("name 3", "three", KNOWS["name 3"]),
        ("name 4", "the fox", KNOWS["name 4"]),
        ("name 4", "the fox", KNOWS["name 4"]),
        ("name 3", "<answer>three</answer>", KNOWS["name 3"]),
    ]
    assert rows[3].messages[-1].reasoning_content == "one two three"
    assert rows[0].extra == {"n": "3", "reward": 1.0, "rejected_reward": 0.0, "source": "teacher@best"}
    assert found["dropped"] == {"the model is right": 2, "the answer is cut off": 1} and found["truncated"] == 1
    reasons = {entry["line"]: entry["reason"] for entry in found["quarantined"]}
    assert reasons == {
        6: "its own reply is not right by its check", 8: "its right answer is not known",
        10: "its right answer is not known",
    }  # fmt: skip
    assert found["pass_at_1"] == pytest.approx(2 / 7) and found["mean_reward"] is None
    assert found["shortcuts"]["pairs"] == 4


def test_a_model_that_is_always_right_gives_no_pairs(ask: Ask, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no row is kept: 2 × the model is right"):
        correction_pairs(ask(prompts(tmp_path / "in.jsonl", ["name 1", "name 2"]), temperature=0.0))
    assert not (tmp_path / "out.jsonl").exists()
