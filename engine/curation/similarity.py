"""Texts that are nearly the same: the Jaccard similarity of their word triples, found by an inverted index.

Prefix filtering (Chaudhuri, Ganti and Kaushik 2006; Bayardo, Ma and Srikant 2007): where all texts have their triples
in one and the same order, two that are similar share one among the first few of each. With the rare ones first, few
others share any. What is found is exact.
"""

import hashlib
from array import array

import numpy as np
from numpy.typing import NDArray

from engine.text.shortcuts import words_of

_WORDS = 3
_MOST_WORDS = 1000
"""A longer text counts by its beginning."""
_SLOTS = 1 << 22

Triples = NDArray[np.uint64]
"""The different triples of a text as hashes in ascending order."""


class Frequencies:
    """How often triples occur, counted roughly: some share a slot."""

    def __init__(self) -> None:
        self._counts = np.zeros(_SLOTS, dtype=np.uint32)

    def add(self, triples: Triples) -> None:
        """Counts a text."""
        np.add.at(self._counts, triples % _SLOTS, 1)

    def rare_first(self, triples: Triples) -> list[int]:
        """The triples of a text by how rare they are."""
        order: list[int] = triples[np.lexsort((triples, self._counts[triples % _SLOTS]))].tolist()
        return order


class Novelty:
    """Tells texts apart from those that it has taken before.

    It remembers 8 bytes for each triple, and some 100 for each of the rare ones: 1 − `limit` of them all.

    Args:
        limit: The similarity that no two texts may exceed, from 0 to 1.
        frequencies: Of the triples of many of the texts; they decide how long it takes, not what is found.
    """

    def __init__(self, limit: float, frequencies: Frequencies) -> None:
        self._limit, self._frequencies = limit, frequencies
        self._taken: list[Triples] = []
        self._sizes = array("i")
        self._having: dict[int, int | array[int]] = {}
        """By triple: the text that has it among its first ones, or the texts."""

    def take(self, triples: Triples) -> bool:
        """Takes a text, unless it is more similar than the limit to one that was taken before."""
        first = self._frequencies.rare_first(triples)[: len(triples) - int(self._limit * len(triples))]
        near = self._candidates(first, len(triples))
        if any(similarity(triples, self._taken[number]) > self._limit for number in near):
            return False
        number = len(self._taken)
        self._taken.append(triples)
        self._sizes.append(len(triples))
        for triple in first:
            having = self._having.setdefault(triple, number)
            if isinstance(having, array):
                having.append(number)
            elif having != number:
                self._having[triple] = array("i", (having, number))
        return True

    def _candidates(self, first: list[int], size: int) -> list[int]:
        """The texts that share so many of these triples that they may be too similar, all the others being shared."""
        found = [self._having[triple] for triple in first if triple in self._having]
        if not found:
            return []
        lists = [np.array(having if isinstance(having, array) else (having,), dtype=np.int32) for having in found]
        shared = np.bincount(np.concatenate(lists))
        numbers = np.flatnonzero(shared)
        most = shared[numbers] + (size - len(first))
        sizes = np.array(self._sizes, dtype=np.int32)[numbers]
        near: list[int] = numbers[most > self._limit * (size + sizes - most)].tolist()
        return near


def similarity(one: Triples, other: Triples) -> float:
    """The Jaccard similarity |A ∩ B| / |A ∪ B|."""
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)


def triples_of(text: str) -> Triples:
    """The word triples of a text; of fewer than three words, or signs alone, they all together.

    A word is a run of letters or digits, case aside, or a han character.
    """
    words = words_of(text)[:_MOST_WORDS] or [text.strip()]
    starts = range(max(1, len(words) - _WORDS + 1))
    texts = {" ".join(words[start : start + _WORDS]) for start in starts}
    digests = (hashlib.blake2b(each.encode(errors="replace"), digest_size=8).digest() for each in texts)
    return np.unique(np.frombuffer(b"".join(digests), dtype=np.uint64))
