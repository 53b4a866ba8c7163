"""Layouts of rows: each is found by looking, and each malformed row says what is wrong with it."""

from typing import Any

import pytest

from engine.errors import UserError
from engine.text.messages import Message
from engine.text.shapes import Record, as_prompt, check_mapping, read_row
from engine.text.strict_json import MAX_DEPTH, BadRow, loads

ASK, REPLY = Message("user", "q"), Message("assistant", "a")
TOOL = {"name": "add", "parameters": {"type": "object"}}
CALL = {"name": "add", "arguments": {"x": 1}}


def read(row: Any, mapping: dict[str, str] | None = None) -> Record:
    return read_row(row, 3, 7, mapping)


def turns(*pairs: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in pairs]


TWO = turns(("user", "q"), ("assistant", "a"))


def test_text() -> None:
    record = read({"text": "hello", "url": "x"})
    assert record == Record(3, 7, "text", "text", text="hello", extra={"url": "x"})


def test_minimind_conversation_with_reasoning() -> None:
    record = read({"conversations": [TWO[0], {**TWO[1], "reasoning_content": "because"}]})
    assert (record.shape, record.format, record.line, record.row) == ("conversation", "minimind", 7, 3)
    assert record.messages == (ASK, Message("assistant", "a", "because"))
    assert record.messages[1].as_dict() == {"role": "assistant", "content": "a", "reasoning_content": "because"}


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [{"role": "system", "content": "s", "tools": f'[{{"name": "{TOOL["name"]}"}}]'}, *TWO]},
        {"conversations": [{"role": "system", "content": "s", "tools": [{"name": "add"}]}, *TWO]},
        {"conversations": [{"role": "system", "content": "s", "functions": [{"name": "add"}]}, *TWO]},
        {"conversations": turns(("system", "s")) + TWO, "tools": '[{"name": "add"}]'},
        {"messages": turns(("system", "s")) + TWO, "tools": [{"name": "add"}]},
    ],
)
def test_tools_wherever_they_stand(row: dict[str, Any]) -> None:
    record = read(row)
    assert record.tools == ({"name": "add"},)
    assert record.messages == (Message("system", "s"), ASK, REPLY)


@pytest.mark.parametrize("none", [None, "", "[]", []])
def test_no_tools(none: object) -> None:
    record = read({"conversations": [TWO[0], {**TWO[1], "tool_calls": none}], "tools": none})
    assert record.tools is None
    assert record.messages[1].tool_calls is None


@pytest.mark.parametrize("calls", ['[{"name": "add", "arguments": {"x": 1}}]', [CALL]])
def test_minimind_tool_calls(calls: object) -> None:
    row = {"conversations": [TWO[0], {"role": "assistant", "content": "", "tool_calls": calls}, *turns(("tool", "2"))]}
    record = read(row)
    assert record.messages[1] == Message("assistant", "", tool_calls=(CALL,))
    assert record.messages[1].as_dict()["tool_calls"] == [CALL]
    assert record.messages[2].role == "tool"


def test_openai_tool_calls_and_null_content() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"x": 1}'}}
    reply = {"role": "assistant", "content": None, "tool_calls": [call]}
    record = read({"messages": [TWO[0], reply, {"role": "tool", "name": "add", "content": "2"}]})
    assert record.format == "openai"
    assert record.messages[1] == Message("assistant", "", tool_calls=(call,))
    assert record.messages[2] == Message("tool", "2", name="add")


def test_openai_content_parts() -> None:
    parts = [{"type": "text", "text": "q"}, {"type": "text", "text": "!"}]
    assert read({"messages": [*turns(("user", parts)), TWO[1]]}).messages[0].content == "q!"


def test_sharegpt() -> None:
    said = [
        ("system", "s"),
        ("human", "q"),
        ("function_call", '{"name": "add", "arguments": {"x": 1}}'),
        ("observation", "2"),
        ("gpt", "a"),
    ]
    record = read({"conversations": [{"from": who, "value": what} for who, what in said]})
    assert (record.shape, record.format) == ("conversation", "sharegpt")
    assert [message.role for message in record.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert record.messages[2] == Message("assistant", "", tool_calls=(CALL,))


@pytest.mark.parametrize(
    ("given", "role"),
    [
        ("Human", "user"),
        ("GPT", "assistant"),
        ("bot", "assistant"),
        ("model", "assistant"),
        ("developer", "system"),
        ("function", "tool"),
        (" User ", "user"),
    ],
)
def test_role_names(given: str, role: str) -> None:
    assert read({"messages": turns((given, "x"), ("assistant", "a"))}).messages[0].role == role


def test_same_role_twice_and_no_assistant_are_usable() -> None:
    record = read({"conversations": turns(("user", "q"), ("user", "r"))})
    assert (record.shape, len(record.messages)) == ("conversation", 2)


@pytest.mark.parametrize("system", ["s", ""])
def test_system_field_beside_the_messages(system: str) -> None:
    expected = (Message("system", "s"), ASK, REPLY) if system else (ASK, REPLY)
    assert read({"conversations": TWO, "system": system}).messages == expected


def test_alpaca() -> None:
    row = {"instruction": "add", "input": "1 2", "output": "3", "system": "s", "history": [["q", "a"]]}
    record = read(row)
    assert (record.shape, record.format) == ("conversation", "alpaca")
    assert record.messages == (
        Message("system", "s"),
        ASK,
        REPLY,
        Message("user", "add\n1 2"),
        Message("assistant", "3"),
    )
    assert read({"instruction": "add", "input": "", "output": "3"}).messages[0].content == "add"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "completion": "a"},
        {"prompt": "q", "response": "a"},
        {"prompt": TWO[:1], "completion": TWO[1:]},
    ],
)
def test_prompt_completion(row: dict[str, Any]) -> None:
    record = read(row)
    assert (record.shape, record.format, record.messages) == ("conversation", "prompt-completion", (ASK, REPLY))


def test_question_answer_keeps_the_answer() -> None:
    record = read({"question": "q", "answer": "a"})
    assert (record.shape, record.format) == ("conversation", "question-answer")
    assert (record.messages, record.answer) == ((ASK, REPLY), "a")
    assert read({"question": "q", "answer": 4}).answer == "4"


@pytest.mark.parametrize("fields", [("question", "answer"), ("query", "response")])
def test_what_a_solution_comes_to_is_the_answer(fields: tuple[str, str]) -> None:
    """As in GSM8K."""
    solution = "She sold 48 / 2 = <<48/2=24>>24.\n#### 1,072\n"
    record = read(dict(zip(fields, ("q", solution), strict=True)))
    assert (record.answer, record.check) == ("1,072", None)
    assert record.messages == (ASK, Message("assistant", solution)), "the reply stays whole"
    asked = as_prompt(record)
    assert (asked.shape, asked.messages, asked.answer) == ("prompt", (ASK,), "1,072")


@pytest.mark.parametrize("reply", ["#### 3\nand more", "a #### 3", "a\n####", "a\n##### 3"])
def test_only_a_last_line_is_the_answer(reply: str) -> None:
    assert read({"question": "q", "answer": reply}).answer == reply
    assert read({"query": "q", "response": "a"}).answer == "a"
    assert read({"query": "q", "response": "so a", "gt": ["a"]}).answer == "a"


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"chosen": TWO, "rejected": turns(("user", "q"), ("assistant", "b"))}, "minimind-pair"),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "prompt-pair"),
        ({"prompt": TWO[:1], "chosen": TWO[1:], "rejected": turns(("assistant", "b"))}, "prompt-pair"),
        ({"prompt": "q", "chosen": TWO, "rejected": turns(("user", "q"), ("assistant", "b"))}, "prompt-pair"),
    ],
)
def test_pairs(row: dict[str, Any], name: str) -> None:
    record = read(row)
    assert (record.shape, record.format) == ("pair", name)
    assert record.messages == (ASK, REPLY)
    assert record.rejected == (ASK, Message("assistant", "b"))


@pytest.mark.parametrize("dummy", ["", "无", " \n"])
def test_minimind_prompt(dummy: str) -> None:
    rest = {"task": "legs", "lang": "zh", "rg": {"seed": 1}}
    row = {"conversations": turns(("user", "q"), ("assistant", dummy)), "gt": ["74", "x"], "check": "number", **rest}
    record = read(row)
    assert (record.shape, record.format, record.messages) == ("prompt", "minimind-prompt", (ASK,))
    assert (record.answer, record.check) == ("74", "number")
    assert record.extra == {**rest, "gt": ["74", "x"]}


def test_an_empty_turn_that_calls_a_tool_is_no_dummy() -> None:
    reply = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    assert read({"conversations": [TWO[0], reply]}).shape == "conversation"


@pytest.mark.parametrize(
    ("rest", "answer", "check"),
    [({"answer": 5}, "5", None), ({"gt": ["5"]}, "5", None), ({"check": "format"}, None, "format")],
)
def test_prompt_with_an_answer(rest: dict[str, Any], answer: str | None, check: str | None) -> None:
    record = read({"prompt": "q", **rest})
    assert (record.shape, record.format, record.messages) == ("prompt", "prompt-answer", (ASK,))
    assert (record.answer, record.check) == (answer, check)


def test_conversation_keeps_its_answer() -> None:
    record = read({"conversations": TWO, "answer": "a", "gt": ["b"]})
    assert (record.shape, record.answer) == ("conversation", "a")


def test_the_more_telling_layout_wins_and_null_counts_as_absent() -> None:
    assert read({"text": "t", "messages": TWO}).format == "openai"
    assert read({"text": "t", "messages": None}).format == "text"
    assert read({"text": "t", "instruction": "i", "output": "o"}).format == "alpaca"


def test_mapping_with_dotted_paths() -> None:
    row = {"data": {"body": "t"}, "messages": TWO, "id": 1}
    record = read(row, {"text": "data.body"})
    assert (record.shape, record.text) == ("text", "t")
    assert read({"a.b": "t"}, {"text": "a.b"}).text == "t"
    assert read({"dialog": TWO, "answer": "x"}, {"conversations": "dialog"}).answer == "x"
    pair = read({"q": "q", "good": "a", "bad": "b"}, {"prompt": "q", "chosen": "good", "rejected": "bad"})
    assert (pair.messages, pair.rejected) == ((ASK, REPLY), (ASK, Message("assistant", "b")))


@pytest.mark.parametrize("row", [{"data": {}}, {"data": "x"}, {}])
def test_mapped_column_that_is_missing(row: dict[str, Any]) -> None:
    with pytest.raises(BadRow, match=r"column 'data.text' \(for text\) is missing"):
        read(row, {"text": "data.text"})


def test_mappings_that_cannot_work() -> None:
    with pytest.raises(UserError, match="unknown field 'txt'"):
        check_mapping({"txt": "a"})
    with pytest.raises(UserError, match="no layout has all of chosen, text"):
        check_mapping({"text": "a", "chosen": "b"})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([1], "a row must be an object, not a list"),
        ("x", "a row must be an object, not a string"),
        ({}, "no known field (found none)"),
        ({"a": 1, "b": 2}, "no known field (found 'a', 'b')"),
        ({"text": 1}, "text must be a string, not a number"),
        ({"text": None}, "text is null"),
        ({"text": " \n"}, "text is empty"),
        ({"conversations": []}, "no messages in conversations"),
        ({"conversations": "x"}, "conversations must be a list of messages, not a string"),
        ({"messages": [1]}, "messages: message 1 must be an object, not a number"),
        ({"messages": [{"content": "x"}]}, "messages: message 1: role is missing"),
        ({"messages": [{"role": 1, "content": "x"}]}, "messages: message 1: role must be a string, not a number"),
        ({"messages": [TWO[0], {"role": "assistant"}]}, "messages: message 2: content is missing"),
        ({"messages": turns(("user", None))}, "messages: message 1: content must be a string, not null"),
        ({"messages": turns(("user", 5))}, "messages: message 1: content must be a string, not a number"),
        ({"messages": turns(("narrator", "x"))}, "messages: message 1: unknown role 'narrator'"),
        ({"messages": turns(("user\x1b[2J", "x"))}, "messages: message 1: unknown role 'user␛[2J'"),
        ({"conversations": turns(("user", ""), ("assistant", ""))}, "all contents in conversations are empty"),
        ({"conversations": turns(("user", ""), ("assistant", "无"))}, "all contents in conversations are empty"),
        (
            {"messages": turns(("user", [{"type": "image_url", "image_url": "x"}]))},
            "messages: message 1: content: only text parts can be read, not 'image_url'",
        ),
        (
            {"messages": [TWO[0], {**TWO[1], "reasoning_content": 1}]},
            "messages: message 2: reasoning_content must be a string, not a number",
        ),
        (
            {"conversations": [TWO[0], {**TWO[1], "tool_calls": "[{"}]},
            "conversations: message 2: tool_calls: truncated JSON: it ends too early",
        ),
        (
            {"conversations": [TWO[0], {**TWO[1], "tool_calls": [{}]}]},
            "conversations: message 2: tool_calls: a tool call has no name",
        ),
        (
            {"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": ""}]},
            "conversations: message 2: value: no tool call",
        ),
        ({"conversations": TWO, "tools": "not json"}, "tools: broken JSON at character 1: Expecting value"),
        ({"conversations": TWO, "tools": '["\\u0000"]'}, "tools: NUL character in text"),
        ({"conversations": TWO, "tools": [1]}, "tools must hold objects, not a number"),
        ({"conversations": TWO, "tools": 1}, "tools must be a list of objects, not a number"),
        ({"conversations": TWO, "answer": ["x"]}, "answer must be a string or a number, not a list"),
        ({"conversations": TWO, "gt": [{}]}, "gt must be a string or a number, not an object"),
        ({"conversations": TWO, "check": 1}, "check must be a string, not a number"),
        ({"chosen": TWO}, "rejected is missing"),
        ({"chosen": "a", "rejected": "b"}, "prompt is missing: chosen is only a string"),
        ({"chosen": TWO, "rejected": []}, "no messages in rejected"),
        ({"instruction": "x"}, "output is missing"),
        ({"instruction": "x", "output": ""}, "output is empty"),
        ({"instruction": "", "input": "", "output": "x"}, "instruction is empty"),
        ({"instruction": "x", "output": "y", "history": [["a"]]}, "history: entry 1 must be a question and an answer"),
        ({"prompt": "x"}, "completion or response is missing"),
        ({"prompt": "", "completion": "x"}, "prompt is empty"),
        ({"prompt": "q", "completion": 1}, "completion must be a list of messages, not a number"),
        ({"question": "x"}, "answer is missing"),
        ({"query": "x"}, "response is missing"),
    ],
)
def test_malformed_rows_say_what_is_wrong(row: Any, reason: str) -> None:
    with pytest.raises(BadRow) as caught:
        read(row)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"text": "\xff"}', "invalid UTF-8 at byte 11"),
        (b'{"text": "\xed\xa0\x80"}', "lone surrogate"),
        (b'{"text": "\\ud800"}', "lone surrogate"),
        (b'{"text": NaN}', "NaN is not JSON"),
        (b'{"text": [-Infinity]}', "-Infinity is not JSON"),
        (b'{"text": 1e999}', "number out of range"),
        (b'{"text": ' + b"1" * 5000 + b"}", "number out of range"),
        (b'{"text": "a', "truncated JSON: it ends too early"),
        (b'{"text": "a"', "truncated JSON: it ends too early"),
        (b'{"text": "a\n', "truncated JSON: it ends too early"),
        (b"{'text': 1}", "broken JSON at character 2: Expecting property name enclosed in double quotes"),
        (b'{"text": 1} x', "broken JSON at character 13: Extra data"),
        (b'{"text": "a\x00"}', "NUL character in text"),
        (b'{"text": "a\\u0000"}', "NUL character in text"),
        (b'{"\\u0000": 1}', "NUL character in text"),
        (b"[" * 100_000, f"nested deeper than {MAX_DEPTH} levels"),
        (b"[" * 100 + b"]" * 100, f"nested deeper than {MAX_DEPTH} levels"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, f"nested deeper than {MAX_DEPTH} levels"),
    ],
)
def test_strict_json(raw: bytes, reason: str) -> None:
    with pytest.raises(BadRow) as caught:
        loads(raw)
    assert caught.value.reason == reason


def test_strict_json_takes_what_only_looks_bad() -> None:
    assert loads(b'"\\\\u0000"') == "\\u0000"
    assert loads(b'"\\ud83d\\ude00"') == "\U0001f600"
    assert loads(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    assert len(loads(b"[" + b"[]," * 999 + b"[]]")) == 1000
