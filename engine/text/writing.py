"""From a record back to a row of a data file: the opposite of `engine.text.shapes`."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from engine.text.messages import Message
from engine.text.shapes import FIELDS, Record, read_row
from engine.text.strict_json import BadRow, loads, quote

_FROM = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
_CONTENT = ("shape", "text", "messages", "rejected", "tools", "answer", "check")
_SHAPES = {"text": "running text", "conversation": "a conversation", "pair": "a pair", "prompt": "a prompt"}

_Row = dict[str, Any]


class Written(NamedTuple):
    """A record as a line of a file.

    Attributes:
        line: JSON with its line end.
        lost: What the line does not hold, in words.
    """

    line: bytes
    lost: tuple[str, ...] = ()


def write_record(record: Record, layout: str) -> Written:
    """Writes a record in a layout.

    The line is read back, so it gives an equal record (row, line and format aside). Only other columns of the row may
    be lost: those that the layout, or one that is looked for before it, would read as its own.

    Args:
        record: The record.
        layout: One of `LAYOUTS`.

    Raises:
        BadRow: The layout cannot hold it; the reason says why.
    """
    writer = _WRITERS[layout].get(record.shape)
    if writer is None:
        raise BadRow(f"{_SHAPES[record.shape]} has no {layout} layout")
    fields = writer(record)
    harmless = {name: value for name, value in record.extra.items() if name not in FIELDS or name == "gt"}
    changed = ""
    for extra in (record.extra, harmless):
        line = to_line({**extra, **fields})
        changed = _changed(line, record)
        if not changed:
            dropped = (name for name in record.extra if name in fields or name not in extra)
            return Written(line, tuple(f"column {quote(name)}" for name in dropped))
    raise BadRow(f"the {layout} layout cannot hold it: {changed}")


def to_line(row: Mapping[str, Any]) -> bytes:
    """A row as one line of JSON with its line end.

    Raises:
        BadRow: A value has no place in JSON: bytes, decimals, integers beyond 64 bits.
    """
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError as error:
        raise BadRow(f"it cannot be written as JSON: {error}") from None


def _changed(line: bytes, record: Record) -> str:
    try:
        back = read_row(loads(line), record.row, record.line)
    except BadRow as error:
        return error.reason
    names = [name for name in _CONTENT if getattr(back, name) != getattr(record, name)]
    return f"its {names[0]} would change" if names else ""


def _verdict(record: Record) -> _Row:
    given = {"answer": record.answer, "check": record.check}
    return {name: value for name, value in given.items() if value is not None}


def _tools(record: Record) -> _Row:
    return {} if record.tools is None else {"tools": list(record.tools)}


def _turns(record: Record) -> tuple[Message, ...]:
    """The messages, with a dummy answer behind a prompt (MiniMind's RLAIF files)."""
    return (*record.messages, Message("assistant", "")) if record.shape == "prompt" else record.messages


def _minimind_turns(messages: tuple[Message, ...], record: Record) -> list[_Row]:
    """Tools stand on the system turn and, like calls, as JSON text."""
    turns = [message.as_dict() for message in messages]
    for turn in turns:
        if "tool_calls" in turn:
            turn["tool_calls"] = orjson.dumps(turn["tool_calls"]).decode()
    if record.tools is not None and turns[0]["role"] == "system":
        turns[0]["tools"] = orjson.dumps(record.tools).decode()
    return turns


def _minimind_tools(record: Record) -> _Row:
    """What MiniMind has no place for: tools without a system turn."""
    return {} if record.messages[0].role == "system" else _tools(record)


def _text(record: Record) -> _Row:
    return {"text": record.text}


def _minimind(record: Record) -> _Row:
    turns = _minimind_turns(_turns(record), record)
    return {"conversations": turns, **_minimind_tools(record), **_verdict(record)}


def _pair(record: Record) -> _Row:
    sides = {"chosen": record.messages, "rejected": record.rejected}
    return {name: _minimind_turns(side, record) for name, side in sides.items()} | _minimind_tools(record)


def _openai(record: Record) -> _Row:
    return {"messages": [message.as_dict() for message in _turns(record)], **_tools(record), **_verdict(record)}


def _sharegpt(record: Record) -> _Row:
    turns = [_sharegpt_turn(message) for message in _turns(record)]
    return {"conversations": turns, **_tools(record), **_verdict(record)}


def _sharegpt_turn(message: Message) -> _Row:
    turn = message.as_dict()
    role, content = turn.pop("role"), turn.pop("content")
    if turn.keys() == {"tool_calls"} and not content:
        calls = turn["tool_calls"]
        return {"from": "function_call", "value": orjson.dumps(calls[0] if len(calls) == 1 else calls).decode()}
    return {"from": _FROM[role], "value": content, **turn}


def _is_plain(message: Message) -> bool:
    return message == Message(message.role, message.content)


def _alpaca(record: Record) -> _Row:
    if record.tools is not None:
        raise BadRow("alpaca has no place for tools")
    if not all(map(_is_plain, record.messages)):
        raise BadRow("alpaca has no place for tool calls, reasoning and names")
    system = record.messages[0].content if record.messages[0].role == "system" else None
    turns = record.messages[system is not None :]
    if len(turns) % 2 or any(turn.role != ("user", "assistant")[index % 2] for index, turn in enumerate(turns)):
        raise BadRow("alpaca takes only a user's and an assistant's turns, one after the other")
    said = [turn.content for turn in turns]
    row: _Row = {"instruction": said[-2], "input": "", "output": said[-1]}
    if system is not None:
        row["system"] = system
    if said[:-2]:
        row["history"] = [list(pair) for pair in zip(said[:-2:2], said[1:-2:2], strict=True)]
    return row | _verdict(record)


def _completion(record: Record) -> _Row:
    before, last = record.messages[:-1], record.messages[-1]
    if last.role != "assistant" or not before:
        raise BadRow("prompt-completion takes what ends with an assistant's turn after a prompt")
    plain = len(before) == 1 and before[0].role == "user" and _is_plain(before[0]) and _is_plain(last)
    prompt, completion = (before[0].content, last.content) if plain else (_dicts(*before), _dicts(last))
    return {"prompt": prompt, "completion": completion, **_tools(record), **_verdict(record)}


def _prompt(record: Record) -> _Row:
    first = record.messages[0]
    plain = len(record.messages) == 1 and first.role == "user" and _is_plain(first)
    return {
        "prompt": first.content if plain else _dicts(*record.messages), **_tools(record), **_verdict(record)
    }  # fmt: skip


def _dicts(*messages: Message) -> list[_Row]:
    return [message.as_dict() for message in messages]


_WRITERS: dict[str, dict[str, Callable[[Record], _Row]]] = {
    "minimind": {"text": _text, "conversation": _minimind, "prompt": _minimind, "pair": _pair},
    "openai": {"conversation": _openai, "prompt": _openai},
    "sharegpt": {"conversation": _sharegpt, "prompt": _sharegpt},
    "alpaca": {"conversation": _alpaca},
    "prompt-completion": {"conversation": _completion, "prompt": _prompt},
}

LAYOUTS = tuple(_WRITERS)
"""The layouts that rows can be written in; `minimind` holds every shape."""
