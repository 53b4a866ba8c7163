"""Whether the chosen side of pairs can be told without understanding: by its length, by a word, by the words alone.

A model trained on pairs takes the easiest way to tell the sides apart. Where length or a word does, it learns that.
"""

import heapq
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from engine.text.fingerprints import content_hash, split_key
from engine.text.messages import Message
from engine.text.records import Record

MAX_PAIRS = 10_000
"""Of a larger file, words are looked for in that many pairs, drawn by hash; lengths are compared in all."""

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_HAN}]|[^\W{_HAN}]+(?:['’][^\W{_HAN}]+)*")
_HAN_RUN = re.compile(rf"[{_HAN}]{{2,}}")

_TOP = 5
_MOST_WORDS = 20_000
_STEPS = 200
_L2 = 1e-3

_NOTHING, _HINT = 0.55, 0.65
"""Up to the first an accuracy tells next to nothing, up to the second it is a hint, above a shortcut."""


class _Pair(NamedTuple):
    """The words of a pair that was drawn.

    `order` decides what is drawn. `bag` has a row (word, by how much more often it stands in the chosen side) for each
    word in which the sides differ, shape (words, 2); `first` the same of the first words alone.
    """

    order: int
    number: int
    found_on: bool
    bag: NDArray[np.int64]
    first: NDArray[np.int64]


def shortcut_audit(records: Iterable[Record]) -> dict[str, Any]:
    """How well each shortcut tells the chosen side from the rejected one.

    An accuracy is the share of pairs told right, ties counted half: 0.5 tells nothing. The messages that both sides
    begin with are left out. So are pairs whose sides are the same; they are counted. Words (two han characters side by
    side count as one, too) are looked for in the pairs of one half of the prompts and measured on the other half, so
    that nothing is found by chance. Below 0.5 are files whose words are balanced as a whole: what one half has too
    often the other has too seldom.

    Args:
        records: Records of any shape; only pairs count.

    Returns:
        `pairs`, `same_sides` (pairs), `same_length_share` (in characters); `length_accuracy` of the `length_rule`, the
        best of four. Measured on `measured_pairs`: `word_accuracy` of the best single word (the side that has it more
        often is chosen, or rejected); `first_word_accuracy` and `bag_accuracy` of a guesser that knows nothing but each
        side's first word, or how often each word stands in it; `top_words` and `top_first_words` with rule, accuracy
        and support (pairs that the word decides). `meaning`: a sentence for each accuracy. An accuracy is None where
        there is nothing to measure it on.
    """
    longer: dict[str, Counter[int]] = {"characters": Counter(), "words": Counter()}
    drawn: list[_Pair] = []
    vocabulary: dict[str, int] = {}
    pairs = same = 0
    for record in records:
        if record.shape != "pair":
            continue
        pairs += 1
        if record.messages == record.rejected:
            same += 1
            continue
        chosen, rejected = _replies(record)
        tokens = words_of(chosen), words_of(rejected)
        longer["characters"][_sign(len(chosen) - len(rejected))] += 1
        longer["words"][_sign(len(tokens[0]) - len(tokens[1]))] += 1
        order = -content_hash(record)
        if len(drawn) < MAX_PAIRS or order > drawn[0].order:
            bag = _difference(tokens[0] + _bigrams(chosen), tokens[1] + _bigrams(rejected), vocabulary)
            first = _difference(tokens[0][:1], tokens[1][:1], vocabulary)
            pair = _Pair(order, pairs, split_key(record) < 0.5, bag, first)
            (heapq.heappush if len(drawn) < MAX_PAIRS else heapq.heapreplace)(drawn, pair)
    found = {**_by_length(longer), **_by_words(drawn, list(vocabulary))}
    return {"pairs": pairs, "same_sides": same, **found, "meaning": _meaning(found, pairs - same)}


def words_of(text: str) -> list[str]:
    """The words of a text in lower case; each han character is one."""
    return [word.lower() for word in _WORD.findall(text)]


def _bigrams(text: str) -> list[str]:
    return [run[at : at + 2] for run in _HAN_RUN.findall(text) for at in range(len(run) - 1)]


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)


def _replies(record: Record) -> tuple[str, str]:
    """What each side says after the messages that both begin with."""
    sides, shared = (record.messages, record.rejected), 0
    while shared < min(map(len, sides)) and sides[0][shared] == sides[1][shared]:
        shared += 1
    chosen, rejected = ("\n".join(map(_said, side[shared:])) for side in sides)
    return chosen, rejected


def _said(message: Message) -> str:
    calls = orjson.dumps(message.tool_calls).decode() if message.tool_calls else ""
    return "\n".join(part for part in (message.reasoning_content, message.content, calls) if part)


def _difference(chosen: list[str], rejected: list[str], vocabulary: dict[str, int]) -> NDArray[np.int64]:
    counts = Counter(chosen)
    counts.subtract(rejected)
    found = [(vocabulary.setdefault(word, len(vocabulary)), count) for word, count in counts.items() if count]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def _by_length(longer: dict[str, Counter[int]]) -> dict[str, Any]:
    total = longer["characters"].total()
    if not total:
        return {"same_length_share": None, "length_accuracy": None, "length_rule": None}
    rules = {
        f"{name} in {unit}": (signs[side] + signs[0] / 2) / total
        for unit, signs in longer.items()
        for name, side in (("longer", 1), ("shorter", -1))
    }
    rule = max(rules, key=lambda name: rules[name])
    return {
        "same_length_share": longer["characters"][0] / total, "length_accuracy": rules[rule], "length_rule": rule
    }  # fmt: skip


class _Half:
    """Differences of the pairs of one half, as flat arrays of shape (entries,).

    Args:
        differences: Those of each pair.
        words: The size of the vocabulary.
    """

    def __init__(self, differences: Sequence[NDArray[np.int64]], words: int) -> None:
        entries = np.concatenate([np.zeros((0, 2), dtype=np.int64), *differences])
        self.pairs, self.words = len(differences), words
        self.pair = np.repeat(np.arange(self.pairs), [len(difference) for difference in differences])
        self.word, self.more = entries[:, 0], entries[:, 1].astype(np.float64)

    def support(self) -> NDArray[np.int64]:
        """In how many pairs the sides differ in each word, shape (words,)."""
        return np.bincount(self.word, minlength=self.words)

    def wins(self) -> NDArray[np.float64]:
        """Pairs whose chosen side has a word more often minus those whose rejected side has, shape (words,)."""
        return np.bincount(self.word, np.sign(self.more), self.words).astype(np.float64)

    def scores(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The weighted difference of each pair, shape (pairs,)."""
        return np.bincount(self.pair, self.more * weights[self.word], self.pairs).astype(np.float64)


def _by_words(drawn: Sequence[_Pair], vocabulary: Sequence[str]) -> dict[str, Any]:
    found_on = [pair for pair in drawn if pair.found_on]
    measured_on = [pair for pair in drawn if not pair.found_on]
    if not (found_on and measured_on):
        accuracies = dict.fromkeys(("word_accuracy", "first_word_accuracy", "bag_accuracy"))
        return {"measured_pairs": 0, **accuracies, "top_words": [], "top_first_words": []}
    halves = found_on, measured_on
    bag_found, bag_measured = (_Half([pair.bag for pair in half], len(vocabulary)) for half in halves)
    first_found, first_measured = (_Half([pair.first for pair in half], len(vocabulary)) for half in halves)
    words = _best_words(bag_found, bag_measured, vocabulary)
    return {
        "measured_pairs": len(measured_on),
        "word_accuracy": words[0]["accuracy"] if words else 0.5,
        "first_word_accuracy": _guess(first_found, first_measured),
        "bag_accuracy": _guess(bag_found, bag_measured),
        "top_words": words,
        "top_first_words": _best_words(first_found, first_measured, vocabulary),
    }


def _best_words(found_on: _Half, measured_on: _Half, vocabulary: Sequence[str]) -> list[dict[str, Any]]:
    """The words that decide most pairs of one half rightly, with what they do on the other."""
    known, wins, support = found_on.wins(), measured_on.wins(), measured_on.support()
    best = [int(word) for word in np.argsort(-np.abs(known), kind="stable")[:_TOP] if known[word]]
    return [
        {
            "word": vocabulary[word],
            "side": "chosen" if known[word] > 0 else "rejected",
            "accuracy": float(0.5 + np.sign(known[word]) * wins[word] / measured_on.pairs / 2),
            "support": int(support[word]),
        }
        for word in best
    ]


def _guess(found_on: _Half, measured_on: _Half) -> float:
    """The accuracy of a logistic regression on word-count differences, learned on one half, on the other."""
    scores = measured_on.scores(_regress(found_on))
    return float(((scores > 0) + (scores == 0) / 2).mean())


def _regress(half: _Half) -> NDArray[np.float64]:
    """The weights of words that minimise the mean of -log σ(score) + λ/2 |weights|², shape (words,).

    Pairs are scaled to length 1, which leaves their signs and makes the curvature at most 1/4 + λ: so the step of
    Nesterov's accelerated gradient (1983) is known. Words in which a single pair differs are left out.
    """
    support = half.support()
    common = np.argsort(-support, kind="stable")[:_MOST_WORDS]
    is_used = np.zeros(half.words, dtype=bool)
    is_used[common[support[common] > 1]] = True
    used = is_used[half.word]
    pair, word, more = half.pair[used], half.word[used], half.more[used]
    more /= np.sqrt(np.bincount(pair, more**2, half.pairs))[pair]
    weights = ahead = np.zeros(half.words)
    for step in range(_STEPS):
        scores = np.bincount(pair, more * ahead[word], half.pairs)
        pull = 1 / (1 + np.exp(scores)) / half.pairs
        gradient = _L2 * ahead - np.bincount(word, more * pull[pair], half.words)
        before, weights = weights, ahead - gradient / (0.25 + _L2)
        ahead = weights + step / (step + 3) * (weights - before)
    return weights


def _meaning(found: dict[str, Any], pairs: int) -> dict[str, str]:
    """A sentence for each accuracy."""
    word = found["top_words"][0] if found["top_words"] else None
    best = f"the best single word, “{word['word']}” (its side is {word['side']})," if word else "a single word"
    measured = found["measured_pairs"]
    return {
        "length": _sentence(f"taking the side that is {found['length_rule']}", found["length_accuracy"], pairs),
        "word": _sentence(best, found["word_accuracy"], measured),
        "first_word": _sentence("a guesser that sees only the first words", found["first_word_accuracy"], measured),
        "bag": _sentence("a guesser that sees only which words occur", found["bag_accuracy"], measured),
    }


def _sentence(what: str, accuracy: float | None, pairs: int) -> str:
    if accuracy is None:
        return "not measured: there are too few pairs with different prompts"
    noise = 1 / np.sqrt(pairs)  # two standard errors of a fair coin
    verdict = (
        "next to nothing"
        if accuracy <= max(_NOTHING, 0.5 + noise)
        else "a hint that a model may follow"
        if accuracy <= _HINT
        else "a shortcut by which a model wins without learning what the pairs are about"
    )
    return f"{what} tells {accuracy:.1%} of the pairs right: {verdict}"
