"""pass@k against counting every draw."""

from itertools import combinations

import pytest

from engine.errors import UserError
from engine.evaluation.passes import Trials, mean_pass_at_k, pass_at_k
from engine.generation.settings import SamplingSettings


@pytest.mark.parametrize("n", range(1, 9))
def test_pass_at_k_is_the_share_of_draws_with_a_right_answer(n: int) -> None:
    for c in range(n + 1):
        answers = [True] * c + [False] * (n - c)
        for k in range(1, n + 1):
            draws = list(combinations(answers, k))
            assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws), abs=1e-15)


def test_many_answers_lose_no_digits() -> None:
    assert pass_at_k(10_000, 1, 1) == 1e-4
    assert pass_at_k(10_000, 1, 5_000) == 0.5  # the right one is in half of all halves
    assert pass_at_k(4_000, 3_999, 2) == 1
    product = 1.0
    for i in range(2_000 - 37 + 1, 2_001):  # the paper's own numerically stable form
        product *= 1 - 100 / i
    assert pass_at_k(2_000, 37, 100) == pytest.approx(1 - product, rel=1e-12)


def test_the_mean_is_over_questions() -> None:
    # 4 answers, k 2: none right 0, one right 1/2, two right 1 − 1/6
    assert mean_pass_at_k([0, 1, 2], 4, 2) == pytest.approx((0 + 1 / 2 + 5 / 6) / 3)


@pytest.mark.parametrize(("samples", "ks"), [(4, (1, 8)), (0, (1,)), (4, (0,)), (4, (-1,))])
def test_more_than_there_are_answers_is_refused(samples: int, ks: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=f"pass@{ks[-1]} cannot be estimated from {samples} answers"):
        Trials(samples, ks, SamplingSettings())


def test_trials_need_samples() -> None:
    with pytest.raises(UserError, match="from 0 answers"):
        Trials(0, (), SamplingSettings())
