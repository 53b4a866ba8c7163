"""Where the answer stands and whether it is right: English, Chinese, and what tries to break a check."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.rewards import checks
from engine.rewards.checks import can_check, final_answer, is_correct, is_well_formed, score_or_wrong


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("  42 ", "42"),
        ("<think>6 times 7</think><answer> 42\n</answer>", "42"),
        ("<think>先乘后加</think>\n<answer>四十二</answer>", "四十二"),
        ("<answer>1</answer> no: <answer>2</answer>", "2"),
        ("<answer>a<answer>b</answer>", "b"),
        ("<answer>2</answer> and <answer>3", "2"),
        ("<think>6 times 7</think> It is 42. ", "It is 42."),
        ("no opening tag</think>42", "42"),
        ("<think>still thinking about 42", ""),
        ("<answer>42", ""),
        ("</answer>42<answer>", ""),
        ("", ""),
    ],
)
def test_final_answer(said: str, expected: str) -> None:
    assert final_answer(said) == expected


@pytest.mark.parametrize(
    ("text", "well_formed"),
    [
        ("<think>a</think><answer>b</answer>", True),
        (" <think>\n想\n</think>\n\n<answer>\n三\n</answer>\n", True),
        ("<think></think><answer></answer>", True),
        ("<think>a</think> so <answer>b</answer>", False),
        ("Well: <think>a</think><answer>b</answer>", False),
        ("<think>a</think><answer>b</answer>。", False),
        ("<answer>b</answer><think>a</think>", False),
        ("<think>a<answer>b</answer></think>", False),
        ("<think>a</think><answer>b</answer><answer>b</answer>", False),
        ("<think>a</think><answer>b", False),
        ("</think>a<think><answer>b</answer>", False),
        ("<think>a</think></answer>b<answer>", False),
        ("3", False),
        ("", False),
    ],
)
def test_well_formed(text: str, well_formed: bool) -> None:
    assert is_well_formed(text) is well_formed


@pytest.mark.parametrize(
    ("said", "answer", "right"),
    [
        ("长亭酒一瓢", "长亭酒一瓢", True),
        ("<think>诗</think><answer>长亭酒一瓢</answer>", " 长亭酒一瓢 ", True),
        ("长亭酒一瓢。", "长亭酒一瓢", False),
        ("12:16", "12:16", True),
        ("It is 12:16", "12:16", False),
        ("3.0", "3", False),
        ("Paris", "paris", False),
    ],
)
def test_exact(said: str, answer: str, right: bool) -> None:
    assert is_correct(said, answer, "exact", {}) == right


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ("1000", "1,000"),
        ("1,000", "1000"),
        ("1,234,567.50", "1234567.5"),
        ("3.0", "3"),
        ("3", "3.00"),
        ("42.", "42"),
        ("42。", "42"),
        ("１２３．５", "123.5"),
        ("－７", "-7"),
        ("−7", "-7"),
        ("+7", "7"),
        ("-0", "0"),
        ("007", "7"),
        (".5", "0.5"),
        ("-.5", "-0.50"),
        ("1e3", "1000"),
        ("0.1000000000000000000000000000001", "0.10000000000000000000000000000010"),
    ],
)
def test_numbers_of_one_value(given: str, answer: str) -> None:
    for check in ("number", None):
        assert is_correct(given, answer, check, {}) == 1.0
        assert is_correct(f"<think>3</think><answer>\n{given}\n</answer>", answer, check, {}) == 1.0
        assert is_correct(f"<answer>{given}</answer>", f"{answer}1", check, {}) == 0.0
    assert is_correct(given, answer, "exact", {}) == 0.0


@pytest.mark.parametrize(
    "given",
    [
        "42 apples", "$42", "x = 42", "42%", "42 or 43", "四十二", "4 2", "42..", "1,00", "0,042", "42/1", "", "-", ".",
        "42³", "①",
    ],
)  # fmt: skip
def test_a_marked_answer_must_be_the_number_and_nothing_else(given: str) -> None:
    for answer in ("42", "1", "100", "423"):
        assert is_correct(f"<think>42</think><answer>{given}</answer>", answer, "number", {}) == 0.0


@pytest.mark.parametrize(
    ("said", "last"),
    [
        ("10-3=7", "7"),
        ("There are 3 cats and 12 dogs: 15 animals.", "15"),
        ("一共有１５只动物。", "15"),
        ("答案是-5。", "-5"),
        ("x=-5", "-5"),
        ("It is 10-3", "3"),
        ("pages 3 to 1,500, then", "1500"),
        ("the sum is 2.50.", "2.5"),
        ("on page ...5", "5"),
        ("<think>1 and 2 are 3</think>The answer is 3.", "3"),
        ("1,2,3", "3"),
    ],
)
def test_without_answer_tags_the_last_number_counts(said: str, last: str) -> None:
    assert is_correct(said, last, "number", {}) == 1.0
    assert is_correct(said, last, "exact", {}) == 0.0
    assert is_correct(said, last, None, {}) == 0.0, "where the row does not ask for it, words are no number"


def test_unfinished_answers_and_thoughts_do_not_count() -> None:
    for said in ("<think>is it 42", "<think>1</think><answer>42", "42</answer>", "<answer>no</answer> 42"):
        assert is_correct(said, "42", "number", {}) == 0.0


def test_an_expected_answer_that_is_no_number_is_compared_exactly() -> None:
    assert is_correct("nan", "nan", "number", {}) == 1.0
    assert is_correct("<answer>五</answer>", "五", "number", {}) == 1.0
    assert is_correct("<answer>5</answer>", "五", "number", {}) == 0.0


@pytest.mark.parametrize("hostile", ["1e999999", "-1e999999", "1e-999999", "1e99999999999", "9" * 10_000, "nan", "inf",
                                     "-Infinity", "9" * 1_000_000 + "x", "1," * 200_000, "<answer>" * 50_000,
                                     "٣", "0x10", "1_000", "9**9**9**9", "__import__('os').abort()"])  # fmt: skip
def test_hostile_answers_are_wrong_at_once(hostile: str) -> None:
    started = time.monotonic()
    for said in (hostile, f"<answer>{hostile}</answer>"):
        for check in ("number", "exact", None, "unheard of"):
            assert is_correct(said, "16", check, {}) == 0.0
    assert time.monotonic() - started < 5


def test_hostile_expected_answers_are_found_right_and_wrong() -> None:
    assert is_correct("1e999999", "10e999998", "number", {}) == 1.0
    assert is_correct("1e999999", "1e999998", "number", {}) == 0.0
    assert is_correct("9" * 10_000 + ".0", "9" * 10_000, "number", {}) == 1.0
    assert is_correct("9" * 9_999 + "8", "9" * 10_000, "number", {}) == 0.0


def test_nothing_that_was_said_is_evaluated(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    for said in (f"open({str(trace)!r}, 'w')", f"<answer>open({str(trace)!r}, 'w') or 3</answer>"):
        for check in ("number", "exact", None, "reasoning_gym"):
            assert is_correct(said, "3", check, {}) == 0.0
    assert is_correct("<answer>1+2</answer>", "3", "number", {}) == 0.0
    assert not trace.exists()


def test_how_many_truths_a_row_lists_changes_nothing() -> None:
    for truths in (["3"], ["3", "4"], []):
        assert is_correct("3", "3", "number", {"gt": truths}) == 1.0
        assert is_correct("4", "3", "number", {"gt": truths}) == 0.0


def test_an_unknown_check_falls_back_to_the_expected_answer() -> None:
    assert can_check("exact", {}) and can_check("number", {}) and can_check(None, {})
    assert not can_check("math", {})
    assert is_correct("The sum is 3", "3", "math", {}) == 1.0
    assert is_correct("三", "三", "math", {}) == 1.0
    assert is_correct("四", "三", "math", {}) == 0.0


def test_checks_load_no_torch() -> None:
    code = (
        "import sys, engine.rewards.checks, engine.rewards.registry, engine.rewards.repetition, "
        "engine.rewards.pairwise, engine.rewards.completion, engine.settings.rewards; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_solution_is_known_by_its_last_line() -> None:
    """GSM8K's way to end, in what is said and in what is expected."""
    solution = "24 and 48 make <<24+48=72>>72.\n#### 1,072"
    assert final_answer(solution) == final_answer(f"<think>9</think><answer>{solution}\n</answer>") == "1,072"
    for check in (None, "number"):
        for answer in (solution, "1072"):
            for said in (solution, "1072", "<think>5</think>#### 1072", "<answer>1,072.0</answer>"):
                assert is_correct(said, answer, check, {}) == 1.0
            assert is_correct("72", answer, check, {}) == is_correct("1072\n#### 72", answer, check, {}) == 0.0


def test_a_scorer_that_fails_is_wrong_where_nobody_counts_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(said: str) -> float:
        raise ZeroDivisionError(said)

    monkeypatch.setattr(checks, "_gym_scorer", lambda extra: fails)
    with pytest.raises(ZeroDivisionError):
        is_correct("7", "7", "reasoning_gym", {})
    assert score_or_wrong("7", "7", "reasoning_gym", {}) == 0.0
    assert score_or_wrong("7", "7", None, {}) == 1.0
