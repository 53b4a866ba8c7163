"""Checks: where the answer stands in what was said, and whether it is right. Nothing that a model said is evaluated."""

import importlib
import importlib.util
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from engine.text.shapes import closing_answer

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
"""What marks thoughts and answer, in the order in which they stand."""

_NUMBER = re.compile(
    r"(?:(?<![0-9A-Za-z)])[+-])?"  # a minus between two operands is no sign
    r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9])|[0-9]+|(?<![0-9.])(?=\.[0-9]))"  # 1,000 or 1000 or nothing before .5
    r"(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,6})?"
)
_PLAIN = str.maketrans("０１２３４５６７８９．－＋−", "0123456789.-+-")

_SAFE_SCORERS = (
    "ab", "chain_sum", "circuit_logic", "decimal_chain_sum", "dice", "family_relationships", "mini_sudoku", "path_star",
    "products", "sentence_reordering", "spell_backward", "sudoku", "tsumego", "word_ladder", "word_sorting",
    "zebra_puzzles",
)  # fmt: skip
"""Data sets of reasoning_gym with a scorer of their own that was read and only compares. Some others hand answers to
`eval`, `sympy.parse_expr` or `Fraction`, where a model's words can run code or never end."""


def final_answer(said: str) -> str:
    """The answer in what was said, without white space at its ends.

    What stands in the last `<answer>…</answer>`, else what follows the last `</think>`, else the whole text; empty
    where the text has tags but neither of these. Of this, what follows `####` where the last line begins with it.
    """
    end = said.rfind("</answer>")
    start = said.rfind("<answer>", 0, end) if end >= 0 else -1
    if start >= 0:
        return closing_answer(said[start + len("<answer>") : end].strip())
    _, thought, after = said.rpartition("</think>")
    if not thought and any(tag in said for tag in TAGS):
        return ""
    return closing_answer(after.strip())


def is_well_formed(text: str) -> bool:
    """Whether a text is `<think>…</think><answer>…</answer>`.

    Each tag occurs once and in this order, with nothing but white space outside.
    """
    if any(text.count(tag) != 1 for tag in TAGS):
        return False
    before, _, rest = text.partition("<think>")
    _, closed, rest = rest.partition("</think>")
    between, opened, rest = rest.partition("<answer>")
    _, ended, after = rest.partition("</answer>")
    return bool(closed and opened and ended) and not (before + between + after).strip()


def is_correct(said: str, answer: str, check: str | None, extra: Mapping[str, Any]) -> float:
    """How right an answer is.

    Args:
        said: All that the model said, tags included.
        answer: The expected answer, or a solution that ends with it as GSM8K's do.
        check: `exact`: the final answer equals it. `number`: the final answer is a number of the same value (thousands
            separators, full-width digits, zeros at the ends and a full stop aside); where no `<answer>` marks it, the
            last number that follows the thoughts counts. `reasoning_gym`: the score of that package. None: exact, or
            the final answer and the expected one are numbers of the same value. Any other, and `reasoning_gym` where
            `can_check` says no: `number` where the expected answer is one, else exact.
        extra: The row's other fields; `rg` names the package's entry.

    Returns:
        1 right, 0 wrong; with `reasoning_gym` also what lies between.
    """
    if check == "reasoning_gym" and (scorer := _gym_scorer(extra)):
        return min(max(float(scorer(final_answer(said))), 0.0), 1.0)
    given, expected = final_answer(said), closing_answer(answer.strip())
    if given == expected:
        return 1.0
    value = _number(expected)
    if check == "exact" or value is None:
        return 0.0
    if check is None or "<answer>" in said or "</answer>" in said:
        return float(_number(given) == value)
    return float(_last_number(given) == value)


def score_or_wrong(said: str, answer: str, check: str | None, extra: Mapping[str, Any]) -> float:
    """`is_correct`, and 0 where the check itself fails: scorers of reasoning_gym raise whatever they like."""
    try:
        return is_correct(said, answer, check, extra)
    except Exception:
        return 0.0


def can_check(check: str | None, extra: Mapping[str, Any]) -> bool:
    """Whether `is_correct` does what `check` asks for; otherwise it compares with the expected answer."""
    return check in (None, "exact", "number") or (check == "reasoning_gym" and _gym_scorer(extra) is not None)


def reasoning_gym_available() -> bool:
    """Whether the package `reasoning-gym` is installed."""
    return importlib.util.find_spec("reasoning_gym") is not None


def _number(text: str) -> Decimal | None:
    """The value of a text that is a number and nothing else, a full stop after it aside."""
    plain = text.translate(_PLAIN).strip().removesuffix("。").removesuffix(".")
    return _value(plain) if _NUMBER.fullmatch(plain) else None


def _last_number(text: str) -> Decimal | None:
    found = ""
    for match in _NUMBER.finditer(text.translate(_PLAIN)):
        found = match[0]
    return _value(found) if found else None


def _value(number: str) -> Decimal:
    return Decimal(number.replace(",", ""))  # compares without writing zeros out: 1e999999 costs nothing


def _gym_scorer(extra: Mapping[str, Any]) -> Callable[[str], float] | None:
    """What scores an answer to the row's entry; None where the package is missing or cannot be used for it."""
    entry = extra.get("rg")
    if not isinstance(entry, Mapping) or not reasoning_gym_available():
        return None
    name, numbers = entry.get("dataset"), [entry.get(key) for key in ("seed", "size", "index")]
    if not isinstance(name, str) or not all(type(number) is int and number >= 0 for number in numbers):
        return None
    return _gym_entry(name, *numbers)


@lru_cache(maxsize=1024)
def _gym_entry(name: str, seed: int, size: int, index: int) -> Callable[[str], float] | None:
    if index >= size or (dataset := _gym_dataset(name, seed, size)) is None:
        return None
    try:
        entry = dataset[index]
    except Exception:  # the package's generators raise whatever they like
        return None
    return lambda answer: float(dataset.score_answer(answer, entry))


@lru_cache(maxsize=64)
def _gym_dataset(name: str, seed: int, size: int) -> Any:
    package = importlib.import_module("reasoning_gym")
    inherited = importlib.import_module("reasoning_gym.dataset").ProceduralDataset.score_answer
    try:
        dataset = package.create_dataset(name, seed=seed, size=size)
    except Exception:
        return None
    only_compares = name in _SAFE_SCORERS or type(dataset).score_answer is inherited
    return dataset if only_compares else None
