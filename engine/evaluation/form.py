"""The form of answers: what can be seen without knowing what is right."""

from collections.abc import Sequence

from engine.rewards.checks import is_well_formed
from engine.rewards.repetition import repeated_share


class DistinctGrams:
    """distinct-n: different n-grams / all n-grams over many answers (after Li et al., arXiv 1510.03055).

    It falls with the number of answers, so only figures over the same questions can be compared.

    Args:
        n: Tokens an n-gram.
    """

    def __init__(self, n: int) -> None:
        self._n, self._total = n, 0
        self._seen: set[tuple[int, ...]] = set()

    def add(self, ids: Sequence[int]) -> None:
        """Takes in an answer's token ids."""
        grams = list(zip(*(ids[start:] for start in range(self._n)), strict=False))
        self._total += len(grams)
        self._seen.update(grams)

    @property
    def share(self) -> float | None:
        """Above 0, at most 1; None where no answer has n tokens."""
        return len(self._seen) / self._total if self._total else None


class AnswerForm:
    """Figures over many answers, which are not kept."""

    def __init__(self) -> None:
        self._answers = self._well_formed = self._truncated = self._tokens = 0
        self._repeated = 0.0
        self._distinct = {"distinct_1": DistinctGrams(1), "distinct_2": DistinctGrams(2)}

    def add(self, ids: Sequence[int], text: str, *, truncated: bool) -> None:
        """Takes in an answer: its token ids without the stop token, its text, and whether no stop token ended it."""
        self._answers += 1
        self._well_formed += is_well_formed(text)
        self._truncated += truncated
        self._tokens += len(ids)
        self._repeated += repeated_share(ids)
        for grams in self._distinct.values():
            grams.add(ids)

    def figures(self) -> dict[str, float | None]:
        """The figures by name, each None where there was no answer.

        format_rate: the share of `<think>…</think><answer>…</answer>`. repetition_rate: the mean share of 3-grams of
        tokens that were said before in the same answer. distinct_1, distinct_2: of all answers together.
        truncated_rate: the share that no stop token ended. mean_tokens: the mean length.
        """
        totals = {
            "format_rate": self._well_formed, "repetition_rate": self._repeated, "truncated_rate": self._truncated,
            "mean_tokens": self._tokens,
        }  # fmt: skip
        means = {name: total / self._answers if self._answers else None for name, total in totals.items()}
        return means | {name: grams.share for name, grams in self._distinct.items()}
