"""What a frozen model says of every trained token: asked once, before the run, and kept on disk for later runs."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray
from torch import Tensor

from engine.model.fingerprint import fingerprint
from engine.model.transformer import Transformer
from engine.settings.places import cache_folder
from engine.stages.context import StageContext
from engine.text.batching import Batch, Indices, fill_batches
from engine.text.cache import build_lock

Columns = Mapping[str, tuple[type[np.generic], tuple[int, ...]]]
"""By name what is kept of a token: its type, and its shape."""

Ask = Callable[[Batch], Sequence[Tensor]]
"""Makes of a batch the columns' values, each (trained tokens, *shape)."""


class Precomputed:
    """Memory-mapped arrays with a row for every trained token, in the order of the store.

    Args:
        context: The run's: its samples, and who hears of the work.
        folder: Where in the cache.
        model: Who is asked. Its weights and its shape are part of the key, and so are the samples.
        key: What decides the answers besides.
        columns: What is kept of each token.
        ask: Asks the model; neither is held on to.
        what: The work in words, for those who wait.

    Raises:
        StopNow: The run is to end; what was begun is made again by the next one.
    """

    def __init__(
        self,
        context: StageContext,
        folder: str,
        model: Transformer,
        key: Sequence[object],
        columns: Columns,
        *,
        ask: Ask,
        what: str,
    ) -> None:
        self._columns = columns
        self._ends = np.concatenate([[0], np.cumsum(context.store.columns["trained"], dtype=np.int64)])
        shape = replace(model.config, dropout=0.0)  # a frozen model has none
        parts = (fingerprint(model), shape, context.store.folder.name, *key, *columns.items())
        name = hashlib.blake2b("|".join(map(repr, parts)).encode(), digest_size=16).hexdigest()
        path = cache_folder() / folder / name
        found = self._kept(path)
        if found is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with build_lock(path.with_suffix(".lock"), context.inbox.hurry):
                found = self._kept(path) or self._build(path, _answers(context, ask, what))
        self._arrays = found

    def of(self, samples: Indices) -> list[Tensor]:
        """The columns of these samples' trained tokens, one sample after the other."""
        rows = np.concatenate([np.arange(self._ends[sample], self._ends[sample + 1]) for sample in samples])
        return [torch.from_numpy(array[rows]) for array in self._arrays]

    def _kept(self, path: Path) -> list[NDArray[Any]] | None:
        """The arrays on disk; None where one is missing or is not what it must be."""
        found = []
        for name, (kind, shape) in self._columns.items():
            try:
                array = np.load(_file(path, name), mmap_mode="r")
            except (OSError, ValueError, EOFError):
                return None
            if array.dtype != kind or array.shape != (self._ends[-1], *shape):
                return None
            found.append(array)
        return found

    def _build(self, path: Path, answers: Iterator[Sequence[Tensor]]) -> list[NDArray[Any]]:
        """Writes the files as answers come; they appear when they are whole."""
        work = [path.with_suffix(f".{name}.building") for name in self._columns]
        try:
            with ExitStack() as stack:
                files = [stack.enter_context(file.open("wb")) for file in work]
                self._write(files, answers)
                for file in files:
                    file.flush()
                    os.fsync(file.fileno())
            for name, built in zip(self._columns, work, strict=True):
                built.replace(_file(path, name))
        finally:
            for built in work:
                built.unlink(missing_ok=True)
        found = self._kept(path)
        assert found is not None
        return found

    def _write(self, files: Sequence[BinaryIO], answers: Iterator[Sequence[Tensor]]) -> None:
        """Written, not mapped: on a full disk a write is an error, where a map would end the process."""
        kinds = [np.dtype(kind) for kind, _ in self._columns.values()]
        for file, kind, (_, shape) in zip(files, kinds, self._columns.values(), strict=True):
            whole = (int(self._ends[-1]), *shape)
            write_array_header_1_0(file, {"descr": kind.str, "fortran_order": False, "shape": whole})
        for answer in answers:
            for file, kind, values in zip(files, kinds, answer, strict=True):
                file.write(values.cpu().numpy().astype(kind).tobytes())


@torch.no_grad()
def _answers(context: StageContext, ask: Ask, what: str) -> Iterator[Sequence[Tensor]]:
    """What is said of every sample, in order, some at a time."""
    room = context.settings.training.batch_size * context.settings.data.max_seq_len
    samples, shown = len(context.store), 0
    context.progress(what, 0.0)
    for batch in fill_batches(context.store, range(samples), room):
        context.inbox.hurry()
        yield ask(batch)
        percent = 100 * (int(batch.samples[-1]) + 1) // samples
        if percent > shown:
            context.progress(what, percent / 100)
            shown = percent


def _file(path: Path, column: str) -> Path:
    return path.with_suffix(f".{column}.npy")
