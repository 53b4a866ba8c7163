"""Talking with a checkpoint from a thread: torch stays out of the screen's way. Without Textual."""

import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.generation.chat import ChatPartner, Piece


@dataclass(frozen=True)
class Turn:
    """Who said what."""

    role: str
    text: str


@dataclass(frozen=True)
class Question:
    """What is asked of which checkpoint.

    Attributes:
        folder: The checkpoint.
        turns: The conversation, the user's newest turn last.
        completes: The model continues running text instead of answering.
    """

    folder: Path
    turns: tuple[Turn, ...]
    completes: bool
    temperature: float
    max_new_tokens: int
    seed: int


class Partners:
    """Keeps the checkpoint that was talked with last in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._partner: ChatPartner | None = None

    def get(self, folder: Path) -> "ChatPartner":
        """The partner of a checkpoint, loaded if need be; call it from a thread."""
        from engine.generation.chat import ChatPartner

        with self._lock:
            if self._partner is None or self._folder != folder:
                self._partner = None
                self._partner, self._folder = ChatPartner(folder), folder
            return self._partner


class Answer:
    """An answer that comes from a thread of its own; the screen collects it with `drain`."""

    def __init__(self, partners: Partners, question: Question) -> None:
        self.error: EngineError | None = None
        self.last: Piece | None = None
        self._pieces: deque[Piece] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(partners, question), name="answer", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether more may come."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Ends the answer after the token that is being computed; what was said stays."""
        self._stop.set()

    def drain(self) -> str:
        """The text that came since the last call; `last` then holds the newest figures."""
        text = ""
        while self._pieces:
            self.last = self._pieces.popleft()
            text += self.last.text
        return text

    def _work(self, partners: Partners, question: Question) -> None:
        try:
            from engine.generation.sampling import SamplingSettings
            from engine.text.messages import Message

            partner = partners.get(question.folder)
            settings = SamplingSettings(
                temperature=question.temperature, max_new_tokens=question.max_new_tokens, seed=question.seed
            )
            if question.completes:
                pieces = partner.complete(question.turns[-1].text, settings)
            else:
                pieces = partner.answer([Message(turn.role, turn.text) for turn in question.turns], settings)
            for piece in pieces:
                if self._stop.is_set():
                    return
                self._pieces.append(piece)
        except EngineError as error:
            self.error = error
        except Exception as error:
            self.error = EngineError(f"{type(error).__name__}: {error}", where=str(question.folder))
