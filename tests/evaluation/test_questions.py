"""What counts as a question, and as its right answer."""

import json
from pathlib import Path

import pytest

from engine.evaluation.questions import Question, is_right, passes, question_of
from engine.text.records import Record, open_records


def _records(path: Path, rows: list[dict[str, object]]) -> list[Record]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return list(open_records(path).records())


def test_questions_are_found_in_every_shape_that_has_an_answer(tmp_path: Path) -> None:
    asked = {"role": "user", "content": "1+1?"}
    rows: list[dict[str, object]] = [
        {"question": "1+1?", "answer": "2", "lang": "en"},
        {"prompt": "1+1?", "completion": "2"},
        {"instruction": "1+1?", "input": "", "output": "2"},
        {"conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]},
        {"messages": [asked, {"role": "assistant", "content": "2"}]},
        {"conversations": [asked, {"role": "assistant", "content": ""}], "gt": ["2"]},
    ]
    found = [question_of(record) for record in _records(tmp_path / "rows.jsonl", rows)]
    assert [(each.messages[-1].content, each.expected) for each in found if each] == [("1+1?", "2")] * len(rows)
    assert [each.bare for each in found if each] == [False] * 5 + [True]
    assert found[0] and found[0].labels == {"lang": "en"}


def test_rows_without_a_known_answer_are_no_questions(tmp_path: Path) -> None:
    asked = {"role": "user", "content": "1+1?"}
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "add", "arguments": {}}]}
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    rows: list[dict[str, object]] = [
        {"text": "1+1=2"},
        {"messages": [asked]},
        {"messages": [asked, call], "tools": [tool]},
        {"messages": [asked, {"role": "assistant", "content": "2"}], "tools": [tool]},
    ]
    assert [question_of(record) for record in _records(tmp_path / "rows.jsonl", rows)] == [None] * len(rows)


@pytest.mark.parametrize(
    ("expected", "bare", "said", "right"),
    [
        ("2", False, " 2\n", True),
        ("2", False, "2.", False),
        ("2", True, "1+1 is <answer> 2 </answer>", True),
        ("2", True, "<answer>3</answer> 2", False),
        ("2", False, "<answer>2</answer>", False),
        ("2", False, "<think>\nhm\n</think>\n\n2", True),
        ("2", True, "<think><answer>3</answer></think><answer>2</answer>", True),
        ("<think>hm</think>2", False, "<think>hm</think>2", True),
        ("<think>hm</think>2", False, "2", False),
    ],
)
def test_right_answers(expected: str, bare: bool, said: str, right: bool) -> None:
    assert is_right(Question((), expected, bare, {}), said) is right


def test_a_check_looks_at_the_final_answer(tmp_path: Path) -> None:
    asked = {"role": "user", "content": "1+1?"}
    rows: list[dict[str, object]] = [
        {"conversations": [asked, {"role": "assistant", "content": ""}], "answer": "2", "check": "number"},
        {"conversations": [asked, {"role": "assistant", "content": ""}], "answer": "2", "check": "exact"},
        {"messages": [asked, {"role": "assistant", "content": "<think>hm</think><answer>2</answer>"}]},
        {"messages": [asked, {"role": "assistant", "content": "<think>hm"}]},
        {"conversations": [asked, {"role": "assistant", "content": ""}], "answer": ""},
    ]
    number, exact, reasoned, torn, empty = (question_of(record) for record in _records(tmp_path / "rows.jsonl", rows))
    assert number and exact and reasoned and torn and empty
    assert passes(number, "that is 2.0") and not is_right(number, "that is 2.0")
    assert not passes(exact, "that is 2") and passes(exact, "<think>one, one</think> 2")
    assert passes(reasoned, "<think>other thoughts</think>\n<answer>2</answer>")
    assert not is_right(reasoned, "<think>other thoughts</think>\n<answer>2</answer>")
    assert not passes(torn, "<think>other thoughts") and passes(torn, "<think>hm")  # no final answer: the whole counts
    assert passes(empty, " ") and not passes(empty, "2")


def test_a_score_between_wrong_and_right_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    for score, passed in ((0.99, False), (1.0, True)):
        monkeypatch.setattr("engine.evaluation.questions.score_or_wrong", lambda *_, score=score: score)
        assert passes(Question((), "2", True, {}, answer="2", check="reasoning_gym"), "almost") is passed


def test_what_is_not_known_is_not_right() -> None:
    assert not is_right(Question((), None, False, {}), "") and not passes(Question((), None, False, {}), "")
