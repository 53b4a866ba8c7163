"""Two-digit sums with worked steps.

One digit at a time, the carry or borrow always written, 0 included: each step then has one fixed form, which is what
lets a model of a million parameters learn it. A pair of operands is held out in both orders and for both operations.
"""

import random
from dataclasses import dataclass

from engine.text.starter.wording import Language

HELD_OUT_SHARE = 0.3
WORDING: dict[Language, str] = {"en": "What is {sum}?", "zh": "{sum}等于多少？"}


@dataclass(frozen=True, slots=True)
class Sum:
    """`left` + or − `right`, both from 10 to 99; a difference is never negative."""

    left: int
    operation: str
    right: int

    def __str__(self) -> str:
        return f"{self.left}{self.operation}{self.right}"

    @property
    def result(self) -> int:
        """The sum's value."""
        return self.left + self.right if self.operation == "+" else self.left - self.right

    @property
    def steps(self) -> str:
        """The worked steps, ones before tens: `13-5=8 5-1-1=3` for 53-15."""
        (a, ones), (b, others) = divmod(self.left, 10), divmod(self.right, 10)
        if self.operation == "+":
            carry = (ones + others) // 10
            return f"{ones}+{others}={ones + others} {a}+{b}+{carry}={a + b + carry}"
        borrow = int(ones < others)
        first = ones + 10 * borrow
        return f"{first}-{others}={first - others} {a}-{b}-{borrow}={a - b - borrow}"

    @property
    def text(self) -> str:
        """One line of pretraining text: the sum, its steps, its value."""
        return f"{self}: {self.steps} {self.result}"

    @property
    def reasoned(self) -> str:
        """The answer with its steps."""
        return f"<think>{self.steps}</think><answer>{self.result}</answer>"

    @property
    def direct(self) -> str:
        """The answer without steps."""
        return f"<answer>{self.result}</answer>"

    def question(self, language: Language) -> str:
        """How a user asks for it."""
        return WORDING[language].format(sum=self)


class Sums:
    """All sums, split by operand pair.

    Attributes:
        training: Every sum of the training pairs, shuffled.
        held_out: One sum for each held-out pair, shuffled.
    """

    def __init__(self, rng: random.Random) -> None:
        pairs = [(high, low) for high in range(10, 100) for low in range(10, high + 1)]
        rng.shuffle(pairs)
        cut = round(len(pairs) * HELD_OUT_SHARE)
        self.held_out = [rng.choice(_of_pair(*pair)) for pair in pairs[:cut]]
        self.training = [one for pair in pairs[cut:] for one in _of_pair(*pair)]
        rng.shuffle(self.training)


def _of_pair(high: int, low: int) -> list[Sum]:
    """The different sums of two operands, the larger first."""
    orders = [(high, low)] if high == low else [(high, low), (low, high)]
    return [Sum(left, "+", right) for left, right in orders] + [Sum(high, "-", low)]
