"""pass@k: how likely at least one of k answers is right."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import comb, fsum

from engine.errors import UserError
from engine.generation.settings import SamplingSettings

USUAL_KS = (1, 4, 8)


def pass_at_k(n: int, c: int, k: int) -> float:
    """The unbiased estimate of pass@k, 1 − C(n−c, k) / C(n, k) (Chen et al., arXiv 2107.03374, section 2.1).

    Whole numbers of any size: nothing overflows, and the only rounding is that of the result.

    Args:
        n: Answers given.
        c: Right ones among them.
        k: How many of them are drawn, without putting back.

    Raises:
        UserError: k is not from 1 to n.
    """
    if not 1 <= k <= n:
        raise UserError(
            f"pass@{k} cannot be estimated from {n} answers", hint="k is 1 or more, at most the answers a question"
        )
    return (comb(n, k) - comb(n - c, k)) / comb(n, k)


def mean_pass_at_k(right: Iterable[int], n: int, k: int) -> float:
    """The mean of `pass_at_k` over questions of which each has n answers.

    Args:
        right: How many of each question's answers are right; at least one question.
        n: Answers a question.
        k: As in `pass_at_k`.
    """
    estimates = [pass_at_k(n, c, k) for c in right]
    return fsum(estimates) / len(estimates)


@dataclass(frozen=True)
class Trials:
    """How often every question is tried, beside the greedy answer.

    Attributes:
        samples: Answers a question.
        ks: The k of each pass@k; pass@1 is always estimated.
        sampling: How they are drawn; the top-k and top-p cuts change what is measured.

    Raises:
        UserError: There are no samples, or some k is not from 1 to `samples`.
    """

    samples: int
    ks: tuple[int, ...]
    sampling: SamplingSettings

    def __post_init__(self) -> None:
        for k in (1, *self.ks):
            pass_at_k(self.samples, 0, k)
