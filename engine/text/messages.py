"""Messages of a conversation, read from the layouts that data files use."""

from dataclasses import dataclass
from typing import Any

from engine.text.strict_json import BadRow, loads, quote

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
_CALL_ROLES = ("function_call", "tool_call")

_KINDS = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    tuple: "a list",
    dict: "an object",
    bytes: "bytes",
}


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: `system`, `user`, `assistant` or `tool`.
        content: What is said; empty where an assistant only calls tools.
        reasoning_content: The assistant's reasoning, where the file keeps it apart.
        tool_calls: The assistant's calls as the file has them: `{"name", "arguments"}` or OpenAI's
            `{"type", "function": {"name", "arguments"}}`.
        name: Who speaks, mostly a tool's name.
    """

    role: str
    content: str
    reasoning_content: str | None = None
    tool_calls: tuple[dict[str, Any], ...] | None = None
    name: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """What a chat template reads: role and content, the other keys only when set."""
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.reasoning_content is not None:
            message["reasoning_content"] = self.reasoning_content
        if self.tool_calls is not None:
            message["tool_calls"] = list(self.tool_calls)
        if self.name is not None:
            message["name"] = self.name
        return message

    @property
    def is_empty(self) -> bool:
        """Whether nothing is said, thought or called."""
        return not (self.content.strip() or (self.reasoning_content or "").strip() or self.tool_calls)


def kind(value: object) -> str:
    """A value's type in plain words: "a list"."""
    return _KINDS.get(type(value), type(value).__name__)


def read_string(value: object, name: str) -> str:
    """The value, which must be a string.

    Raises:
        BadRow: It is something else; the reason says which field.
    """
    if not isinstance(value, str):
        raise BadRow(f"{name} must be a string, not {kind(value)}")
    return value


def read_messages(value: object, name: str) -> tuple[Message, ...]:
    """A list of messages with `role`/`content` or `from`/`value`.

    Raises:
        BadRow: It is no list, it is empty, a message is malformed, or nothing is said in any of them.
    """
    if not isinstance(value, list | tuple):
        raise BadRow(f"{name} must be a list of messages, not {kind(value)}")
    if not value:
        raise BadRow(f"no messages in {name}")
    messages = tuple(_read_message(item, f"{name}: message {index}") for index, item in enumerate(value, 1))
    if all(message.is_empty for message in messages):
        raise BadRow(f"all contents in {name} are empty")
    return messages


def read_tools(value: object, name: str) -> tuple[dict[str, Any], ...] | None:
    """Objects given as a list, one object, or the JSON text of either; None when there are none.

    Raises:
        BadRow: The JSON text does not parse, or it holds something else than objects.
    """
    if isinstance(value, str):
        if not value.strip():
            return None
        try:
            value = loads(value)
        except BadRow as error:
            raise BadRow(f"{name}: {error.reason}") from None
    if value is None:
        return None
    items = [value] if isinstance(value, dict) else value
    if not isinstance(items, list | tuple):
        raise BadRow(f"{name} must be a list of objects, not {kind(items)}")
    for item in items:
        if not isinstance(item, dict):
            raise BadRow(f"{name} must hold objects, not {kind(item)}")
    return tuple(items) or None


def _read_message(item: object, place: str) -> Message:
    if not isinstance(item, dict):
        raise BadRow(f"{place} must be an object, not {kind(item)}")
    role_key, content_key = ("from", "value") if "role" not in item and "from" in item else ("role", "content")
    if role_key not in item:
        raise BadRow(f"{place}: role is missing")
    given = read_string(item[role_key], f"{place}: {role_key}").strip().lower()
    role = _ROLES.get(given)
    if role is None:
        raise BadRow(f"{place}: unknown role {quote(item[role_key])}")
    if given in _CALL_ROLES:
        return Message(
            role, "", tool_calls=_read_calls(item.get(content_key), f"{place}: {content_key}", required=True)
        )
    calls = _read_calls(item.get("tool_calls"), f"{place}: tool_calls")
    reasoning, name = item.get("reasoning_content"), item.get("name")
    return Message(
        role,
        _read_content(item, content_key, place, may_lack=calls is not None),
        None if reasoning is None else read_string(reasoning, f"{place}: reasoning_content"),
        calls,
        None if name is None else read_string(name, f"{place}: name"),
    )


def _read_content(item: dict[str, Any], key: str, place: str, *, may_lack: bool) -> str:
    content = item.get(key)
    if content is None and may_lack:
        return ""
    if key not in item:
        raise BadRow(f"{place}: {key} is missing")
    if isinstance(content, list | tuple):
        return "".join(_read_part(part, f"{place}: {key}") for part in content)
    return read_string(content, f"{place}: {key}")


def _read_part(part: object, place: str) -> str:
    if not isinstance(part, dict):
        raise BadRow(f"{place}: a part must be an object, not {kind(part)}")
    if part.get("type") != "text":
        raise BadRow(f"{place}: only text parts can be read, not {quote(part.get('type'))}")
    return read_string(part.get("text"), f"{place}: text")


def _read_calls(value: object, place: str, *, required: bool = False) -> tuple[dict[str, Any], ...] | None:
    calls = read_tools(value, place)
    if required and calls is None:
        raise BadRow(f"{place}: no tool call")
    for call in calls or ():
        function = call.get("function", call)
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadRow(f"{place}: a tool call has no name")
    return calls
