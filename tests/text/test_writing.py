"""Records back to rows: whatever a layout takes reads as the same record again."""

import json
from dataclasses import replace
from typing import Any

import pytest

from engine.text.messages import Message
from engine.text.shapes import Record, read_row
from engine.text.strict_json import BadRow, loads
from engine.text.writing import LAYOUTS, to_line, write_record

USER, REPLY = Message("user", "q"), Message("assistant", "a")
SYSTEM, TOOL = Message("system", "be brief"), {"name": "add", "parameters": {"type": "object"}}
CALL = {"name": "add", "arguments": {"x": 1}}
CALLS = (
    SYSTEM, USER, Message("assistant", "", tool_calls=(CALL,)), Message("tool", "2", name="add"), REPLY,
)  # fmt: skip
THOUGHT = (USER, Message("assistant", "a", reasoning_content="because"))


def talk(*messages: Message, **more: Any) -> Record:
    return Record(3, 7, "conversation", "", messages=messages, **more)


RECORDS = {
    "text": Record(3, 7, "text", "", text="a\n\nb “一”", extra={"url": "x"}),
    "plain": talk(USER, REPLY, extra={"lang": "zh", "n": [1, None]}),
    "system": talk(SYSTEM, USER, REPLY),
    "long": talk(SYSTEM, USER, REPLY, Message("user", "and?"), Message("assistant", "b"), answer="b", check="exact"),
    "thought": talk(*THOUGHT),
    "calls": talk(*CALLS, tools=(TOOL,)),
    "two calls": talk(USER, Message("assistant", "", tool_calls=(CALL, CALL)), REPLY),
    "tools, no system": talk(USER, REPLY, tools=(TOOL,)),
    "call and words": talk(USER, Message("assistant", "wait", tool_calls=(CALL,)), REPLY),
    "last word is the user's": talk(USER, REPLY, USER),
    "pair": Record(3, 7, "pair", "", messages=(USER, REPLY), rejected=(USER, Message("assistant", "no"))),
    "pair with tools": Record(3, 7, "pair", "", messages=CALLS, rejected=(SYSTEM, *THOUGHT), tools=(TOOL,)),
    "prompt": Record(3, 7, "prompt", "", messages=(SYSTEM, USER), answer="146", check="number", extra={"gt": ["146"]}),
    "prompt without answer": Record(3, 7, "prompt", "", messages=(USER,)),
}
REFUSED = {
    "openai": {"text", "pair", "pair with tools"},
    "sharegpt": {"text", "pair", "pair with tools"},
    "alpaca": set(RECORDS) - {"plain", "system", "long"},
    "prompt-completion": {"text", "pair", "pair with tools", "last word is the user's", "prompt without answer"},
    "minimind": set(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", RECORDS)
def test_what_is_written_reads_as_the_same_record(layout: str, name: str) -> None:
    record = RECORDS[name]
    if name in REFUSED[layout]:
        with pytest.raises(BadRow):
            write_record(record, layout)
        return
    line, lost = write_record(record, layout)
    back = read_row(loads(line), record.row, record.line)
    assert lost == () and line.count(b"\n") == 1
    assert replace(back, format="") == record
    prompts = "prompt-answer" if layout == "prompt-completion" else f"{layout}-prompt"
    formats = {"text": "text", "conversation": layout, "pair": "minimind-pair", "prompt": prompts}
    assert back.format == formats[record.shape]


def fields(name: str, layout: str) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(write_record(RECORDS[name], layout).line)
    return row


def test_rows_are_what_others_read() -> None:
    assert fields("plain", "openai")["messages"] == [USER.as_dict(), REPLY.as_dict()]
    assert fields("system", "sharegpt")["conversations"] == [
        {"from": "system", "value": "be brief"}, {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}
    ]  # fmt: skip
    assert fields("long", "alpaca") == {
        "instruction": "and?", "input": "", "output": "b", "system": "be brief", "history": [["q", "a"]],
        "answer": "b", "check": "exact",
    }  # fmt: skip
    assert fields("plain", "prompt-completion") == {"lang": "zh", "n": [1, None], "prompt": "q", "completion": "a"}
    assert fields("system", "prompt-completion") == {
        "prompt": [SYSTEM.as_dict(), USER.as_dict()], "completion": [REPLY.as_dict()]
    }  # fmt: skip
    assert fields("prompt", "minimind") == {
        "gt": ["146"], "answer": "146", "check": "number",
        "conversations": [SYSTEM.as_dict(), USER.as_dict(), {"role": "assistant", "content": ""}],
    }  # fmt: skip
    assert fields("pair", "minimind")["rejected"] == [USER.as_dict(), {"role": "assistant", "content": "no"}]


def test_minimind_has_tools_and_calls_as_json_text() -> None:
    turns = fields("calls", "minimind")["conversations"]
    assert json.loads(turns[0]["tools"]) == [TOOL] and json.loads(turns[2]["tool_calls"]) == [CALL]
    assert fields("calls", "sharegpt")["conversations"][2] == {
        "from": "function_call",
        "value": to_line(CALL)[:-1].decode(),
    }
    assert fields("calls", "openai")["tools"] == [TOOL]


def test_columns_that_would_be_read_as_something_else_are_lost_and_named() -> None:
    beside = talk(USER, REPLY, extra={"conversations": "old", "text": "kept?", "n": 1})
    line, lost = write_record(beside, "openai")
    assert json.loads(line).keys() == {"n", "messages"} and lost == ("column 'conversations'", "column 'text'")
    harmless = talk(USER, REPLY, extra={"text": "kept", "n": 1})
    line, lost = write_record(harmless, "openai")
    assert json.loads(line)["text"] == "kept" and lost == ()
    line, lost = write_record(Record(3, 7, "text", "", text="new", extra={"text": "old"}), "minimind")
    assert json.loads(line) == {"text": "new"} and lost == ("column 'text'",)


@pytest.mark.parametrize(
    ("record", "layout", "reason"),
    [
        (talk(SYSTEM, REPLY), "alpaca", "one after the other"),
        (RECORDS["tools, no system"], "alpaca", "no place for tools"),
        (RECORDS["thought"], "alpaca", "no place for tool calls, reasoning"),
        (talk(Message("user", " "), REPLY), "alpaca", "instruction is empty"),
        (talk(USER, Message("assistant", "无")), "minimind", "its shape would change"),
        (RECORDS["pair"], "openai", "a pair has no openai layout"),
        (RECORDS["prompt without answer"], "prompt-completion", "missing"),
        (talk(USER, REPLY, extra={"blob": b"x"}), "minimind", "cannot be written as JSON"),
    ],
)  # fmt: skip
def test_reasons(record: Record, layout: str, reason: str) -> None:
    with pytest.raises(BadRow) as error:
        write_record(record, layout)
    assert reason in error.value.reason
