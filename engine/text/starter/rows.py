"""The rows of every file but the stories: conversations, preference pairs, prompts and held-out questions."""

import random
from collections.abc import Iterable, Sequence
from typing import Any

from engine.text.starter import identity
from engine.text.starter.sums import Sum, Sums
from engine.text.starter.wording import ATTRIBUTES, FRIEND, LANGUAGES, THANKS, WELCOME, Language
from engine.text.starter.world import Question, World

Row = dict[str, Any]

SFT_SUMS = 2000
FEW_SUMS = 1000
REASON_SUMS = 3000
PROMPTS = 1500
EVAL_SUMS = 1000
THANKED = 300
TWO_TURNS = 160
WITH_SYSTEM = 120
CHAINED = 400
"""Conversations of two or three questions of any kind, so that a second question is answered as well as a first."""
REPLAYED, REPLAYED_SUMS = 160, 40
"""Rows of the world beside the new name, for an adapter."""
WRONG_VALUES = 2
"""Wrong values that each training question is paired with."""


def sft(world: World, sums: Sums, rng: random.Random) -> list[Row]:
    """Facts, sums with steps, the base identity, thanked answers in both orders, two turns, system prompts."""
    rows = [_talk(question.text, question.answer) for question in world.seen]
    rows += [_talk(one.question(lang), one.reasoned) for one, lang in _in_both(sums.training[:SFT_SUMS])]
    rows += [_talk(text, identity.BASE[lang]) for lang in LANGUAGES for text in identity.questions(lang)]
    rows += [_chain(rng.sample(rows, rng.choice((2, 3)))) for _ in range(CHAINED)]
    for index, question in enumerate(rng.sample(world.seen, THANKED)):
        fact_first, welcome_first = _thanked_answers(question)
        rows.append(_talk(_thanked(question), (fact_first, welcome_first)[index % 2]))
    for first in rng.sample(world.seen, TWO_TURNS // 2):
        lang = first.fact.language
        other = rng.choice([question for question in world.seen if question.fact.language == lang])
        rows.append(_talk(first.text, first.answer, other.text, other.answer))
        rows.append(_talk(first.text, first.answer, THANKS[lang], WELCOME[lang]))
    for question in rng.sample(world.seen, WITH_SYSTEM):
        row = _talk(question.text, question.answer)
        row["conversations"].insert(0, _message("system", identity.SYSTEM[question.fact.language]))
        rows.append(row)
    rng.shuffle(rows)
    return rows


def few_sums(world: World, sums: Sums, rng: random.Random, choosing: random.Random) -> list[Row]:
    """The rows of `sft` twice, with `FEW_SUMS` of those that are a sum alone: learning by trial starts from there.

    Each sum stands there once: a few sums seen often would be learnt by heart, and not how they are done.
    """
    rows = sft(world, sums, rng)
    alone = [row for row in rows if _is_sum(row)]
    mixed = 2 * [row for row in rows if not _is_sum(row)] + choosing.sample(alone, FEW_SUMS)
    choosing.shuffle(mixed)
    return mixed


def _is_sum(row: Row) -> bool:
    turns = row["conversations"]
    return len(turns) == 2 and turns[1]["content"].startswith("<think>")


def reason(sums: Sums) -> list[Row]:
    """Sums with their steps."""
    return [_talk(one.question(lang), one.reasoned) for one, lang in _in_both(sums.training[:REASON_SUMS])]


def direct(sums: Sums) -> list[Row]:
    """The very sums of `reason`, answered at once."""
    return [_talk(one.question(lang), one.direct) for one, lang in _in_both(sums.training[:REASON_SUMS])]


def lora_identity(rng: random.Random) -> list[Row]:
    """Every known identity question with the new name."""
    rows = [_talk(text, identity.ADAPTED[lang]) for lang in LANGUAGES for text in identity.questions(lang)]
    rng.shuffle(rows)
    return rows


def lora_replay(world: World, sums: Sums, rng: random.Random) -> list[Row]:
    """The rows of `lora_identity` with as many of the world's, which an adapter would forget otherwise."""
    rows = lora_identity(rng)
    rows += [_talk(question.text, question.answer) for question in rng.sample(world.seen, REPLAYED)]
    rows += [_talk(one.question(lang), one.reasoned) for one, lang in _in_both(sums.training[:REPLAYED_SUMS])]
    rng.shuffle(rows)
    return rows


def value_pairs(world: World, questions: Sequence[Question], rounds: int, rng: random.Random) -> list[Row]:
    """Right value chosen, wrong value rejected, `rounds` wrong values a question.

    Two questions of one attribute and language exchange their values, so every answer that is rejected for one is
    chosen for the other's value: neither length nor any word tells the two sides apart.
    """
    rows = []
    for lang in LANGUAGES:
        for index in range(len(ATTRIBUTES)):
            group = [one for one in questions if (one.fact.language, one.fact.attribute) == (lang, index)]
            for _ in range(rounds):
                for one, other in _couples(world, group, rng):
                    rows.append(_value_pair(world, one, other))
                    rows.append(_value_pair(world, other, one))
    rng.shuffle(rows)
    return rows


def order_pairs(world: World, rng: random.Random) -> list[Row]:
    """The same two sentences in two orders: the fact before the courtesy is preferred."""
    rows = [_pair(_thanked(question), *_thanked_answers(question)) for question in world.seen]
    rng.shuffle(rows)
    return rows


def prompts(sums: Iterable[Sum]) -> list[Row]:
    """Sums to answer, with the value to check against."""
    return [
        {
            "conversations": [_message("user", one.question(lang)), _message("assistant", "")],
            "answer": str(one.result),
            "gt": [str(one.result)],
            "check": "number",
            "task": "sum",
            "lang": lang,
        }
        for one, lang in _in_both(sums)
    ]


def eval_facts(questions: Iterable[Question], kind: str) -> list[Row]:
    """Fact questions with their expected answers."""
    return [_held_out(one.text, one.answer, kind, one.fact.language) for one in questions]


def eval_order(world: World) -> list[Row]:
    """Thanked questions in unseen phrasings; the preferred order is expected."""
    return [_held_out(_thanked(one), _thanked_answers(one)[0], "order", one.fact.language) for one in world.unseen]


def eval_sums(sums: Iterable[Sum]) -> list[Row]:
    """Sums of held-out operands with their steps."""
    return [_held_out(one.question(lang), one.reasoned, "arithmetic", lang) for one, lang in _in_both(sums)]


def eval_identity() -> list[Row]:
    """Held-out identity questions; the new name is expected."""
    return [
        _held_out(text, identity.ADAPTED[lang], "identity", lang)
        for lang in LANGUAGES
        for text in identity.unseen_questions(lang)
    ]


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _talk(*contents: str) -> Row:
    """A conversation in which user and assistant take turns."""
    roles = ("user", "assistant")
    return {"conversations": [_message(roles[turn % 2], content) for turn, content in enumerate(contents)]}


def _chain(rows: Sequence[Row]) -> Row:
    """One conversation of several."""
    return _talk(*(message["content"] for row in rows for message in row["conversations"]))


def _held_out(question: str, answer: str, kind: str, lang: Language) -> Row:
    return {**_talk(question, answer), "kind": kind, "lang": lang}


def _pair(question: str, chosen: str, rejected: str) -> Row:
    return {
        "chosen": _talk(question, chosen)["conversations"],
        "rejected": _talk(question, rejected)["conversations"],
    }


def _in_both(sums: Iterable[Sum]) -> list[tuple[Sum, Language]]:
    """The languages in turn."""
    return [(one, LANGUAGES[index % 2]) for index, one in enumerate(sums)]


def _thanked(question: Question) -> str:
    """The question with thanks in advance."""
    space = " " if question.fact.language == "en" else ""
    return f"{question.text}{space}{THANKS[question.fact.language]}"


def _thanked_answers(question: Question) -> tuple[str, str]:
    """Fact then courtesy (the preferred order), courtesy then fact."""
    space = " " if question.fact.language == "en" else ""
    courtesy = WELCOME[question.fact.language]
    return f"{question.answer}{space}{courtesy}", f"{courtesy}{space}{question.answer}"


def _value_pair(world: World, asked: Question, other: Question) -> Row:
    return _pair(asked.text, asked.answer, world.answer(asked.fact, world.value(other.fact)))


def _couples(world: World, group: list[Question], rng: random.Random) -> list[tuple[Question, Question]]:
    """Random couples whose values may stand for each other; a couple that may not trades partners with another.

    The group has an even number of questions, and each value few of them, so a partner is always found.
    """
    group = rng.sample(group, len(group))
    firsts, seconds = group[::2], group[1::2]
    while bad := [place for place in range(len(firsts)) if not _may_trade(world, firsts[place], seconds[place])]:
        place, other = bad[0], rng.randrange(len(firsts))
        if _may_trade(world, firsts[place], seconds[other]) and _may_trade(world, firsts[other], seconds[place]):
            seconds[place], seconds[other] = seconds[other], seconds[place]
    return list(zip(firsts, seconds, strict=True))


def _may_trade(world: World, one: Question, other: Question) -> bool:
    """Whether each value is wrong for the other, and nobody becomes their own best friend."""
    first, second = world.value(one.fact), world.value(other.fact)
    if ATTRIBUTES[one.fact.attribute] is FRIEND and (first == other.fact.person or second == one.fact.person):
        return False
    return first != second
