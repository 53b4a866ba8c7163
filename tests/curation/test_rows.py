"""Rows as questions."""

import pytest

from engine.curation.rows import last_words, question_of, reply_text
from engine.text.messages import Message
from engine.text.records import Record
from engine.text.strict_json import BadRow

ASKED = Message("user", "q")


def row(*messages: Message, **others: object) -> Record:
    return Record(0, 0, **{"shape": "conversation", "format": "minimind", "messages": messages, **others})  # type: ignore[arg-type]


def test_a_conversation_asks_for_its_last_reply() -> None:
    said = Message("assistant", "<think>hm</think><answer> 5 </answer>")
    question = question_of(row(ASKED, said))
    assert (question.messages, question.answer) == ((ASKED,), "5")
    assert question_of(row(ASKED, said, answer="7")).answer == "7"
    assert question_of(row(ASKED, said, tools=({"name": "add"},))).answer is None
    assert question_of(row(ASKED, Message("assistant", "<think>hm"))).answer is None
    assert question_of(row(ASKED)).answer is None
    assert question_of(row(ASKED, shape="prompt", answer=" ")).answer is None


@pytest.mark.parametrize("shape", ["text", "pair"])
def test_other_rows_ask_nothing(shape: str) -> None:
    with pytest.raises(BadRow):
        question_of(row(ASKED, Message("assistant", "a"), shape=shape))


def test_what_rows_end_with() -> None:
    thought = Message("assistant", "5", reasoning_content="2 + 3")
    assert reply_text(thought) == "<think>\n2 + 3\n</think>\n\n5"
    assert last_words(row(ASKED, thought)) == [reply_text(thought)]
    assert last_words(row(ASKED, thought, shape="pair", rejected=(ASKED,))) == [reply_text(thought), "q"]
    assert last_words(row(shape="text", text="t")) == ["t"]
