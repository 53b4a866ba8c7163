"""Rows that pass filters."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.curation.filtering import Filters, filter_rows
from engine.curation.judging import RowJudge, troubles
from engine.errors import DataError, UserError
from engine.rewards.reward_set import RewardSet
from engine.settings.rewards import RewardSettings
from engine.text.tokenizer import Tokenizer
from tests.curation.taught import rows_of
from tests.evaluation.helpers import pair, write_rows


def talk(asked: str, said: str, **columns: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}], **columns}


@pytest.fixture
def run(tmp_path: Path):
    """Filters rows; returns what is kept and the result."""

    def run(rows: list[dict[str, Any]], judge: Any = None, tokenizer: Tokenizer | None = None, **limits: Any):
        data, more = write_rows(tmp_path / "in.jsonl", rows), {} if judge is None else {"judge": judge}
        found = filter_rows(
            data, tmp_path / "out.jsonl", Filters(**limits), tokenizer=tokenizer, overwrite=True, **more
        )  # fmt: skip
        lines, kept = data.read_bytes().splitlines(True), (tmp_path / "out.jsonl").read_bytes().splitlines(True)
        assert found["kept"] == len(kept) and found["rows"] == len(kept) + sum(found["dropped"].values())
        return [lines.index(line) for line in kept], found["dropped"]

    return run


def test_length_in_characters_and_tokens(run, tokenizer: Tokenizer) -> None:
    rows = [talk("q" * 50, "a" * size) for size in (1, 2, 5, 6)]
    assert run(rows, min_chars=2, max_chars=5) == ([1, 2], {"too few characters": 1, "too many characters": 1})
    words = [talk("q", " ".join(["one"] * count)) for count in range(1, 6)]
    sizes = [len(tokenizer.tokenize(" ".join(["one"] * count)).ids) for count in range(1, 6)]
    wanted = [row for row, size in enumerate(sizes) if sizes[1] <= size <= sizes[3]]
    assert run(words, tokenizer=tokenizer, min_tokens=sizes[1], max_tokens=sizes[3])[0] == wanted == [1, 2, 3]
    thinking = talk("q", "a")
    thinking["messages"][1]["reasoning_content"] = "b" * 90
    assert run([thinking, talk("q", "a")], max_chars=80)[0] == [1]
    sides = [pair("q", "aaa", "b"), pair("q", "a", "bbb"), pair("q", "aa", "bb")]
    assert run(sides, min_chars=2)[0] == [2] and run(sides, max_chars=2)[0] == [2]


def test_language(run) -> None:
    rows = [
        talk("who?", "the fox"), talk("who?", "小狐狸"), talk("谁?", "小狐狸"), talk("谁?", "the fox"),
        talk("谁?", "12"), talk("who?", "12"), talk("1 + 1?", "2"), pair("who?", "the fox", "狐狸"),
    ]  # fmt: skip
    assert run(rows, language="en")[0] == [0, 3, 5, 6]
    assert run(rows, language="zh") == ([1, 2, 4, 6], {"another language": 4})


def test_duplicates(run) -> None:
    rows = [talk("a", "b"), talk("a", "c"), talk("a", "b", n=2), {"text": "a"}, {"text": "a"}, pair("a", "b", "c")]
    rows += [pair("a", "b", "c"), pair("a", "c", "b")]
    assert run(rows, distinct=True) == ([0, 1, 3, 5, 7], {"a duplicate": 3})


def test_the_reward_that_rows_hold(run) -> None:
    held = [1, 0.5, 0.49, True, "1", None, 2]
    rows = [talk(f"q{number}", "a", reward=reward) for number, reward in enumerate(held)] + [talk("q", "a")]
    assert run(rows, min_reward=0.5) == ([0, 1, 6], {"no reward": 4, "the reward is too low": 1})
    twice = [talk("q", "a", reward=0), talk("q", "a", reward=1), talk("q", "a", reward=1)]
    assert run(twice, min_reward=1, distinct=True)[0] == [1]  # a copy of a row that was dropped is none


def test_rewards_that_are_given_anew(run, tmp_path: Path, tokenizer: Tokenizer) -> None:
    settings = {"rewards": {"answer": 1.0, "repetition": 1.0}}
    rewards = RewardSet(RewardSettings.model_validate(settings))
    rows = [
        talk("q", "12", answer="12.0", check="number"), talk("q", "13", answer="12", check="number"),
        talk("q", "one one one one one one", answer="one one one one one one"), talk("q", "12"),
        {"prompt": "q", "answer": "12"}, {"text": "12"}, {"messages": [{"role": "user", "content": "12"}]},
    ]  # fmt: skip
    kept, dropped = run(rows, RowJudge(rewards, tokenizer), min_reward=0.9)
    assert kept == [0] and dropped == {"the reward is too low": 3, "no reward": 3}
    failures = troubles(rewards)["failures"]
    assert failures["answer"] == {"answers": 1, "last": "the row has no expected answer"}
    language = RewardSet(RewardSettings(rewards={"language": 1.0}))
    sides = [pair("who?", "the fox", "狐狸"), pair("who?", "狐狸", "the fox")]
    assert run(sides, RowJudge(language, tokenizer), min_reward=1)[0] == [0]


def test_diversity(run) -> None:
    asked = "one two three four five six seven eight nine"  # with the reply 10 triples
    rows = [talk(asked, "ten red foxes"), talk(asked, "ten red dogs"), talk(asked, "ten big dogs"), talk("who?", "me")]
    # 2 shares 9 of 11 triples with the first one, 3 shares 8 of 12
    assert run(rows, diversity=2 / 11 + 0.01) == ([0, 2, 3], {"too similar to an earlier row": 1})
    assert run(rows, diversity=4 / 12 + 0.01)[0] == [0, 3]
    assert run(rows, diversity=2 / 11 - 0.01)[0] == [0, 1, 2, 3]
    system = {"role": "system", "content": "a long prompt that all rows share and that says nothing of them"}
    shared = [{"messages": [system, *talk(f"q{row} a b", f"{row} c d")["messages"]]} for row in range(3)]
    assert run(shared, diversity=0.9)[0] == [0, 1, 2]


def test_a_row_counts_for_the_first_filter_that_it_fails(run) -> None:
    rows = [
        talk("q", "狐狸"),
        talk("q", "狐狸狐狸狐狸"),
        talk("q", "the fox", reward=0),
        talk("q", "a red fox", reward=1),
    ]
    kept, dropped = run(rows * 2, min_chars=6, language="en", min_reward=1, distinct=True, diversity=0.1)
    assert kept == [3]
    assert dropped == {
        "too few characters": 2, "another language": 2, "the reward is too low": 2, "a duplicate": 1
    }  # fmt: skip


def test_more_rows_than_are_judged_at_a_time_keep_their_order(run) -> None:
    rows = [talk(f"q{number}", "a", reward=number % 3) for number in range(700)]
    asked: list[int] = []

    def judge(records: Any) -> list[float | None]:
        asked.append(len(records))
        return [record.extra["reward"] for record in records]

    assert run(rows, judge, min_reward=2)[0] == list(range(2, 700, 3)) and asked == [256, 256, 188]


def test_bad_lines_are_listed_and_what_is_kept_can_be_read(tmp_path: Path) -> None:
    data = tmp_path / "in.jsonl"
    rows = [json.dumps(talk("q", "a" * size), ensure_ascii=False) for size in (1, 9)]
    data.write_text(f"{rows[0]}\n{{broken\n\n[1]\n{rows[1]}", encoding="utf-8")
    seen: list[int] = []
    found = filter_rows(data, tmp_path / "out.jsonl", Filters(min_chars=5), progress=lambda rows, _: seen.append(rows))
    assert [entry["line"] for entry in found["quarantined"]] == [2, 4]
    assert (found["rows"], found["kept"], found["dropped"]) == (4, 1, {"too few characters": 1})
    assert found["mean_reward"] is None
    assert (tmp_path / "out.jsonl").read_text() == rows[1] + "\n" and len(rows_of(tmp_path / "out.jsonl")) == 1


def test_what_makes_no_file(tmp_path: Path) -> None:
    data, out = write_rows(tmp_path / "in.jsonl", [talk("q", "a")]), tmp_path / "out.jsonl"
    with pytest.raises(UserError, match="nothing to filter by"):
        filter_rows(data, out, Filters())
    with pytest.raises(DataError, match="no row is kept: 1 × too few characters"):
        filter_rows(data, out, Filters(min_chars=5))

    def stop(_: Any) -> list[float | None]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filter_rows(data, out, Filters(min_reward=0), judge=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
    with pytest.raises(UserError, match="this is the file that is read"):
        filter_rows(data, data, Filters(min_chars=1), overwrite=True)
