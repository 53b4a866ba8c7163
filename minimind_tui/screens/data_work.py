"""What the Data screen does in threads: reading, encoding, searching, scoring."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.worker import Worker, WorkerState

from engine.errors import DataError, Interrupted
from engine.references import checkpoint_folder, data_file
from minimind_tui.core.browse import UNUSABLE, reason
from minimind_tui.core.encoded import Encoded
from minimind_tui.core.look import PACKED, Judges, Look, look, look_packed
from minimind_tui.core.reading import Reader
from minimind_tui.core.rows import Hits, Rows
from minimind_tui.screens.area import Area

if TYPE_CHECKING:  # it needs torch
    from engine.evaluation.scores import Scorer

_LONGEST_COPY = 1 << 24


@dataclass(frozen=True)
class LookRequest:
    """A row to look at, and how."""

    rows: Rows
    row: int
    reader: Reader
    mode: str
    judges: Judges
    encoded: Encoded | None
    packed: int | None
    width: int


class DataWork(Area):
    """The threads of the Data screen.

    Work of a kind goes on once at a time: newer work takes the place of the older, whose result is dropped. Each method
    that runs in a thread is started by `start` and hands its results to a function that runs in the screen's.
    """

    def __init__(self) -> None:
        super().__init__()
        self._stops: dict[str, threading.Event] = {}
        self._scorers: dict[Path, Scorer] = {}

    def on_unmount(self) -> None:
        """Threads that are still at work would hold up the end of the program."""
        self.end_work(*self._stops)

    def start(self, kind: str, method: Callable[..., None], *values: Any, exclusive: bool = True) -> None:
        """Starts work in a thread; `method` also gets a flag that says when its result is no longer wanted."""
        if exclusive:
            self.end_work(kind)
        stop = self._stops[kind] = threading.Event()
        work = partial(method, *values, stop)
        self.run_worker(work, kind, group=kind, exclusive=exclusive, thread=True, exit_on_error=False)

    def end_work(self, *kinds: str) -> None:
        """Tells work of these kinds to end."""
        for kind in kinds:
            if kind in self._stops:
                self._stops[kind].set()

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """A failure in a thread is the app's to show; work that was told to end has not failed."""
        error = event.worker.error
        if isinstance(error, Interrupted):
            event.stop()
        elif event.state is WorkerState.ERROR and error is not None and self.is_running:
            self.work_failed(event.worker.name)

    def work_failed(self, kind: str) -> None:
        """Work of that kind has ended in an error, which is shown."""
        raise NotImplementedError

    def _tell(self, stop: threading.Event, then: Callable[..., object], *values: object) -> None:
        """Gives a result to the screen, if it is still wanted."""

        def give() -> None:
            if not stop.is_set() and self.is_running:
                then(*values)

        self.app.call_from_thread(give)

    # In threads

    def open_file(
        self, reference: str, opened: Callable[..., None], progress: Callable[[float], None], stop: threading.Event
    ) -> None:
        """Opens a file, shows its first rows, and then reads the rest of it."""
        try:
            rows = Rows(data_file(reference))
        except UNUSABLE as error:
            what = f"the file cannot be read: {reason(error)}"
            raise DataError(what, where=reference, hint="name another") from error
        self._tell(stop, opened, rows, reference)
        rows.build_index(progress, stop)

    def read_previews(self, rows: Rows, wanted: list[int], then: Callable[..., None], stop: threading.Event) -> None:
        """Reads the rows that are in sight of the list."""
        self._tell(stop, then, rows, rows.previews(wanted))

    def gather(self, hits: Callable[[threading.Event], Hits], then: Callable[..., None], stop: threading.Event) -> None:
        """Hands over the rows of a search or a filter as they come; `then` gets rows, share, whether it is over."""
        for found, share in hits(stop):
            self._tell(stop, then, found, share, False)
        self._tell(stop, then, (), 1.0, True)

    def copy_row(self, rows: Rows, row: int, stop: threading.Event) -> None:
        """Copies a row as the file has it; of a quarantined line what was kept."""
        if row < 0:
            text, what = rows.quarantined[~row].raw.decode("utf-8", errors="backslashreplace"), "the line's beginning"
        else:
            parsed = rows.parsed(row)
            text, what = json.dumps(parsed, ensure_ascii=False, default=str)[:_LONGEST_COPY], f"row {row:,}"
        self._tell(stop, self.mini.copy, text, what)

    def look_at(self, wanted: LookRequest, then: Callable[..., None], stop: threading.Event) -> None:
        """Encodes a row."""
        seen: Look
        if wanted.mode == PACKED and wanted.encoded is not None and wanted.row >= 0:
            seen, number = look_packed(wanted.rows, wanted.row, wanted.encoded, wanted.packed)
            self._tell(stop, then, wanted, seen, number)
        else:
            seen = look(wanted.rows, wanted.row, wanted.reader, wanted.mode, wanted.judges, wanted.width)
            self._tell(stop, then, wanted, seen, None)

    def encode_file(
        self,
        rows: Rows,
        reader: Reader,
        progress: Callable[[float], None],
        then: Callable[..., None],
        stop: threading.Event,
    ) -> None:
        """Encodes the whole file, or opens its token cache, and audits it."""

        def report(share: float) -> None:
            if stop.is_set():
                raise Interrupted("encoding was ended")
            self._tell(stop, progress, share)

        self._tell(stop, then, rows, Encoded(rows, reader, report))

    def compute(self, function: Callable[[], object], then: Callable[..., None], stop: threading.Event) -> None:
        """Anything that takes a moment."""
        self._tell(stop, then, function())

    def load_judges(self, policy: str, reference: str, then: Callable[..., None], stop: threading.Event) -> None:
        """Loads the checkpoints that are asked for their opinion; empty names stand for none."""
        from engine.evaluation.scores import Scorer

        folders = [checkpoint_folder(name) if name else None for name in (policy, reference)]
        known = self._scorers
        scorers = {
            folder: known[folder] if folder in known else Scorer(folder)
            for folder in dict.fromkeys(folders)
            if folder is not None
        }
        first, second = (scorers[folder] if folder is not None else None for folder in folders)
        if first is not None and second is not None:
            first.check(second.tokenizer)

        def take() -> None:  # not in the thread: newer work may be loading others
            self._scorers = scorers
            then(Judges(first, second))

        self._tell(stop, take)
