"""From one parsed object of a data file to a `Record`: the layout is found by looking at the fields."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from engine.errors import UserError
from engine.text.messages import Message, kind, read_messages, read_string, read_tools
from engine.text.strict_json import BadRow, quote

DUMMY_ANSWERS = ("", "无")
"""What MiniMind's RLAIF files put where the assistant is to speak."""

_CLOSING = re.compile(r"^####(?!#)[ \t]*(\S[^\n]*?)\s*\Z", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Record:
    """One usable row of a data file.

    Attributes:
        row: 0-based among the usable rows.
        line: 1-based in the file: where the row begins, or the element's number in a JSON list or parquet file.
        shape: `text`, `conversation`, `pair` or `prompt`.
        format: The layout found in the file: `text`, `minimind`, `openai`, `sharegpt`, `alpaca`, …
        text: Running text (shape `text`).
        messages: The conversation; a pair's chosen side; a prompt without the dummy answer.
        rejected: A pair's rejected side.
        tools: Tool descriptions as the file has them.
        answer: The expected answer, where the row has one.
        check: How a reply is compared with the answer, where the row says so.
        extra: The row's other fields.
    """

    row: int
    line: int
    shape: str
    format: str
    text: str = ""
    messages: tuple[Message, ...] = ()
    rejected: tuple[Message, ...] = ()
    tools: tuple[dict[str, Any], ...] | None = None
    answer: str | None = None
    check: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


_Fields = Mapping[str, Any]


@dataclass(frozen=True)
class _Layout:
    """A known set of fields. Each entry of `required` is a choice of names of which a row has at least one."""

    required: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...]
    read: Callable[[_Fields], dict[str, Any]]

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset((*(name for choice in self.required for name in choice), *self.optional))

    def missing(self, fields: _Fields) -> tuple[str, ...] | None:
        """The first choice of names of which the row has none."""
        for choice in self.required:
            if all(fields.get(name) is None for name in choice):
                return choice
        return None


def _said(value: object, name: str) -> str:
    text = read_string(value, name)
    if not text.strip():
        raise BadRow(f"{name} is empty")
    return text


def _turns(value: object, name: str, role: str) -> tuple[Message, ...]:
    """A string is one turn of the role; anything else must be messages."""
    return (Message(role, _said(value, name)),) if isinstance(value, str) else read_messages(value, name)


def _with_system(fields: _Fields, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    system = fields.get("system")
    if system is None or messages[0].role == "system":
        return messages
    text = read_string(system, "system")
    return (Message("system", text), *messages) if text.strip() else messages


def _scalar(value: object, name: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadRow(f"{name} must be a string or a number, not {kind(value)}")
    return str(value)


def _verdict(fields: _Fields) -> dict[str, Any]:
    """`answer` (from `answer`, or the first of `gt`) and `check`."""
    answer, truths, check = fields.get("answer"), fields.get("gt"), fields.get("check")
    if answer is None and truths is not None:
        answer = next(iter(truths), None) if isinstance(truths, list | tuple) else truths
    return {
        "answer": None if answer is None else _scalar(answer, "answer" if fields.get("answer") is not None else "gt"),
        "check": None if check is None else read_string(check, "check"),
    }


def _tools(fields: _Fields, *lists: object) -> tuple[dict[str, Any], ...] | None:
    """Tools stand beside the messages, or on one of them (mostly the system turn); the old name is `functions`."""
    holders = [fields, *(item for messages in lists if isinstance(messages, list | tuple) for item in messages)]
    for holder in holders:
        for name in ("tools", "functions"):
            tools = read_tools(holder.get(name), name) if isinstance(holder, Mapping) else None
            if tools is not None:
                return tools
    return None


def _read_conversation(name: str, layout: str) -> Callable[[_Fields], dict[str, Any]]:
    def read(fields: _Fields) -> dict[str, Any]:
        given = fields[name]
        messages = read_messages(given, name)
        found = "sharegpt" if "from" in given[0] and "role" not in given[0] else layout
        last, before = messages[-1], messages[:-1]
        dummy = last.role == "assistant" and last.content.strip() in DUMMY_ANSWERS
        prompt = dummy and bool(before) and not last.tool_calls and not last.reasoning_content
        if prompt and all(message.is_empty for message in before):
            raise BadRow(f"all contents in {name} are empty")
        return {
            "shape": "prompt" if prompt else "conversation",
            "format": f"{found}-prompt" if prompt else found,
            "messages": _with_system(fields, before if prompt else messages),
            "tools": _tools(fields, given),
            **_verdict(fields),
        }

    return read


def _read_pair(fields: _Fields) -> dict[str, Any]:
    prompt = fields.get("prompt")
    before = () if prompt is None else _turns(prompt, "prompt", "user")
    sides = []
    for name in ("chosen", "rejected"):
        if isinstance(fields[name], str) and prompt is None:
            raise BadRow(f"prompt is missing: {name} is only a string")
        side = _turns(fields[name], name, "assistant")
        opening = next((message.role for message in side if message.role != "system"), "")
        # A side that opens with a user's turn holds the prompt already; one that goes on from it does not.
        sides.append(_with_system(fields, side if opening == "user" else (*before, *side)))
    return {
        "shape": "pair",
        "format": "minimind-pair" if prompt is None else "prompt-pair",
        "messages": sides[0],
        "rejected": sides[1],
        "tools": _tools(fields, prompt, fields["chosen"]),
    }


def _read_alpaca(fields: _Fields) -> dict[str, Any]:
    parts = [read_string(fields[name], name) for name in ("instruction", "input") if fields.get(name) is not None]
    question = "\n".join(part for part in parts if part.strip())
    if not question:
        raise BadRow("instruction is empty")
    history = fields.get("history")
    turns: list[Message] = []
    if history is not None and not isinstance(history, list | tuple):
        raise BadRow(f"history must be a list, not {kind(history)}")
    for index, pair in enumerate(history or (), 1):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise BadRow(f"history: entry {index} must be a question and an answer")
        turns.append(Message("user", read_string(pair[0], f"history: entry {index}")))
        turns.append(Message("assistant", read_string(pair[1], f"history: entry {index}")))
    turns += [Message("user", question), Message("assistant", _said(fields["output"], "output"))]
    return {
        "shape": "conversation",
        "format": "alpaca",
        "messages": _with_system(fields, tuple(turns)),
        **_verdict(fields),
    }


def _read_completion(fields: _Fields) -> dict[str, Any]:
    name = "completion" if fields.get("completion") is not None else "response"
    prompt, completion = fields["prompt"], fields[name]
    return {
        "shape": "conversation",
        "format": "prompt-completion",
        "messages": _with_system(fields, (*_turns(prompt, "prompt", "user"), *_turns(completion, name, "assistant"))),
        "tools": _tools(fields, prompt),
        **_verdict(fields),
    }


def _read_prompt(fields: _Fields) -> dict[str, Any]:
    return {
        "shape": "prompt",
        "format": "prompt-answer",
        "messages": _with_system(fields, _turns(fields["prompt"], "prompt", "user")),
        "tools": _tools(fields, fields["prompt"]),
        **_verdict(fields),
    }


def closing_answer(text: str) -> str:
    """What follows `####` where a solution's last line begins with it, as in GSM8K; else the text as it is."""
    found = _CLOSING.search(text)
    return found[1] if found else text


def _read_question(question: str, answer: str) -> Callable[[_Fields], dict[str, Any]]:
    def read(fields: _Fields) -> dict[str, Any]:
        reply = _said(_scalar(fields[answer], answer), answer)
        turns = (Message("user", _said(fields[question], question)), Message("assistant", reply))
        verdict = _verdict(fields)
        return {
            "shape": "conversation",
            "format": "question-answer",
            "messages": _with_system(fields, turns),
            **verdict,
            "answer": closing_answer(verdict["answer"] or reply),
        }

    return read


def _read_text(fields: _Fields) -> dict[str, Any]:
    return {"shape": "text", "format": "text", "text": _said(fields["text"], "text")}


_TALK = ("system", "tools", "functions")
_VERDICT = ("answer", "gt", "check")

# The first layout whose fields a row has is taken: the more telling ones come first.
_LAYOUTS = (
    _Layout((("chosen",), ("rejected",)), ("prompt", *_TALK), _read_pair),
    _Layout((("conversations",),), (*_TALK, *_VERDICT), _read_conversation("conversations", "minimind")),
    _Layout((("messages",),), (*_TALK, *_VERDICT), _read_conversation("messages", "openai")),
    _Layout((("instruction",), ("output",)), ("input", "system", "history", *_VERDICT), _read_alpaca),
    _Layout((("prompt",), ("completion", "response")), (*_TALK, *_VERDICT), _read_completion),
    _Layout((("prompt",), _VERDICT), _TALK, _read_prompt),
    _Layout((("question",), ("answer",)), ("system", "gt", "check"), _read_question("question", "answer")),
    _Layout((("query",), ("response",)), ("system", *_VERDICT), _read_question("query", "response")),
    _Layout((("text",),), (), _read_text),
)

FIELDS = frozenset(name for layout in _LAYOUTS for name in layout.names)
"""Every field name that a layout knows, and that a mapping can give another column's name."""

KNOWN = "text, conversations, messages, chosen+rejected, instruction+output, prompt+completion, question+answer"
"""What a row can hold, in short."""


def read_row(value: object, row: int, line: int, mapping: Mapping[str, str] | None = None) -> Record:
    """Makes a record of a parsed row.

    Args:
        value: The parsed row; its strings hold no NUL and no lone surrogates.
        row: The number it will have among the usable rows.
        line: Where it stands in the file.
        mapping: Our field names → the file's columns (dotted paths reach into objects).

    Raises:
        BadRow: It cannot be used; the reason says why.
    """
    if not isinstance(value, dict):
        raise BadRow(f"a row must be an object, not {kind(value)}")
    fields: _Fields = value
    if mapping:
        fields = {**value, **{name: _dig(value, column, name) for name, column in mapping.items()}}
    layout = _find(fields, mapping or ())
    used = (layout.names | {column.partition(".")[0] for column in (mapping or {}).values()}) - {"gt"}
    extra = {name: item for name, item in fields.items() if name not in used}
    return Record(row=row, line=line, extra=extra, **layout.read(fields))


def as_prompt(record: Record) -> Record:
    """A conversation as a question: where the assistant has the last word, that is what is expected of the model.

    Raises:
        BadRow: Nobody asks anything.
    """
    if record.shape == "prompt":
        return record
    answered = record.messages[-1].role == "assistant"
    asked = record.messages[:-1] if answered else record.messages
    if not asked:
        raise BadRow("there is no prompt before the answer")
    answer = record.answer if record.answer is not None or not answered else record.messages[-1].content
    return replace(record, shape="prompt", messages=asked, answer=answer)


def check_mapping(mapping: Mapping[str, str]) -> None:
    """Refuses a mapping that no row could satisfy.

    Raises:
        UserError: A name is unknown, or no layout has all the names.
    """
    unknown = sorted(set(mapping) - FIELDS)
    if unknown:
        raise UserError(f"unknown field {quote(unknown[0])} in the mapping", hint=f"known: {', '.join(sorted(FIELDS))}")
    if not any(set(mapping) <= set(layout.names) for layout in _LAYOUTS):
        raise UserError(f"no layout has all of {', '.join(sorted(mapping))}", hint=f"a row is one of {KNOWN}")


def _dig(row: Mapping[str, Any], column: str, name: str) -> Any:
    if column in row:
        return row[column]
    value: Any = row
    for part in column.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise BadRow(f"column {quote(column)} (for {name}) is missing")
        value = value[part]
    return value


def _find(fields: _Fields, mapped: Collection[str]) -> _Layout:
    candidates = [layout for layout in _LAYOUTS if all(name in layout.names for name in mapped)]
    for layout in candidates:
        if layout.missing(fields) is None:
            return layout
    for layout in candidates:
        if any(fields.get(name) is not None for choice in layout.required for name in choice):
            raise BadRow(f"{' or '.join(layout.missing(fields) or ())} is missing")
    named = next((name for name in fields if name in FIELDS), None)
    if named is not None and fields[named] is None:
        raise BadRow(f"{named} is null")
    found = ", ".join(quote(name, 20) for name in list(fields)[:4]) or "none"
    raise BadRow(f"no known field (found {found})")
