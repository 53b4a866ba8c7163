"""From messages to segments: the chat template's exact text, cut where roles and training begin and end.

The mask is made while rendering. Literal markers inside content are hidden before the template sees them, so every
marker in the output is the template's own; afterwards they are put back as plain text. An assistant turn is trained
from where the generation prompt ends to the end of its end-of-turn token.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from engine.text.cutting import Cutter, Rendering, Segment
from engine.text.hiding import Markers
from engine.text.messages import Message
from engine.text.template import ChatTemplate, RenderRequest, TemplateFailure
from engine.text.tokenizer import Tokenizer

_WAYS: tuple[dict[str, Any], ...] = (
    {},
    {"enable_thinking": True, "open_thinking": True},
    {"enable_thinking": False, "open_thinking": False},
)
"""Ways to ask for a generation prompt (Qwen3's and MiniMind-3's option names); the first that the turn begins with."""

MOST_MESSAGES = 256
"""How many messages are cut exactly; rendering every beginning takes time with the square of their number."""

Tools = Sequence[Mapping[str, Any]] | None


class ChatRenderer:
    """Renders conversations with a template, for a tokenizer whose markers the template writes."""

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer) -> None:
        self.template = template
        self.markers = Markers(tokenizer)
        self._suffixes: dict[int, str] = {}

    def conversation(
        self,
        messages: Sequence[Message],
        tools: Tools = None,
        *,
        remove_empty_think: bool = False,
        last_only: bool = False,
    ) -> list[Rendering]:
        """Renders a conversation with every assistant turn marked for training.

        A template whose rendering of earlier turns changes as the conversation goes on (one that drops old thoughts)
        gives one sample per assistant turn; otherwise there is one sample.

        Args:
            messages: The conversation.
            tools: Tool schemas.
            remove_empty_think: Whether empty think blocks are taken out.
            last_only: Whether only the last assistant turn is trained, whatever it says: an answer to judge.

        Raises:
            TemplateFailure: The template refuses, or no generation prompt of it begins an assistant turn.
        """
        row = _Row(self, messages, tools, remove_empty_think)
        turns = [index for index, message in enumerate(messages) if message.role == "assistant"]
        turns = turns[-1:] if last_only else turns
        row.fetch_all(len(messages))
        for index in turns:
            row.check_turn(index)
        full = row.whole()
        if all(full.startswith(row.whole(index + 1)) for index in turns):
            return [row.cut(full, len(messages), turns, always=last_only)]
        return [row.cut(row.whole(index + 1), index + 1, [index], always=last_only) for index in turns]

    def running(self, messages: Sequence[Message], tools: Tools = None) -> Rendering:
        """Renders a conversation of any length as one text, with nothing marked: every token counts alike."""
        row = _Row(self, messages, tools, False)
        row.fetch_all(len(messages))
        return row.cut(row.whole(), len(messages), ())

    def prompt(
        self, messages: Sequence[Message], tools: Tools = None, options: Mapping[str, Any] | None = None
    ) -> Rendering:
        """Renders a conversation up to where the assistant is to speak, cut exactly as in training."""
        row = _Row(self, messages, tools, False)
        row.fetch_all(len(messages))
        return row.cut_prompt(dict(options or {}))

    def suffix(self, way: int) -> str:
        """What a generation prompt adds, as far as an example shows."""
        if way not in self._suffixes:
            probe = [{"role": "user", "content": "a"}]
            try:
                plain, prompt = self.template.render(
                    [RenderRequest(probe), RenderRequest(probe, None, True, _WAYS[way])]
                )
            except TemplateFailure:
                plain, prompt = "\0", ""
            self._suffixes[way] = prompt[len(plain) :] if prompt.startswith(plain) else ""
        return self._suffixes[way]


class _Row:
    """The renderings of one conversation's beginnings, and where its messages stand in them."""

    def __init__(
        self, renderer: ChatRenderer, messages: Sequence[Message], tools: Tools, remove_empty_think: bool
    ) -> None:
        self._renderer, self._messages, self._tools = renderer, messages, tools
        try:
            self._hidden = renderer.markers.hide(messages, tools, renderer.template.source)
        except ValueError as error:
            raise TemplateFailure(str(error)) from error
        self._cutter = Cutter(messages, self._hidden, renderer.markers, remove_empty_think)
        self._texts: dict[tuple[int, int | None], str | None] = {}

    def fetch_all(self, count: int) -> None:
        """Renders at once what cutting will ask for: the ends of messages and the beginnings of assistant turns."""
        roles = [message.role for message in self._messages[:count]]
        wanted: list[tuple[int, int | None]] = [(count, None)]
        if count <= MOST_MESSAGES:
            for index, role in enumerate(roles):
                after = roles[index + 1] if index + 1 < count else ""
                if role == "assistant" and index:
                    wanted.append((index, 0))
                if index + 1 < count and (role == "assistant" or after != "assistant"):
                    wanted.append((index + 1, None))
        try:
            texts: list[str | None] = [*self._render([self._request(*key) for key in wanted])]
        except TemplateFailure:
            # Some beginnings may be refused, such as a system prompt alone; the whole must not be.
            texts = [*self._render([self._request(*wanted[0])]), *(self._try(key) for key in wanted[1:])]
        self._texts = dict(zip(wanted, texts, strict=True))

    def whole(self, count: int = 0) -> str:
        """The rendering of the first messages, of all by default.

        Raises:
            TemplateFailure: The template does not end there.
        """
        count = count or len(self._messages)
        text = self._text(count, None)
        if text is None:
            raise TemplateFailure(f"the template refuses a conversation that ends with message {count}")
        return text

    def check_turn(self, index: int) -> None:
        """Makes sure that it can be said where an assistant turn begins.

        Raises:
            TemplateFailure: It cannot.
        """
        text = self.whole(index + 1)
        start = self._start(index, text)
        if start is None:
            raise TemplateFailure(
                "the template's generation prompt does not begin its assistant turns, so no mask can be made"
            )
        if not self._renderer.suffix(0) and self._renderer.markers.control.match(text[start:].lstrip()):
            raise TemplateFailure(
                "the template has no generation prompt, so the header of its assistant turns would be trained"
            )

    def cut(self, text: str, count: int, trained: Collection[int], *, always: bool = False) -> Rendering:
        """Cuts the rendering of the first messages into segments; `always`: even where nothing is said."""
        self._check_hiding(text, self._request(count, None))
        problems: list[str] = []
        segments = self._segments(text, count, trained, always, problems)
        return Rendering(tuple(segments), tuple(dict.fromkeys(problems)))

    def cut_prompt(self, options: dict[str, Any]) -> Rendering:
        """Cuts the rendering that ends where the assistant is to speak."""
        count = len(self._messages)
        request = RenderRequest(self._hidden.messages, self._hidden.tools, True, options)
        text = self._render([request])[0]
        self._check_hiding(text, request)
        body = self.whole()
        body = body if text.startswith(body) else text
        segments = [
            *self._segments(body, count, (), False, []),
            *self._cutter.pieces([(text[len(body) :], "header", False)], "assistant", count),
        ]
        return Rendering(tuple(segments))

    def _request(self, count: int, way: int | None) -> RenderRequest:
        options = {} if way is None else _WAYS[way]
        return RenderRequest(self._hidden.messages[:count], self._hidden.tools, way is not None, options)

    def _render(self, requests: Sequence[RenderRequest]) -> list[str]:
        return self._renderer.template.render(requests)

    def _try(self, key: tuple[int, int | None]) -> str | None:
        try:
            return self._render([self._request(*key)])[0]
        except TemplateFailure:
            return None

    def _text(self, count: int, way: int | None) -> str | None:
        key = count, way
        if key not in self._texts:
            self._texts[key] = self._try(key)
        return self._texts[key]

    def _start(self, index: int, text: str) -> int | None:
        """Where an assistant's words begin in a text: at the end of the generation prompt that opens its turn."""
        for way in range(len(_WAYS)):
            if index:
                prompt = self._text(index, way)
                if prompt is not None and text.startswith(prompt):
                    return len(prompt)
            else:  # nothing stands before the turn, so no generation prompt can be asked for
                suffix = self._renderer.suffix(way)
                if suffix and (place := text.find(suffix)) >= 0:
                    return place + len(suffix)
        return None

    def _end(self, index: int, text: str) -> int | None:
        """Where a message ends in a text that goes on after it, if that is known."""
        end = self._texts.get((index + 1, None))
        if end is None and (prompt := self._texts.get((index + 1, 0))) is not None:
            suffix = self._renderer.suffix(0)
            end = prompt[: len(prompt) - len(suffix)] if prompt.endswith(suffix) else None
        return len(end) if end is not None and text.startswith(end) else None

    def _segments(
        self, text: str, count: int, trained: Collection[int], always: bool, problems: list[str]
    ) -> Iterator[Segment]:
        position = first = 0
        for index in range(count):
            end = len(text) if index + 1 == count else self._end(index, text)
            if end is None or end < position:
                continue
            bounds = [position, *self._cutter.borders(text[:end], position, first, index), end]
            for inner, begin, stop in zip(range(first, index + 1), bounds, bounds[1:], strict=False):
                if self._messages[inner].role == "assistant" and count <= MOST_MESSAGES:
                    start = self._start(inner, text)
                    if start is not None and begin <= start <= stop:
                        said = inner in trained and (always or not self._messages[inner].is_empty)
                        yield from self._cutter.assistant(text, (begin, start, stop), inner, said, problems)
                        continue
                    if inner in trained:
                        raise TemplateFailure(f"it cannot be told where message {inner + 1} begins and ends")
                yield from self._cutter.other(text[begin:stop], inner)
            position, first = end, index + 1

    def _check_hiding(self, text: str, request: RenderRequest) -> None:
        """A template that looks into content would see the stand-ins: its text must not depend on them."""
        if not self._hidden.used:
            return
        plain = [message.as_dict() for message in self._messages[: len(request.messages)]]
        tools = list(self._tools) if self._tools else None
        raw = self._render([RenderRequest(plain, tools, request.add_generation_prompt, request.options)])[0]
        if self._hidden.restore(text)[0] != raw:
            raise TemplateFailure("the template treats the literal markers in this row's content specially")
