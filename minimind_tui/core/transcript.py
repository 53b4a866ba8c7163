"""A conversation as it is kept: its turns, what was dropped from it, and the data files it is saved to."""

import json
import os
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import DataError, EngineError
from engine.settings.places import home
from engine.text.messages import Message
from engine.text.shapes import read_row
from engine.text.strict_json import BadRow, loads
from minimind_tui.core.talk import Answer, Round

if TYPE_CHECKING:
    from engine.generation.chat import Token

LEFT, RIGHT, TIE = "left", "right", "tie"
STOPPED, FAILED = "stopped", "failed"
LAST = 2**62
"""A row's number beyond every file's end: the Data screen goes to the last row."""

_THOUGHT = re.compile(r"<think>(.*?)(?:</think>|\Z)", re.DOTALL)
_CLOSED = re.compile(r"\A(?:(?!<think>).)*?</think>", re.DOTALL)
_VERSIONS = 20
_writing = threading.Lock()


@dataclass(frozen=True)
class Turn:
    """Who said what, and how.

    Attributes:
        role: `user` or `assistant`.
        text: Exactly what was said, thoughts and markers included.
        speaker: The checkpoint in words, for people.
        reference: What the checkpoint was chosen by.
        completes: It continues the question's text.
        given: The text that the answer was begun with; not generated.
        tokens: The generated tokens with their probabilities.
        stop_reason: `stop`, `length`, `context`, `stopped` (by the user); empty while it goes on.
        count: Tokens generated.
        speed: Tokens a second.
        seed: What the randomness came from; None where there was none.
        rival: The other checkpoint's answer, of two side by side.
        verdict: Which side was found better: `left`, `right`, `tie`; empty before the vote. This turn is the left side,
            unless `right` won.
    """

    role: str
    text: str
    speaker: str = ""
    reference: str = ""
    completes: bool = False
    given: str = ""
    tokens: tuple["Token", ...] = ()
    stop_reason: str = ""
    count: int = 0
    speed: float = 0.0
    seed: int | None = None
    rival: "Turn | None" = None
    verdict: str = ""

    @property
    def partial(self) -> bool:
        """Whether an answer did not end by itself."""
        return self.role == "assistant" and self.stop_reason != "stop"

    @property
    def pending(self) -> bool:
        """Whether two answers wait for a vote."""
        return self.rival is not None and not self.verdict

    @property
    def sides(self) -> tuple["Turn", ...]:
        """The answers from left to right: two, or this one alone."""
        if self.rival is None:
            return (self,)
        return (self.rival, self) if self.verdict == RIGHT else (self, self.rival)

    def voted(self, verdict: str) -> "Turn":
        """The turn after the vote: the preferred side, which the conversation goes on with; the left one of a tie."""
        left, right = self.sides
        won, lost = (right, left) if verdict == RIGHT else (left, right)
        return replace(won, rival=replace(lost, rival=None), verdict=verdict)


def turn_of(answer: Answer) -> Turn:
    """An answer as it stands."""
    last, speaker, question = answer.last, answer.speaker, answer.question
    reason = last.stop_reason if last else ""
    if not reason and not answer.alive:
        reason = FAILED if answer.error else STOPPED
    said = sum(len(token.text) for token in question.tokens)
    return Turn(
        role="assistant",
        text=answer.text,
        speaker=str(speaker or ""),
        reference=question.reference,
        completes=bool(speaker and speaker.completes),
        given=question.opening[: len(question.opening) - said],
        tokens=tuple(answer.tokens),
        stop_reason=reason,
        count=len(question.tokens) + (last.tokens if last else 0),
        speed=last.tokens_per_second if last else 0.0,
        seed=None if question.sampling.greedy else question.seed,
    )


def turn_of_round(asked: Round) -> Turn:
    """The answers to a question as they stand; two of them wait for a vote once both have ended."""
    first, *others = map(turn_of, asked.answers)
    return replace(first, rival=others[0]) if others else first


def split_thoughts(text: str) -> list[tuple[bool, str]]:
    """An answer cut into thoughts (True, without their tags) and speech; a thought may still be open at the end."""
    parts: list[tuple[bool, str]] = []
    place = 0
    if opened := _CLOSED.match(text):  # the tag that opens it stands in the prompt
        parts.append((True, opened[0].removesuffix("</think>")))
        place = opened.end()
    for thought in _THOUGHT.finditer(text, place):
        parts += [(False, text[place : thought.start()]), (True, thought[1])]
        place = thought.end()
    return [part for part in [*parts, (False, text[place:])] if part[1]]


def thought_tokens(turn: Turn) -> int:
    """How many generated tokens of an answer are thoughts, their tags included."""
    if "think>" not in turn.text:
        return 0
    spans = [(found.start(), found.end()) for found in _THOUGHT.finditer(turn.text)]
    if opened := _CLOSED.match(turn.text):
        spans.append((0, opened.end()))
    place, count = len(turn.given), 0
    for token in turn.tokens:
        end = place + len(token.text)
        count += any(first <= place and end <= last and last > place for first, last in spans)
        place = end
    return count


class Conversation:
    """Turns, and the versions of the conversation that were left behind.

    Attributes:
        system: The system prompt of the newest answer.
        turns: The turns.
    """

    def __init__(self) -> None:
        self.system = ""
        self.turns: tuple[Turn, ...] = ()
        self._versions: list[tuple[Turn, ...]] = []

    @property
    def versions(self) -> int:
        """How many other versions there are."""
        return len(self._versions)

    def messages(self, end: int | None = None) -> tuple[tuple[str, str], ...]:
        """Role and text of the first turns, all by default, the system prompt first."""
        opening = (("system", self.system),) if self.system.strip() else ()
        return (*opening, *((turn.role, turn.text) for turn in self.turns[:end]))

    def add(self, turn: Turn) -> None:
        """Goes on with a turn."""
        self.turns = (*self.turns, turn)

    def replace_last(self, turn: Turn) -> None:
        """Puts a turn in the place of the newest."""
        self.turns = (*self.turns[:-1], turn)

    def cut(self, index: int) -> None:
        """Drops this turn and the later ones; the version with them is kept."""
        if index < len(self.turns):
            self._versions = [*self._versions, self.turns][-_VERSIONS:]
            self.turns = self.turns[:index]

    def go_back(self) -> None:
        """Takes back the newest version that was left; going back again and again comes round to this one."""
        if self._versions:
            current, self.turns = self.turns, self._versions.pop()
            if current:
                self._versions.insert(0, current)

    def restore(self, earlier: "Conversation") -> None:
        """Becomes what `copy` kept."""
        self.system, self.turns, self._versions = earlier.system, earlier.turns, [*earlier._versions]

    def copy(self) -> "Conversation":
        """The conversation as it is now."""
        kept = Conversation()
        kept.restore(self)
        return kept

    def question_of(self, index: int) -> int:
        """The place of the newest question at or before a turn; -1 without one."""
        return next((place for place in range(index, -1, -1) if self.turns[place].role == "user"), -1)


def count_vote(votes: dict[str, Any], left: Turn, right: Turn, verdict: str) -> str:
    """Counts a vote among those of the same two checkpoints, whichever side they stood on; says how these stand."""
    names = sorted((left.reference, right.reference))
    first = names.index(left.reference)
    counts = votes.get(" ".join(names))
    if not (isinstance(counts, list) and [type(count) for count in counts] == [int] * 3):
        counts = [0, 0, 0]
    counts[{LEFT: first, RIGHT: 1 - first}.get(verdict, 2)] += 1
    votes[" ".join(names)] = counts
    return f"{names[0]} {counts[0]} : {counts[1]} {names[1]}, {counts[2]} tied"


def chat_folder() -> Path:
    """Where conversations and votes are saved."""
    return home() / "data" / "chat"


def conversations_file() -> Path:
    """Transcripts, a row each, as supervised fine-tuning reads them."""
    return chat_folder() / "conversations.jsonl"


def preferences_file() -> Path:
    """Votes, a row each, as preference training reads them."""
    return chat_folder() / "preferences.jsonl"


def conversation_row(messages: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """A transcript as a row of a data file."""
    return {"conversations": _messages(messages)}


def preference_row(before: Iterable[tuple[str, str]], chosen: Turn, rejected: Turn) -> dict[str, Any]:
    """A vote as a row of a data file: what led to the two answers stands in both sides."""
    opening = list(before)
    return {
        "chosen": _messages([*opening, ("assistant", chosen.text)]),
        "rejected": _messages([*opening, ("assistant", rejected.text)]),
        "chosen_by": chosen.reference,
        "rejected_by": rejected.reference,
    }


def _messages(turns: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in turns]


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Appends a row to a JSON lines file, whole or not at all.

    Raises:
        DataError: Reading it back would give something else, such as an answer that holds a NUL character.
        EngineError: The file cannot be written.
    """
    line = json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
    _check(line, row)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: nothing is left to be written after a failure.
        with _writing, path.open("ab+", buffering=0) as file:
            _append(file, line)
    except OSError as error:
        raise EngineError(f"it cannot be saved: {error.strerror}", where=str(path)) from error


def _append(file: FileIO, line: bytes) -> None:
    size = written = file.seek(0, os.SEEK_END)
    if size:
        file.seek(-1, os.SEEK_END)
        line = line if file.read(1) == b"\n" else b"\n" + line
    try:
        while line:
            count = file.write(line)
            line, written = line[count:], written + count
        os.fsync(file.fileno())
    except OSError:
        if os.fstat(file.fileno()).st_size == written:  # else another program has gone on after it
            file.truncate(size)
        raise


def _check(line: bytes, row: dict[str, Any]) -> None:
    """Reads a row as training would."""
    what = "this cannot be a row of a data file"
    try:
        record = read_row(loads(line), 0, 1)
    except BadRow as error:
        raise DataError(f"{what}: {error.reason}") from None
    names: Sequence[str] = ("chosen", "rejected") if "chosen" in row else ("conversations",)
    said = dict(zip(names, (record.messages, record.rejected), strict=False))
    for name in names:
        if said[name] != tuple(Message(message["role"], message["content"]) for message in row[name]):
            raise DataError(f"{what}: it would be read as something else", hint="the last answer may say nothing")
