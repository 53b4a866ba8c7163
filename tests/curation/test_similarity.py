"""Nearly equal texts."""

import random

import numpy as np
import pytest

from engine.curation.similarity import Frequencies, Novelty, similarity, triples_of


def kept(texts: list[str], limit: float, counted: int | None = None) -> list[int]:
    """Which texts are taken."""
    triples, frequencies = [triples_of(text) for text in texts], Frequencies()
    for each in triples[:counted]:
        frequencies.add(each)
    novelty = Novelty(limit, frequencies)
    return [number for number, each in enumerate(triples) if novelty.take(each)]


def test_similarity_counted_by_hand() -> None:
    one = triples_of("The fox, the dog and THE cat")  # 7 words: the fox the, fox the dog, …
    assert len(one) == 5 and np.array_equal(one, triples_of("the fox the dog (and) the cat!"))
    other = triples_of("a fox the dog and the hen")  # shares: fox the dog, the dog and, dog and the
    assert similarity(one, other) == 3 / 7
    assert similarity(one, triples_of("one two three")) == 0 and similarity(one, one) == 1


@pytest.mark.parametrize(
    ("text", "count"),
    [("", 1), ("?!", 1), ("one", 1), ("one two", 1), ("小猫坐", 1), ("小猫坐在", 2), ("a a a a a", 1)],
)
def test_short_texts_count_as_a_whole(text: str, count: int) -> None:
    assert len(triples_of(text)) == count


def test_only_the_beginning_of_a_long_text_counts() -> None:
    words = [str(number) for number in range(5000)]
    assert len(triples_of(" ".join(words))) == 998
    assert np.array_equal(triples_of(" ".join(words[:1000])), triples_of(" ".join(words)))


def made_of_templates(seed: int) -> list[str]:
    """Texts of every similarity to each other, repetitions of others among them."""
    dice = random.Random(seed)
    words = [f"w{number}" for number in range(60)]
    texts: list[str] = []
    for _ in range(250):
        text = (
            dice.choice(texts).split() if texts and dice.random() < 0.7 else dice.choices(words, k=dice.randint(1, 40))
        )
        for _ in range(dice.randint(0, 4)):
            text[dice.randrange(len(text))] = dice.choice(words)
        texts.append(" ".join(text + dice.choices(words, k=dice.randint(0, 3))))
    return texts


@pytest.mark.parametrize("limit", [0.0, 0.1, 0.5, 0.7, 0.75, 0.9, 0.999])
def test_what_is_found_is_exact(limit: float) -> None:
    texts = made_of_templates(int(limit * 1000))
    sets = [set(triples_of(text).tolist()) for text in texts]
    expected: list[int] = []
    for number, each in enumerate(sets):
        if all(len(each & sets[k]) / len(each | sets[k]) <= limit for k in expected):
            expected.append(number)
    assert 0 < len(expected) < len(texts)
    assert kept(texts, limit) == expected
    assert kept(texts, limit, counted=10) == kept(texts, limit, counted=0) == expected  # frequencies only help


def test_an_equal_text_is_taken_once() -> None:
    assert kept(["one two three four", "one two three four", "", "", "四五六七"], 0.9) == [0, 2, 4]
