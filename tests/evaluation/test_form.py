"""The form of answers by hand."""

import pytest

from engine.evaluation.form import AnswerForm, DistinctGrams


def test_distinct_grams_count_over_all_answers() -> None:
    one, two = DistinctGrams(1), DistinctGrams(2)
    for ids in ([1, 2, 1, 2], [2, 1], [3], []):
        one.add(ids)
        two.add(ids)
    assert one.share == pytest.approx(3 / 7)  # 1 2 3 among seven tokens
    assert two.share == pytest.approx(2 / 4)  # 12 21 among 12 21 12 · 21; no bigram goes from answer to answer
    assert DistinctGrams(2).share is None


def test_figures_by_hand() -> None:
    form = AnswerForm()
    form.add([1, 1, 1, 1, 1], "<think>a</think><answer>b</answer>", truncated=False)
    form.add([1, 2, 3], "b", truncated=True)
    form.add([], "", truncated=False)
    assert form.figures() == pytest.approx(
        {
            "format_rate": 1 / 3,
            "repetition_rate": (2 / 3) / 3,  # three times the same 3-gram; once another; none
            "truncated_rate": 1 / 3,
            "mean_tokens": 8 / 3,
            "distinct_1": 3 / 8,
            "distinct_2": 3 / 6,
        }
    )


def test_without_answers_there_are_no_figures() -> None:
    figures = AnswerForm().figures()
    assert set(figures.values()) == {None} and len(figures) == 6
