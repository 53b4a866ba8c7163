"""A checkpoint measured on a file, in a thread. Without Textual; torch is loaded by the thread."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import EngineError, Interrupted


@dataclass(frozen=True)
class Measurement:
    """What is measured: a checkpoint as `engine eval` names it, a data file, and how much of it."""

    checkpoint: str
    data: str
    max_rows: int = 0
    max_new_tokens: int = 128


class Measuring:
    """A measurement that goes on.

    Attributes:
        doing, progress: What is being done and how much of it, 0 to 1.
        result: What `engine.evaluation.evaluate` found, with every answer; None before.
        file: What `data` stands for, once it was found.
        error: Why it could not be done.
    """

    def __init__(self, asked: Measurement) -> None:
        self.doing, self.progress = "loading the checkpoint", 0.0
        self.result: dict[str, Any] | None = None
        self.file: Path | None = None
        self.error: EngineError | None = None
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(asked,), name="measuring", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still computes."""
        return self._thread.is_alive()

    def cancel(self) -> None:
        """Gives it up before the model's next pass."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether it was given up."""
        return self._cancelled.is_set()

    def _work(self, asked: Measurement) -> None:
        try:
            from engine.evaluation.evaluate import evaluate
            from engine.references import checkpoint_folder, data_file
            from engine.training.device import pick_device

            checkpoint = checkpoint_folder(asked.checkpoint)
            self.file = data_file(asked.data)
            found = evaluate(
                checkpoint,
                self.file,
                max_rows=asked.max_rows,
                max_new_tokens=asked.max_new_tokens,
                device=str(pick_device("auto").torch_device),
                answers=True,
                progress=self._note,
                stop=self._cancelled,
            )
            self.result = None if self.cancelled else found
        except Interrupted:
            return
        except EngineError as error:
            self.error = error
        except Exception as error:
            self.error = EngineError(f"{type(error).__name__}: {error}", where=asked.checkpoint)

    def _note(self, what: str, done: float) -> None:
        self.doing, self.progress = what, done
