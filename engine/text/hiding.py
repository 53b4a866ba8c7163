"""Literal markers in content, hidden while a template renders, so that every marker in its output is its own."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.text.messages import Message
from engine.text.tokenizer import Tokenizer

_PRIVATE = (0xF0000, 0xFFFFD), (0x100000, 0x10F000)
"""Ranges of private-use characters to choose stand-ins from; the last ones are the tokenizer's own."""

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Hidden:
    """A conversation without literal markers.

    Attributes:
        messages: As a template reads them.
        tools: Their schemas, or None.
        used: Whether anything was hidden.
    """

    messages: list[dict[str, Any]]
    tools: Any
    _literal: Mapping[str, str] = field(default_factory=dict)

    @property
    def used(self) -> bool:
        return bool(self._literal)

    def restore(self, text: str) -> tuple[str, Ranges]:
        """The text with its literal markers back, and where they stand in it."""
        if not self._literal:
            return text, ()
        parts: list[str] = []
        ranges: list[tuple[int, int]] = []
        length = position = 0
        for match in re.finditer(f"[{''.join(self._literal)}]", text):
            marker = self._literal[match[0]]
            length += match.start() - position
            ranges.append((length, length + len(marker)))
            parts += [text[position : match.start()], marker]
            length, position = length + len(marker), match.end()
        return "".join([*parts, text[position:]]), tuple(ranges)


class Markers:
    """The markers of a tokenizer: control tokens, and tags, which a model writes inside its turns."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._names = [*tokenizer.control_tokens, *tokenizer.tags]
        self.control = _alternatives(tokenizer.control_tokens)
        """Finds the control tokens."""
        self.ends = {marker for marker, id_ in tokenizer.control_tokens.items() if id_ in tokenizer.stop_ids}
        """Control tokens that are known to end a turn."""
        self._all = _alternatives(self._names)

    def hide(self, messages: Sequence[Message], tools: Any, taken: str) -> Hidden:
        """Puts a private character for every marker that content holds.

        Control markers never come from content; tags are the assistant's and the tools' to say.

        Args:
            messages: The conversation.
            tools: Tool schemas, or None.
            taken: Text whose characters are no stand-ins, such as the template's source.

        Raises:
            ValueError: The content holds so many private-use characters that none are left.
        """
        plain = [message.as_dict() for message in messages]
        tools = list(tools) if tools else None
        if not any(self._all.search(text) for text in _strings([plain, tools])):
            return Hidden(plain, tools)
        stand_ins = self._stand_ins(set(taken).union(*_strings([plain, tools])))

        def stand_in(match: re.Match[str]) -> str:
            return stand_ins[match[0]]

        hidden = []
        for message in plain:
            pattern = self._all if message["role"] in ("system", "user") else self.control
            hidden.append({key: _replaced(value, pattern, stand_in) for key, value in message.items()})
        return Hidden(
            hidden, _replaced(tools, self._all, stand_in), {char: marker for marker, char in stand_ins.items()}
        )

    def _stand_ins(self, taken: set[str]) -> dict[str, str]:
        count = len(self._names)
        for first, last in _PRIVATE:
            for start in range(first, last - count, count):
                characters = [chr(start + offset) for offset in range(count)]
                if taken.isdisjoint(characters):
                    return dict(zip(self._names, characters, strict=True))
        raise ValueError("the content leaves no private-use character to hide its markers with")


def _alternatives(markers: Mapping[str, int] | Sequence[str]) -> re.Pattern[str]:
    longest_first = sorted((marker for marker in markers if marker), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def _strings(value: Any) -> Iterator[str]:
    """All strings inside a value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)


def _replaced(value: Any, pattern: re.Pattern[str], stand_in: Any) -> Any:
    if isinstance(value, str):
        return pattern.sub(stand_in, value)
    if isinstance(value, Mapping):
        return {pattern.sub(stand_in, str(key)): _replaced(inner, pattern, stand_in) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(inner, pattern, stand_in) for inner in value]
    return value
