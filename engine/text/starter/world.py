"""The facts of the starter world and which of them are asked."""

import random
from dataclasses import dataclass

from engine.text.starter.wording import ATTRIBUTES, FRIEND, LANGUAGES, PEOPLE, WOMEN, Language

NEVER_ASKED = 10
"""Facts of each attribute and language (of one a person) that no training conversation asks for."""

ASKED_PHRASINGS = 3
"""Phrasings of an asked fact that training uses; the other phrasings are held out."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One attribute of one person in one language."""

    language: Language
    attribute: int
    person: int


@dataclass(frozen=True, slots=True)
class Question:
    """A fact asked in one phrasing, with its true answer."""

    fact: Fact
    text: str
    answer: str


class World:
    """Who is what, and the split into asked, held-out and never-asked questions.

    Attributes:
        seen: Questions to train on: three phrasings of every asked fact.
        unseen: The other two phrasings of the same facts.
        never_asked: All phrasings of the facts that stand only in the stories.
    """

    def __init__(self, rng: random.Random) -> None:
        self._values = [_assign(len(attribute.values), attribute is FRIEND, rng) for attribute in ATTRIBUTES]
        self.seen: list[Question] = []
        self.unseen: list[Question] = []
        self.never_asked: list[Question] = []
        for language in LANGUAGES:
            for index in range(len(ATTRIBUTES)):
                people = list(range(len(PEOPLE)))
                rng.shuffle(people)
                for order, person in enumerate(people):
                    questions = self._questions(Fact(language, index, person))
                    if order < NEVER_ASKED:
                        self.never_asked += questions
                        continue
                    rng.shuffle(questions)
                    self.seen += questions[:ASKED_PHRASINGS]
                    self.unseen += questions[ASKED_PHRASINGS:]

    def value(self, fact: Fact) -> int:
        """The index of the fact's value among its attribute's values."""
        return self._values[fact.attribute][fact.person]

    def friend(self, person: int) -> int:
        """The index of the person's best friend."""
        return self._values[ATTRIBUTES.index(FRIEND)][person]

    def sentence(self, fact: Fact, template: str, *, pronoun: bool = False, value: int | None = None) -> str:
        """Fills a story, question or answer template.

        Args:
            fact: Whose attribute.
            template: With `{n}`, `{p}`, `{v}`.
            pronoun: Say she or he for the name.
            value: Another value than the true one.
        """
        column = LANGUAGES.index(fact.language)
        name = PEOPLE[fact.person][column]
        owner = f"{name}'s"
        if pronoun:
            woman = fact.person < len(WOMEN)
            name = (("she", "她") if woman else ("he", "他"))[column]
            owner = "her" if woman else "his"
        chosen = self.value(fact) if value is None else value
        text = template.format(n=name, p=owner, v=ATTRIBUTES[fact.attribute].values[chosen][column])
        return text[0].upper() + text[1:]

    def answer(self, fact: Fact, value: int | None = None) -> str:
        """The fixed answer sentence, with the true value or with `value`."""
        return self.sentence(fact, ATTRIBUTES[fact.attribute].answer(fact.language), value=value)

    def _questions(self, fact: Fact) -> list[Question]:
        templates = ATTRIBUTES[fact.attribute].questions[fact.language]
        return [Question(fact, self.sentence(fact, template), self.answer(fact)) for template in templates]


def _assign(count: int, others: bool, rng: random.Random) -> list[int]:
    """A value for every person: as even as the count allows, or with `others` everyone once and nobody themselves."""
    if others:
        circle = list(range(count))
        rng.shuffle(circle)
        following = dict(zip(circle, circle[1:] + circle[:1], strict=True))
        return [following[person] for person in range(count)]
    values = [index % count for index in range(len(PEOPLE))]
    rng.shuffle(values)
    return values
