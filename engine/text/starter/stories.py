"""Pretraining text: stories that retell every fact many times, and worked sums.

A story is told in one language. Order, sentence and company change from telling to telling; the person comes before
the value, so that reading forwards teaches what a question will ask for; each sentence is a line of its own, so that an
English name at its start is the same token as at the start of an answer. No story asks anything.
"""

import random

from engine.text.starter.sums import Sums
from engine.text.starter.wording import ATTRIBUTES, LANGUAGES, OPENINGS, PEOPLE, SCENES, Language
from engine.text.starter.world import Fact, World

TELLINGS = 96
"""Portraits of each person in each language; there are half as many stories of two friends and of one attribute."""

SUMS_PER_TEXT = 5
SUM_TEXTS = 3000
ROLE_TEXTS = 250
ROLES = "system\nuser\nassistant\nuser\nassistant"
"""Shows the role words to a tokenizer trained on this text; unseen, they would cost ten tokens a turn."""


def pretraining_texts(world: World, sums: Sums, rng: random.Random) -> list[str]:
    """All pretraining texts, shuffled."""
    texts = [ROLES] * ROLE_TEXTS
    for telling in range(TELLINGS):
        for language in LANGUAGES:
            texts += [_portrait(world, language, person, rng) for person in range(len(PEOPLE))]
            if telling % 2:
                texts += [_friends(world, language, person, rng) for person in range(len(PEOPLE))]
            else:
                texts += _rounds(world, language, rng)
    for start in range(0, SUM_TEXTS * SUMS_PER_TEXT, SUMS_PER_TEXT):
        chosen = [sums.training[index % len(sums.training)] for index in range(start, start + SUMS_PER_TEXT)]
        texts.append("\n".join(one.text for one in chosen))
    rng.shuffle(texts)
    return texts


def _portrait(world: World, language: Language, person: int, rng: random.Random) -> str:
    """One person, everything."""
    attributes = list(range(len(ATTRIBUTES)))
    rng.shuffle(attributes)
    return "\n".join(_opening(language, person, rng) + _tell(world, language, person, attributes, rng))


def _friends(world: World, language: Language, person: int, rng: random.Random) -> str:
    """Half of what there is to say of a person, the best friend last, then half of the friend."""
    *others, friend = range(len(ATTRIBUTES))
    first = [*rng.sample(others, 2), friend]
    told = _tell(world, language, person, first, rng)
    told += _tell(world, language, world.friend(person), rng.sample(range(len(ATTRIBUTES)), 3), rng)
    return "\n".join(_opening(language, person, rng) + told)


def _rounds(world: World, language: Language, rng: random.Random) -> list[str]:
    """Every attribute of everyone once, six people a story."""
    texts = []
    for attribute in range(len(ATTRIBUTES)):
        people = list(range(len(PEOPLE)))
        rng.shuffle(people)
        for start in range(0, len(people), 6):
            told = [_tell(world, language, person, [attribute], rng)[0] for person in people[start : start + 6]]
            texts.append("\n".join(told))
    return texts


def _tell(world: World, language: Language, person: int, attributes: list[int], rng: random.Random) -> list[str]:
    """A sentence for each attribute; the name stands in the first and in most of the others."""
    sentences = []
    for order, attribute in enumerate(attributes):
        template = rng.choice(ATTRIBUTES[attribute].sentences[language])
        pronoun = order > 0 and rng.random() < 0.2
        sentences.append(world.sentence(Fact(language, attribute, person), template, pronoun=pronoun))
    return sentences


def _opening(language: Language, person: int, rng: random.Random) -> list[str]:
    """Nothing, a scene, or a line that names the person."""
    kind = rng.random()
    if kind < 0.1:
        return [rng.choice(SCENES[language])]
    if kind < 0.3:
        return [rng.choice(OPENINGS[language]).format(n=PEOPLE[person][LANGUAGES.index(language)])]
    return []
