"""Talking with a checkpoint from a thread: torch stays out of the screen's way. Without Textual."""

import re
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.clean import clean
from engine.errors import CheckpointError, EngineError
from engine.references import checkpoint_folder
from engine.runs.folder import RunFolder
from engine.runs.lineage import place_name
from engine.runs.summary import RunSummary
from engine.settings.registry import STAGES
from engine.text.tokenizer import Tokenizer
from minimind_tui.core.library import stage_of
from minimind_tui.core.models import base_under, is_adapter, is_judge, same_weights
from minimind_tui.core.sampling import Sampling

if TYPE_CHECKING:
    from engine.generation.chat import ChatPartner, Piece, Token

ALTERNATIVES = 8
"""How many of the most probable tokens are kept with each token of an answer."""


@dataclass(frozen=True)
class Speaker:
    """A checkpoint that can be talked with.

    Attributes:
        reference: What it was chosen by, such as `starter-sft@newest`; it may name another folder tomorrow.
        folder: The Hugging Face folder that it names now.
        name: The run's name, or the folder's.
        step: The step of a run's checkpoint.
        completes: It continues running text instead of answering.
    """

    reference: str
    folder: Path
    name: str
    step: int | None
    completes: bool

    def __str__(self) -> str:
        step = "" if self.step is None else f" step {self.step:,}"
        return clean(f"{self.name}{' best' if self.reference.endswith('@best') else ''}{step}", newlines=False)


def find_speaker(reference: str) -> Speaker:
    """The checkpoint that a run's name, `RUN@best`, `RUN@STEP` or a folder's path names; reads files.

    Raises:
        EngineError: There is none.
    """
    reference = reference.strip()
    folder = checkpoint_folder(reference)
    if Path(reference).expanduser().absolute() == folder:
        reference = str(folder)
    run = RunFolder(folder.parent.parent)
    step = re.fullmatch(r"step-(\d{8})", folder.name)
    if step is None or not run.resolved.is_file():
        return Speaker(reference, folder, folder.name, None, Tokenizer.load(folder).chat_template is None)
    stage = STAGES.get(str(run.read_json(run.resolved).get("stage", "")))
    completes = stage.reads == ("text",) if stage else Tokenizer.load(folder).chat_template is None
    return Speaker(reference, folder, run.name, int(step[1]), completes)


def newest(run: str) -> str:
    """The reference of a run's newest checkpoint; what is a reference or a path already stays."""
    return run if not run or "@" in run or "/" in run else f"{run}@newest"


@dataclass(frozen=True)
class Offer:
    """A checkpoint on the list to choose from: its reference, and what to say of it."""

    reference: str
    note: str
    completes: bool

    def __str__(self) -> str:
        return f"{self.reference} {self.note}"


def offers(runs: Sequence[RunSummary], loaded: Path | None = None) -> list[Offer]:
    """The newest and the best checkpoint of every run that can speak, the newest runs first; reads files.

    Args:
        runs: All of them.
        loaded: What is talked with now: what stands on the same model comes first, as it need not be loaded again.
    """
    found, near = list[Offer](), list[Offer]()
    base = base_under(loaded) if loaded is not None else None
    for summary in runs:
        stage = stage_of(summary)
        completes = stage is not None and stage.reads == ("text",)
        title = stage.title if stage else summary.stage
        for which, step in (("newest", summary.checkpoints[-1:]), ("best", (summary.best_step,))):
            if step and step[0] is not None and (which == "newest" or step[0] != summary.checkpoints[-1]):
                folder = summary.run.checkpoint(step[0])
                if is_judge(folder):
                    continue
                close = base is not None and base.may_be(base_under(folder))
                parts = [title, f"step {step[0]:,}"]
                parts += [f"adapter of {place_name(summary.place('from'))}"] * is_adapter(folder)
                parts += ["running"] * (summary.state == "running")
                parts += ["same model"] * close
                offer = Offer(f"{summary.name}@{which}", clean(" · ".join(parts), newlines=False), completes)
                (near if close else found).append(offer)
    return near + found


class Partners:
    """Keeps the checkpoints that were talked with last in memory; adapters of one model share it.

    Attributes:
        room: How many.
    """

    def __init__(self) -> None:
        self.room = 1
        self._lock = threading.Lock()
        self._kept: dict[tuple[Path, str], ChatPartner] = {}

    def get(self, folder: Path, device: str = "cpu") -> "ChatPartner":
        """The partner of a checkpoint, loaded if need be; call it from a thread.

        Args:
            folder: A Hugging Face folder.
            device: `auto` takes the machine's best.
        """
        from engine.generation.chat import ChatPartner
        from engine.training.device import pick_device

        with self._lock:
            partner = self._kept.pop((folder, device), None) or self._switched(folder, device)
            while len(self._kept) > self.room - 1:
                del self._kept[next(iter(self._kept))]
            self._kept[folder, device] = partner or ChatPartner(folder, device=str(pick_device(device).torch_device))
            return self._kept[folder, device]

    def _switched(self, folder: Path, device: str) -> "ChatPartner | None":
        """A partner that is kept, made to speak as the checkpoint: another adapter of its model, or the model alone."""
        base, adapter = base_under(folder), is_adapter(folder)
        for (kept, place), partner in self._kept.items():
            if place != device or not base.may_be(base_under(kept)):
                continue
            if not adapter and not same_weights(folder, partner.base):
                continue
            try:
                partner.use(folder if adapter else None)
            except CheckpointError:  # the place holds another model by now
                continue
            return self._kept.pop((kept, place))
        return None


@dataclass(frozen=True)
class Question:
    """What is asked of which checkpoint.

    Attributes:
        reference: The checkpoint; the folder that it names is looked up when the question is asked.
        messages: Role and text of each turn, a system prompt first, the user's newest turn last.
        sampling: How to sample.
        seed: Of this one answer.
        opening: What the answer begins with; the question is for what follows.
        tokens: The tokens of the opening, as far as they were generated.
        device: Where to compute.
    """

    reference: str
    messages: tuple[tuple[str, str], ...]
    sampling: Sampling
    seed: int
    opening: str = ""
    tokens: tuple["Token", ...] = ()
    device: str = "auto"


class Answer:
    """An answer that comes from a thread of its own; the screen collects it with `drain`.

    Attributes:
        question: What was asked.
        speaker: Who answers, once found.
        text: What was said so far, the opening included.
        tokens: The generated tokens so far with their probabilities.
        last: The newest figures.
        error: Why it failed.
        stopped: The user ended it.
    """

    def __init__(self, partners: Partners, question: Question) -> None:
        self.question = question
        self.speaker: Speaker | None = None
        self.text = question.opening
        self.tokens: list[Token] = [*question.tokens]
        self.last: Piece | None = None
        self.error: EngineError | None = None
        self._pieces: deque[Piece] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(partners,), name="answer", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether more may come."""
        return self._thread.is_alive()

    @property
    def stopped(self) -> bool:
        """Whether the user ended it."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Ends the answer after the token that is being computed; what was said stays."""
        self._stop.set()

    def drain(self) -> bool:
        """Takes in what came since the last call; whether there was anything."""
        text: list[str] = []
        while self._pieces:
            self.last = self._pieces.popleft()
            text.append(self.last.text)
            if self.last.token is not None:
                self.tokens.append(self.last.token)
        self.text += "".join(text)
        return bool(text)

    def _work(self, partners: Partners) -> None:
        question = self.question
        try:
            from engine.text.messages import Message

            speaker = self.speaker = find_speaker(question.reference)
            partner = partners.get(speaker.folder, question.device)
            settings = question.sampling.settings(question.seed)
            if speaker.completes:
                text = question.messages[-1][1] + question.opening
                pieces = partner.complete(text, settings, alternatives=ALTERNATIVES)
            else:
                messages = [Message(role, text) for role, text in question.messages]
                pieces = partner.answer(messages, settings, opening=question.opening, alternatives=ALTERNATIVES)
            for piece in pieces:
                if self._stop.is_set():
                    return
                self._pieces.append(piece)
        except EngineError as error:
            self.error = error
        except Exception as error:
            self.error = EngineError(f"{type(error).__name__}: {error}", where=question.reference)


class Round:
    """The answers to one question: of one checkpoint, or of two, one after the other, so that each has the machine.

    Attributes:
        answers: Those that were begun.
    """

    def __init__(self, partners: Partners, questions: Sequence[Question]) -> None:
        partners.room = len(questions)
        self._partners, self._waiting = partners, list(questions)
        self.answers: list[Answer] = []
        self._next()

    @property
    def alive(self) -> bool:
        """Whether more may come."""
        return bool(self._waiting) or self.answers[-1].alive

    @property
    def error(self) -> EngineError | None:
        """Why an answer failed; the others are not begun then."""
        return next((answer.error for answer in self.answers if answer.error), None)

    def stop(self) -> None:
        """Ends the answer that is being written; the other one still comes."""
        self.answers[-1].stop()

    def stop_all(self) -> None:
        """Ends everything."""
        self._waiting.clear()
        self.stop()

    def drain(self) -> bool:
        """Takes in what came, and begins the next answer when one has ended; whether there was anything."""
        newest = self.answers[-1]
        ended = not newest.alive
        came = newest.drain()
        if ended and newest.error:
            self._waiting.clear()
        if ended and self._waiting:
            self._next()
        return came

    def _next(self) -> None:
        self.answers.append(Answer(self._partners, self._waiting.pop(0)))
