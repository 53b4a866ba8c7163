"""From messages to segments: the chat template's exact text, cut where roles and training begin and end.

The mask is made while rendering. Literal markers inside content are replaced by private characters before the template
sees them, so every marker in the output is the template's own; afterwards they are put back as plain text. An
assistant turn is trained from where the generation prompt ends to the end of its end-of-turn token.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.text.messages import Message
from engine.text.template import ChatTemplate, RenderRequest, TemplateFailure
from engine.text.tokenizer import Tokenizer

_THINKING: tuple[dict[str, Any], ...] = (
    {},
    {"enable_thinking": True, "open_thinking": True},
    {"enable_thinking": False, "open_thinking": False},
)
"""Ways to ask for a generation prompt (Qwen3's and MiniMind-3's option names); the first that the turn begins with."""

NO_END_OF_TURN = "an assistant turn has no end-of-turn token: the model never learns to stop"

_EMPTY_THINK = "<think>\n\n</think>\n\n"


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of rendered text that one party is responsible for.

    Attributes:
        text: The text; the texts of all segments are the template's rendering.
        role: Whose turn it is: system, user, assistant or tool.
        kind: `header` (up to the content), `content`, `end` (the end-of-turn token) or `after` (what follows it).
        trained: Whether the model learns to say it.
        literal: Ranges of `text` in which markers are plain text.
    """

    text: str
    role: str
    kind: str
    trained: bool
    literal: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Rendering:
    """One sample's segments, and what was odd about them."""

    segments: tuple[Segment, ...]
    problems: tuple[str, ...] = ()


class _Shield:
    """Replaces markers in content by private characters that no message contains, and puts them back."""

    def __init__(self, tokenizer: Tokenizer, messages: Sequence[Message], tools: Any) -> None:
        control, tags = list(tokenizer.control_tokens), list(tokenizer.tags)
        text = repr((messages, tools))
        start = 0xF0000
        while any(chr(start + offset) in text for offset in range(len(control) + len(tags))):
            start += len(control) + len(tags)
        self._private = {marker: chr(start + offset) for offset, marker in enumerate([*control, *tags])}
        self._literal = {char: marker for marker, char in self._private.items()}
        self._all = _alternatives([*control, *tags])
        self._control = _alternatives(control)
        self._back = re.compile(f"[{chr(start)}-{chr(start + max(len(self._private) - 1, 0))}]")
        self.used = False

    def hide(self, value: Any, *, tags: bool) -> Any:
        """Hides markers in all strings inside a value; tags only where they must not become tokens."""
        if isinstance(value, str):
            pattern = self._all if tags else self._control
            hidden = pattern.sub(lambda match: self._private[match[0]], value) if pattern else value
            self.used |= hidden != value
            return hidden
        if isinstance(value, Mapping):
            return {key: self.hide(inner, tags=tags) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.hide(inner, tags=tags) for inner in value]
        return value

    def restore(self, text: str) -> tuple[str, tuple[tuple[int, int], ...]]:
        """The text with its literal markers back, and where they stand."""
        parts: list[str] = []
        ranges: list[tuple[int, int]] = []
        length = position = 0
        for match in self._back.finditer(text) if self._private else ():
            marker = self._literal[match[0]]
            length += match.start() - position
            ranges.append((length, length + len(marker)))
            parts += [text[position : match.start()], marker]
            length, position = length + len(marker), match.end()
        return "".join([*parts, text[position:]]), tuple(ranges)


def _alternatives(markers: Sequence[str]) -> re.Pattern[str] | None:
    return (
        re.compile("|".join(re.escape(marker) for marker in sorted(markers, key=len, reverse=True)))
        if markers
        else None
    )


def render_conversation(
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] | None,
    template: ChatTemplate,
    tokenizer: Tokenizer,
    *,
    remove_empty_think: bool = False,
) -> list[Rendering]:
    """Renders a conversation with every assistant turn marked for training.

    A template whose rendering of earlier turns changes as the conversation goes on (one that drops old thoughts) gives
    one sample per assistant turn; otherwise there is one sample.

    Raises:
        TemplateFailure: The template refuses the conversation, or no generation prompt of it begins an assistant turn.
    """
    work = _Work(messages, tools, template, tokenizer, remove_empty_think)
    turns = [index for index, message in enumerate(messages) if message.role == "assistant"]
    prefixes = work.prefixes()
    full = prefixes[-1]
    assert full is not None
    starts = {index: work.turn_start(index, prefixes[index]) for index in turns}
    if all(full.startswith(prefixes[index] or "\0") for index in turns):
        return [work.cut(full, prefixes, starts)]
    return [work.cut(prefixes[index] or "", prefixes[: index + 1], {index: starts[index]}) for index in turns]


def render_prompt(
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] | None,
    template: ChatTemplate,
    tokenizer: Tokenizer,
    options: Mapping[str, Any] | None = None,
) -> Rendering:
    """Renders a conversation up to where the assistant is to speak, cut exactly as in training."""
    work = _Work(messages, tools, template, tokenizer, False)
    prefixes = work.prefixes()
    text = work.render([(len(messages), True, dict(options or {}))])[0]
    turns = [index for index, message in enumerate(messages) if message.role == "assistant"]
    steady = all(text.startswith(prefixes[index] or "\0") for index in turns)
    starts = {index: work.turn_start(index, prefixes[index]) for index in turns} if steady else {}
    return work.cut(text, prefixes if steady else [], starts)


class _Work:
    """The rendering of one row."""

    def __init__(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None,
        template: ChatTemplate,
        tokenizer: Tokenizer,
        remove_empty_think: bool,
    ) -> None:
        self._messages, self._template, self._tokenizer = messages, template, tokenizer
        self._remove_empty_think = remove_empty_think
        self._shield = _Shield(tokenizer, messages, tools)
        self._hidden = [
            {
                key: value if key == "role" else self._shield.hide(value, tags=message.role in ("system", "user"))
                for key, value in message.as_dict().items()
            }
            for message in messages
        ]
        self._tools = self._shield.hide(tools, tags=True) if tools else None
        self._raw_tools = list(tools) if tools else None

    def render(self, wanted: Sequence[tuple[int, bool, dict[str, Any]]]) -> list[str]:
        """Renders prefixes: (how many messages, with generation prompt, options)."""
        return self._template.render(
            [RenderRequest(self._hidden[:count], self._tools, prompt, options) for count, prompt, options in wanted]
        )

    def _try(self, count: int, prompt: bool, options: dict[str, Any]) -> str | None:
        try:
            return self.render([(count, prompt, options)])[0]
        except TemplateFailure:
            return None

    def prefixes(self) -> list[str | None]:
        """The rendering of the first 1, 2, … messages; None where the template refuses to end there."""
        count = len(self._messages)
        try:
            return list(self.render([(index + 1, False, {}) for index in range(count)]))
        except TemplateFailure:
            full = self.render([(count, False, {})])[0]
            return [*(self._try(index + 1, False, {}) for index in range(count - 1)), full]

    def turn_start(self, index: int, rendered: str | None) -> int:
        """Where the trained part of an assistant turn begins: the length of the generation prompt that opens it."""
        if rendered is None:
            raise TemplateFailure(f"the template refuses a conversation that ends with message {index + 1}")
        if index == 0:
            return self._start_of_first(rendered)
        for options in _THINKING:
            prompt = self._try(index, True, options)
            if prompt is not None and rendered.startswith(prompt):
                return len(prompt)
        raise TemplateFailure(
            "the template's generation prompt does not begin its assistant turns, so no mask can be made"
        )

    def _start_of_first(self, rendered: str) -> int:
        """Nothing stands before the turn, so no generation prompt can be asked for: compare two other contents."""
        probes = [{"role": "assistant", "content": content} for content in ("a", "b")]
        one, two = self._template.render([RenderRequest([probe], self._tools, False, {}) for probe in probes])
        common = next((place for place, (x, y) in enumerate(zip(one, two, strict=False)) if x != y), 0)
        if not common or not rendered.startswith(one[:common]):
            raise TemplateFailure("the template hides where its first assistant turn begins")
        return common

    def cut(self, text: str, prefixes: Sequence[str | None], starts: Mapping[int, int]) -> Rendering:
        """Cuts a rendering into segments at the ends of messages and the edges of trained turns."""
        segments: list[Segment] = []
        problems: list[str] = []
        position = 0
        for index, prefix in enumerate(prefixes):
            if prefix is None or not text.startswith(prefix) or len(prefix) <= position:
                continue
            message = self._messages[index]
            piece = text[position : len(prefix)]
            if message.role == "assistant" and index in starts:
                segments += self._assistant(piece, starts[index] - position, message, problems)
            else:
                segments += self._other(piece, message.role, self._hidden[index].get("content"))
            position = len(prefix)
        if position < len(text):
            role = "assistant" if not prefixes or len(prefixes) == len(self._messages) else "user"
            segments += self._pieces([(text[position:], role, "header", False)])
        if self._shield.used and not self._remove_empty_think:
            problems += self._check_shield(text, len(prefixes))
        return Rendering(tuple(segments), tuple(problems))

    def _assistant(self, piece: str, start: int, message: Message, problems: list[str]) -> Iterator[Segment]:
        header, turn = piece[:start], piece[start:]
        markers = _alternatives(list(self._tokenizer.control_tokens))
        ends = list(markers.finditer(turn)) if markers else []
        said = bool(message.content or message.tool_calls or message.reasoning_content)
        if ends:
            content, end, after = turn[: ends[-1].start()], ends[-1][0], turn[ends[-1].end() :]
        else:
            content, end, after = turn, "", ""
            problems.append(NO_END_OF_TURN)
        parts = [
            (header, "assistant", "header", False),
            (content, "assistant", "content", said),
            (end, "assistant", "end", said),
            (after, "assistant", "after", False),
        ]
        return self._pieces(parts)

    def _other(self, piece: str, role: str, content: object) -> Iterator[Segment]:
        inner = content.strip() if isinstance(content, str) else ""
        place = piece.rfind(inner) if inner else -1
        if place < 0:
            return self._pieces([(piece, role, "header", False)])
        end = place + len(inner)
        parts = [(piece[:place], "header"), (piece[place:end], "content"), (piece[end:], "after")]
        return self._pieces([(text, role, kind, False) for text, kind in parts])

    def _pieces(self, parts: Sequence[tuple[str, str, str, bool]]) -> Iterator[Segment]:
        for text, role, kind, trained in parts:
            shown = text.replace(_EMPTY_THINK, "") if self._remove_empty_think else text
            if shown:
                restored, literal = self._shield.restore(shown)
                yield Segment(restored, role, kind, trained, literal)

    def _check_shield(self, text: str, count: int) -> list[str]:
        """A template that looks into content would see the private characters: its text must not depend on them."""
        plain = [message.as_dict() for message in self._messages[:count]]
        try:
            raw = self._template.render([RenderRequest(plain, self._raw_tools, False, {})])[0]
        except TemplateFailure:
            raw = ""
        same = self._shield.restore(text)[0] == raw
        return [] if same or not count else ["the template treats literal markers in the content specially"]
