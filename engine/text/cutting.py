"""One conversation's rendered text, cut into segments: whose words, which part of the turn, trained or not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.text.hiding import Hidden, Markers, Ranges
from engine.text.messages import Message

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
        message: The index of the message; of a generation prompt, the number of messages.
        literal: Ranges of `text` in which markers are plain text.
    """

    text: str
    role: str
    kind: str
    trained: bool
    message: int
    literal: Ranges = ()

    @property
    def said(self) -> bool:
        """Whether a model generated it, or would: it is tokenised apart from what it was given."""
        return self.role == "assistant" and self.kind in ("content", "end")


@dataclass(frozen=True, slots=True)
class Rendering:
    """One sample's segments, and what was odd about them."""

    segments: tuple[Segment, ...]
    problems: tuple[str, ...] = ()


class Cutter:
    """Cuts pieces of a rendering at what a conversation's messages and the template's markers show.

    Args:
        messages: The conversation.
        hidden: The same as the template saw it.
        markers: The tokenizer's markers.
        remove_empty_think: Whether empty think blocks are taken out.
    """

    def __init__(self, messages: Sequence[Message], hidden: Hidden, markers: Markers, remove_empty_think: bool) -> None:
        self._messages, self._hidden, self._markers = messages, hidden, markers
        self._remove_empty_think = remove_empty_think

    def borders(self, text: str, position: int, first: int, last: int) -> Iterator[int]:
        """Borders between messages of which only the last one's end is known: after the marker behind each content."""
        for index in range(first, last):
            content, following = self._content(index), self._content(index + 1)
            place = text.find(content, position) if content else -1
            if place >= 0:
                position = place + len(content)
                marker = self._markers.control.search(text, position)
                beyond = text.find(following, position) if following else -1
                if marker and not 0 <= beyond < marker.start():
                    position = marker.end()
                    position += len(text[position:]) - len(text[position:].lstrip())
            yield position

    def _content(self, index: int) -> str:
        content: str = self._hidden.messages[index]["content"]
        return content.strip()

    def assistant(
        self, text: str, bounds: tuple[int, int, int], index: int, trained: bool, problems: list[str]
    ) -> Iterator[Segment]:
        """An assistant's turn: `bounds` are where it begins, where its words begin, and where it ends."""
        begin, start, stop = bounds
        turn = text[start:stop]
        end = self._end_of_turn(turn)
        if trained and end[0] == end[1]:
            problems.append(NO_END_OF_TURN)
        parts = [
            (text[begin:start], "header", False),
            (turn[: end[0]], "content", trained),
            (turn[end[0] : end[1]], "end", trained),
            (turn[end[1] :], "after", False),
        ]
        return self.pieces(parts, "assistant", index)

    def _end_of_turn(self, turn: str) -> tuple[int, int]:
        """Where the end-of-turn token stands: a marker that only markers and white space follow."""
        last = None
        following = len(turn)
        for match in reversed(list(self._markers.control.finditer(turn))):
            if turn[match.end() : following].strip():
                break
            if last is None or match[0] in self._markers.ends:
                last = match
            following = match.start()
        return last.span() if last else (len(turn), len(turn))

    def other(self, piece: str, index: int) -> Iterator[Segment]:
        """Anybody else's turn, or one of the assistant's whose words cannot be told from its header."""
        role, content = self._messages[index].role, self._content(index)
        place = piece.rfind(content) if content and role != "assistant" else -1
        if place < 0:
            return self.pieces([(piece, "header", False)], role, index)
        end = place + len(content)
        parts = [
            (piece[:place], "header", False), (piece[place:end], "content", False), (piece[end:], "after", False)
        ]  # fmt: skip
        return self.pieces(parts, role, index)

    def pieces(self, parts: Sequence[tuple[str, str, bool]], role: str, index: int) -> Iterator[Segment]:
        """Segments of parts of a turn (text, kind, trained), with their literal markers back."""
        for text, kind, trained in parts:
            shown = text.replace(_EMPTY_THINK, "") if self._remove_empty_think else text
            if shown:
                restored, literal = self._hidden.restore(shown)
                yield Segment(restored, role, kind, trained, index, literal)
