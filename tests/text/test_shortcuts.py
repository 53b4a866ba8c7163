"""Shortcuts in pairs: planted ones are found, none is found where there is none."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.text import shortcuts
from engine.text.fingerprints import split_key
from engine.text.messages import Message
from engine.text.records import Record, open_records
from engine.text.shortcuts import shortcut_audit, words_of
from engine.text.starter import write_starter


def pair(prompt: str, chosen: str, rejected: str) -> Record:
    sides = [(Message("user", prompt), Message("assistant", said)) for said in (chosen, rejected)]
    return Record(0, 1, "pair", "", messages=sides[0], rejected=sides[1])


def audited(make: Callable[[int, random.Random], tuple[str, str]], count: int = 600) -> dict[str, Any]:
    dice = random.Random(0)
    return shortcut_audit(pair(f"prompt {number}", *make(number, dice)) for number in range(count))


def test_words() -> None:
    assert words_of("Don't say “Yes” 2x!  她住在 Oslo。") == ["don't", "say", "yes", "2x", "她", "住", "在", "oslo"]
    assert shortcuts._bigrams("她住在 Oslo 吗？一二") == ["她住", "住在", "一二"]


def test_lengths_by_hand() -> None:
    found = shortcut_audit([
        pair("a", "long long", "short"), pair("b", "longer", "long"), pair("c", "x", "xx x"), pair("d", "xy", "xz"),
        pair("e", "same", "same"), Record(0, 1, "text", "", text="not a pair"),
    ])  # fmt: skip
    assert (found["pairs"], found["same_sides"]) == (5, 1)
    # Longer in characters: 2 of 4, one tie. Longer in words: 1 of 4, two ties.
    assert found["length_accuracy"] == (2 + 0.5) / 4 and found["length_rule"] == "longer in characters"
    assert found["same_length_share"] == 1 / 4


def test_shorter_in_words_is_found() -> None:
    found = shortcut_audit([pair("a", "looong", "a b c"), pair("b", "abcde", "a b"), pair("c", "x", "x y")])
    assert found["length_accuracy"] == 1.0 and found["length_rule"] == "shorter in words"


def test_a_word_is_measured_where_it_was_not_found() -> None:
    dice = random.Random(1)
    records = []
    for number in range(400):
        names = dice.sample(["ann", "bob", "cid", "dan", "eve", "fay"], 2)
        sorry = " sorry" if number % 5 < 2 else ""
        records.append(pair(f"prompt {number}", f"well {names[0]}", f"well {names[1]}{sorry}"))
    measured = [record for record in records if split_key(record) >= 0.5]
    said = sum("sorry" in record.rejected[-1].content for record in measured)
    found = shortcut_audit(records)
    assert found["measured_pairs"] == len(measured) and 150 < len(measured) < 250
    expected = {"word": "sorry", "side": "rejected", "accuracy": (said + (len(measured) - said) / 2) / len(measured)}
    assert found["top_words"][0] == pytest.approx({**expected, "support": said})
    assert found["word_accuracy"] == pytest.approx(expected["accuracy"]) and 0.65 < found["word_accuracy"] < 0.75
    assert "“sorry” (its side is rejected)" in found["meaning"]["word"] and "shortcut" in found["meaning"]["word"]
    assert found["first_word_accuracy"] == 0.5 and found["top_first_words"] == []


def test_many_weak_words_are_found_together() -> None:
    def make(number: int, dice: random.Random) -> tuple[str, str]:
        return f"it is good{dice.randrange(30)}", f"it is bad{dice.randrange(30)}"

    found = audited(make)
    assert found["bag_accuracy"] > 0.97 and found["word_accuracy"] < 0.55
    assert "shortcut" in found["meaning"]["bag"] and "next to nothing" in found["meaning"]["word"]


def test_the_order_of_words_shows_in_the_first_word_only() -> None:
    def make(number: int, dice: random.Random) -> tuple[str, str]:
        name = dice.choice(["艾拉", "Nancy", "Paul", "罗莎"])
        thanks = "不客气" if ord(name[0]) > 255 else "You are welcome"
        return f"{name}! {thanks}!", f"{thanks}! {name}!"

    found = audited(make)
    assert found["first_word_accuracy"] > 0.99
    assert found["length_accuracy"] == found["word_accuracy"] == found["bag_accuracy"] == 0.5
    assert {entry["word"] for entry in found["top_first_words"]} >= {"you", "不"}


def test_nothing_is_found_in_pairs_of_chance() -> None:
    def make(number: int, dice: random.Random) -> tuple[str, str]:
        sides = [" ".join(dice.choices("abcdefghijklmnop", k=8)) for _ in range(2)]
        return sides[0], sides[1]

    found = audited(make, 2000)
    names = ("length_accuracy", "word_accuracy", "first_word_accuracy", "bag_accuracy")
    assert all(abs(found[name] - 0.5) < 0.04 for name in names)
    assert all("next to nothing" in meaning for meaning in found["meaning"].values())


def test_what_both_sides_begin_with_does_not_count() -> None:
    start = (Message("user", "q"), Message("assistant", "one"), Message("user", "and?"))
    record = Record(0, 1, "pair", "", messages=(*start, Message("assistant", "b", reasoning_content="Hm")),
                    rejected=(*start, Message("assistant", "", tool_calls=({"name": "add"},))))  # fmt: skip
    assert shortcuts._replies(record) == ("Hm\nb", '[{"name":"add"}]')


def test_pairs_of_one_prompt_cannot_be_measured() -> None:
    found = shortcut_audit(pair("the same", f"yes {number}", "no") for number in range(50))
    assert found["word_accuracy"] is found["bag_accuracy"] is found["first_word_accuracy"] is None
    assert found["length_accuracy"] == 1.0 and "too few pairs" in found["meaning"]["bag"]
    assert shortcut_audit([])["length_accuracy"] is None


def test_of_many_pairs_some_are_drawn_whatever_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortcuts, "MAX_PAIRS", 100)
    records = [pair(f"p {number}", f"yes {number % 7}", f"no {number % 5}!") for number in range(500)]
    found, again = shortcut_audit(records), shortcut_audit(reversed(records))
    assert found["pairs"] == 500 and 30 < found["measured_pairs"] < 70
    assert found["measured_pairs"] == again["measured_pairs"] and found["top_words"][0] == again["top_words"][0]
    assert found["length_accuracy"] == again["length_accuracy"]


def test_the_regression_reaches_its_minimum() -> None:
    """One word, 70 pairs for it and 30 against: σ(w) + λw = 0.7 where the gradient vanishes."""
    half = shortcuts._Half([np.array([[0, 1 if number < 70 else -1]]) for number in range(100)], 1)
    weight = shortcuts._regress(half)[0]
    assert 1 / (1 + np.exp(-weight)) + shortcuts._L2 * weight == pytest.approx(0.7, abs=1e-6)


def test_the_starter_world_has_no_shortcuts_but_the_order(tmp_path: Path) -> None:
    write_starter(tmp_path)
    found = {name: shortcut_audit(open_records(tmp_path / f"{name}.jsonl").records()) for name in ("dpo", "dpo_order")}
    names = ("length_accuracy", "word_accuracy", "first_word_accuracy", "bag_accuracy")
    assert all(found["dpo"][name] <= 0.55 for name in names)
    assert found["dpo_order"]["first_word_accuracy"] > 0.98 and found["dpo_order"]["length_accuracy"] == 0.5
