import json
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import DataError, EngineError
from engine.generation.chat import Choice, Token
from engine.generation.scoring import Score
from engine.text.messages import Message
from engine.text.records import Record, open_records
from minimind_tui.core.probabilities import bars, facts, token_sheet
from minimind_tui.core.transcript import (
    LEFT,
    RIGHT,
    TIE,
    Conversation,
    Turn,
    append_row,
    conversation_row,
    count_vote,
    preference_row,
    split_thoughts,
    thought_tokens,
)

TEXTS = (
    "你好 😀 <|im_start|>user\nnot a turn<|im_end|>",
    "<think>\n3 + 4 = 7\n</think>\n\nIt is 7.\n\n  \"quoted\" \\n \u2028 <|endoftext|> e◌́\t😀👩‍👩‍👧",
    "line one\nline two\n\n",
    "最后 [stopped]",
)  # fmt: skip
SYSTEM = "You are Bo.\n<think>"


def said(text: str, **values: object) -> Turn:
    return Turn("assistant", text, **{"stop_reason": "stop", "reference": "a@newest", **values})  # type: ignore[arg-type]


def token(id_: int, text: str, probability: float = 0.5, *, name: str = "", special: bool = False) -> Token:
    import math

    score = Score(math.log(probability), 1.0, 0, probability / 2, ())
    choices = (Choice(9, " other", 0.4, 0.3), Choice(8, "\\xe5", 0.1, 0.0))
    return Token(id_, text, name or text, special, score, choices)


def conversation(*texts: str, system: str = "") -> Conversation:
    talk = Conversation()
    talk.system = system
    for place, text in enumerate(texts):
        talk.add(said(text) if place % 2 else Turn("user", text))
    return talk


@pytest.mark.parametrize("system", ["", SYSTEM])
def test_a_saved_transcript_is_read_back_to_the_letter(tmp_path: Path, system: str) -> None:
    path = tmp_path / "new" / "conversations.jsonl"
    talk = conversation(*TEXTS, system=system)
    append_row(path, conversation_row(talk.messages()))
    append_row(path, conversation_row(talk.messages(2)))
    first, second = open_records(path).records()
    assert (first.shape, first.format) == ("conversation", "minimind")
    opening = (Message("system", system),) if system else ()
    roles = ("user", "assistant", "user", "assistant")
    assert first.messages == (*opening, *map(Message, roles, TEXTS))
    assert second.messages == first.messages[: len(opening) + 2]


def test_a_vote_is_read_back_as_a_pair(tmp_path: Path) -> None:
    path = tmp_path / "preferences.jsonl"
    talk = conversation(TEXTS[0], TEXTS[2], TEXTS[3], system=SYSTEM)
    chosen, rejected = said(TEXTS[1], reference="b@best"), said("不 😀\n")
    append_row(path, preference_row(talk.messages(), chosen, rejected))
    [record] = open_records(path).records()
    assert (record.shape, record.format) == ("pair", "minimind-pair")
    before = (Message("system", SYSTEM), Message("user", TEXTS[0]), Message("assistant", TEXTS[2]),
              Message("user", TEXTS[3]))  # fmt: skip
    assert record.messages == (*before, Message("assistant", TEXTS[1]))
    assert record.rejected == (*before, Message("assistant", "不 😀\n"))
    assert record.extra == {"chosen_by": "b@best", "rejected_by": "a@newest"}


def test_what_would_be_read_as_something_else_is_not_saved(tmp_path: Path) -> None:
    path = tmp_path / "conversations.jsonl"
    for text, why in (("a\0b", "NUL"), ("无", "something else"), ("", "something else"), ("\ud800", "surrogate")):
        with pytest.raises(DataError, match=why):
            append_row(path, conversation_row(conversation("hi", text).messages()))
    assert not path.exists()
    with pytest.raises(EngineError, match="cannot be saved"):
        append_row(tmp_path, conversation_row(conversation("hi", "ho").messages()))


def test_a_torn_line_is_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "conversations.jsonl"
    row = conversation_row(conversation("hi", "ho").messages())
    append_row(path, row)
    path.write_bytes(path.read_bytes() + b'{"conv')
    append_row(path, row)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [len(lines), json.loads(lines[0]), json.loads(lines[2])] == [3, row, row]
    assert sum(isinstance(item, Record) for item in open_records(path)) == 2


def test_a_row_that_the_disk_does_not_take_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "conversations.jsonl"
    append_row(path, conversation_row(conversation("hi", "ho").messages()))
    before = path.read_bytes()
    long = conversation_row(conversation("hi", "long " * 2000).messages())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))  # a part of it is written before it fails
    try:
        with pytest.raises(EngineError, match="cannot be saved"):
            append_row(path, long)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    append_row(path, long)
    assert path.read_bytes().startswith(before) and len([*open_records(path).records()]) == 2


def test_what_was_dropped_comes_back_and_round_again() -> None:
    talk = conversation("a", "1", "b", "2")
    whole = talk.turns
    talk.cut(3)
    talk.add(said("3"))
    other = talk.turns
    talk.cut(0)
    assert talk.turns == () and talk.versions == 2
    talk.go_back()
    assert talk.turns == other and talk.versions == 1, "an empty conversation is no version"
    talk.go_back()
    assert talk.turns == whole
    talk.go_back()
    assert talk.turns == other
    kept = talk.copy()
    talk.cut(1)
    talk.restore(kept)
    assert talk.turns == other and talk.versions == 1
    talk.cut(9)
    assert talk.versions == 1, "nothing was dropped"
    assert [talk.question_of(place) for place in (-1, 0, 1, 2, 3)] == [-1, 0, 0, 2, 2]


def test_votes() -> None:
    pending = replace(said("left one"), rival=said("right one", reference="b@best"))
    assert pending.pending and [side.text for side in pending.sides] == ["left one", "right one"]
    for verdict, text in ((LEFT, "left one"), (RIGHT, "right one"), (TIE, "left one")):
        voted = pending.voted(verdict)
        assert (voted.text, voted.pending) == (text, False)
        assert [side.text for side in voted.sides] == ["left one", "right one"]
    votes: dict[str, object] = {}
    assert count_vote(votes, *pending.sides, RIGHT) == "a@newest 0 : 1 b@best, 0 tied"
    assert count_vote(votes, *reversed(pending.sides), LEFT) == "a@newest 0 : 2 b@best, 0 tied"
    assert count_vote(votes, *pending.sides, TIE) == "a@newest 0 : 2 b@best, 1 tied"
    assert count_vote(votes, *pending.sides, LEFT) == "a@newest 1 : 2 b@best, 1 tied"
    same = (said("x"), said("y"))
    assert count_vote(votes, *same, LEFT).startswith("a@newest 1 : 0 a")
    assert count_vote(votes, *same, RIGHT).startswith("a@newest 1 : 1 a")
    assert json.loads(json.dumps(votes)) == votes


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("no thoughts", [(False, "no thoughts")]),
        ("<think>a</think>b", [(True, "a"), (False, "b")]),
        ("x<think>a\n\nb", [(False, "x"), (True, "a\n\nb")]),
        ("begun before</think>b<think>c</think>", [(True, "begun before"), (False, "b"), (True, "c")]),
        ("", []),
    ],
)
def test_thoughts_are_told_from_speech(text: str, parts: list[tuple[bool, str]]) -> None:
    assert split_thoughts(text) == parts


def test_tokens_of_thoughts_are_counted() -> None:
    texts = ("<think>", "一", "", "二", "</think>", "\n", "ok", "")
    tokens = tuple(token(place, text) for place, text in enumerate(texts))
    assert thought_tokens(said("".join(texts), tokens=tokens)) == 5
    assert thought_tokens(said("<think>a" + "".join(texts[1:]), given="<think>a", tokens=tokens[1:])) == 4
    assert thought_tokens(said("ok")) == 0


def test_a_sheet_of_probabilities() -> None:
    tokens = (token(5, "", 0.25), token(6, "一", 0.75), token(7, "", 1.0, name="<|im_end|>", special=True))
    sheet = token_sheet(said("ok 一", given="ok ", tokens=tokens))
    assert sheet is not None
    assert [*sheet.texts] == ["ok ", "", "一", "<|im_end|>"]
    assert sheet.heat[0] is None and [*sheet.heat[1:]] == pytest.approx([0.75, 0.25, 0])
    assert [*sheet.special] == [False, False, False, True]
    assert sheet.detail(0) == ["given, not generated"] and "75.0% probable" in sheet.detail(2)[0]
    assert token_sheet(said("ok")) is None


def test_the_bars_of_a_place() -> None:
    other = token(9, " other", 0.4)
    assert [(bar.name, bar.said) for bar in bars(other)] == [("“ other”", True), ("“\\xe5”", False)]
    rare = token(3, "\n", 0.01)
    assert [(bar.name, bar.probability, bar.said) for bar in bars(rare)][-1] == ("“⏎”", pytest.approx(0.01), True)
    assert "rank 1" in facts(rare) and "4.61 nats" in facts(rare)
