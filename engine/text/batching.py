"""The order of samples: which make an optimizer step, and how they are split into micro-batches.

The unit is the optimizer step's *set* of samples, a pure function of the seed, the epoch and the effective batch.
Micro-batches only split that set, so a smaller batch with more accumulation sees the same data in the same order.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.randomness import derive_seed
from engine.text.store import SampleStore

Indices = NDArray[np.int64]

_EPOCHS_LOOKED_AT = 16
"""How many passes over the data are searched for the largest micro-batch; later ones mix the same rows anew."""
_OPEN_ROWS = 64
"""How many unfilled rows the packer keeps in mind; more fill better and take longer."""


@dataclass(frozen=True)
class Batch:
    """Documents of a micro-batch, one after the other; no padding.

    Attributes:
        input_ids: Shape (tokens,).
        loss_weights: Shape (tokens,), aligned with `input_ids`; 0 at each document's first token.
        cu_seqlens: Document boundaries, shape (documents + 1,), from 0 to the number of tokens.
        rows: The row of the data that each document comes from, shape (documents,).
        samples: Its index in the store, shape (documents,).
        slots: What the batch would take as rows padded to the longest sample allowed.
    """

    input_ids: NDArray[np.int64]
    loss_weights: NDArray[np.float32]
    cu_seqlens: NDArray[np.int64]
    rows: NDArray[np.int64]
    samples: NDArray[np.int64]
    slots: int

    def last_trained(self) -> NDArray[np.int64]:
        """The place of each document's last trained token, shape (documents,): where an answer's score is read."""
        trained = np.flatnonzero(self.loss_weights)
        places: NDArray[np.int64] = trained[np.searchsorted(trained, self.cu_seqlens[1:]) - 1]
        return places

    def documents(self) -> Iterator["Batch"]:
        """Every document as a batch of its own."""
        for number, (first, last) in enumerate(pairwise(self.cu_seqlens.tolist())):
            bounds = np.array([0, last - first])
            ids, weights = self.input_ids[first:last], self.loss_weights[first:last]
            own = slice(number, number + 1)
            yield Batch(ids, weights, bounds, self.rows[own], self.samples[own], last - first)


def make_batch(store: SampleStore, documents: Indices, slots: int) -> Batch:
    """Gathers documents of a store into a flat batch."""
    lengths = store.lengths[documents]
    return Batch(
        input_ids=np.concatenate([store.ids(int(index)) for index in documents]),
        loss_weights=np.concatenate([store.weights(int(index)) for index in documents]),
        cu_seqlens=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        rows=store.columns["rows"][documents],
        samples=documents,
        slots=slots,
    )


def fill_batches(store: SampleStore, documents: Iterable[int], room: int) -> Iterator[Batch]:
    """Documents in the order given, up to `room` tokens at a time; a longer one has a batch to itself."""
    waiting: list[int] = []
    tokens = 0
    for document in documents:
        length = int(store.lengths[document])
        if waiting and tokens + length > room:
            yield make_batch(store, np.array(waiting), slots=tokens)
            waiting, tokens = [], 0
        waiting.append(document)
        tokens += length
    if waiting:
        yield make_batch(store, np.array(waiting), slots=tokens)


def split_rows(keys: NDArray[np.float64], val_fraction: float) -> tuple[Indices, Indices]:
    """Sample indices for training and for validation, by their prompts' hashes.

    Where the fraction would leave validation empty, the prompt with the smallest hash is taken; a file of a single
    prompt has no validation.
    """
    if not val_fraction or not len(keys):
        return np.arange(len(keys)), np.zeros(0, dtype=np.int64)
    held_out = keys < max(val_fraction, float(np.nextafter(keys.min(), 1)))
    if held_out.all():
        held_out = np.zeros_like(held_out)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def draw_pool(samples: Indices, size: int | None, seed: int) -> Indices:
    """As many of the samples as a run keeps to, in order; all where no number is given."""
    dice = np.random.Generator(np.random.Philox(key=derive_seed(seed, "pool")))
    return np.sort(dice.permutation(samples)[:size])


def pack(lengths: NDArray[np.int64], order: Indices, capacity: int) -> list[Indices]:
    """Fills rows of `capacity` tokens with whole documents, best fit among the rows still open.

    Args:
        lengths: Tokens of every document, none above `capacity`.
        order: The documents to place, in the order in which they are placed.
        capacity: Tokens a row.

    Returns:
        The documents of each row.
    """
    rows: list[list[int]] = []
    open_rows: list[tuple[int, int]] = []  # (room, row), sorted
    sizes = lengths[order].tolist()
    for document, length in zip(order.tolist(), sizes, strict=True):
        place = bisect_left(open_rows, (length, -1))
        if place < len(open_rows):
            room, row = open_rows.pop(place)
            rows[row].append(document)
        else:
            room, row = capacity, len(rows)
            rows.append([document])
            if len(open_rows) >= _OPEN_ROWS:
                del open_rows[0]
        if room > length:
            insort(open_rows, (room - length, row))
    return [np.array(row, dtype=np.int64) for row in rows]


class RowOrder:
    """Which documents each optimizer step trains on, by their lengths alone.

    Args:
        lengths: Tokens of every sample.
        indices: Those to train on.
        batch_size: Rows a micro-batch: documents, pairs, or packed rows.
        accumulation_steps: Micro-batches a step.
        max_seq_len: Tokens a packed row.
        packing: Whether rows are packed.
        seed: Decides the order.
        together: How many neighbours of `indices` belong together: 2 where they are the sides of pairs.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        indices: Indices,
        *,
        batch_size: int,
        accumulation_steps: int,
        max_seq_len: int,
        packing: bool,
        seed: int,
        together: int = 1,
    ) -> None:
        self.lengths, self.batch_size, self.accumulation_steps = lengths, batch_size, accumulation_steps
        self.max_seq_len, self.packing, self.seed = max_seq_len, packing, seed
        order = self._rng("pack").permutation(indices[::together])
        if packing:
            self.units = pack(lengths, order, max_seq_len)
        else:
            self.units = [np.arange(index, index + together, dtype=np.int64) for index in order]
        self._order: tuple[int, Indices] = (-1, order[:0])

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps that one pass over the data takes; the last may be smaller."""
        effective = self.batch_size * self.accumulation_steps
        return -(-len(self.units) // effective)

    def epoch(self, step: int) -> float:
        """How many passes over the data are behind, before step `step` (counted from 0)."""
        return step / self.steps_per_epoch

    def micro_batches(self, step: int) -> list[list[Indices]]:
        """The rows of each micro-batch; rows of similar length stand together where they are not packed."""
        epoch, place = divmod(step, self.steps_per_epoch)
        effective = self.batch_size * self.accumulation_steps
        if epoch != self._order[0]:
            self._order = epoch, self._rng("epoch", epoch).permutation(len(self.units))
        chosen = [self.units[int(unit)] for unit in self._order[1][place * effective : (place + 1) * effective]]
        if not self.packing:
            chosen.sort(key=lambda unit: -int(self.lengths[unit].max()))
        return [chosen[start : start + self.batch_size] for start in range(0, len(chosen), self.batch_size)]

    def largest(self, steps: int) -> list[list[Indices]]:
        """The rows of the micro-batches that may take the most memory among those of this many steps.

        Returns:
            The one with the most tokens, and the one with the largest sum of squared lengths; or one, if it is both.
        """
        lengths = self.lengths.astype(np.float64)
        longest = self._by_unit(np.maximum, lengths)
        places = [self._largest(self._by_unit(np.add, sizes), longest, steps) for sizes in (lengths, lengths**2)]
        return [self.micro_batches(step)[number] for step, number in dict.fromkeys(places)]

    def _by_unit(self, combine: np.ufunc, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sizes of the documents of each unit, combined."""
        starts = np.cumsum([0, *map(len, self.units)])[:-1]
        combined: NDArray[np.float64] = combine.reduceat(sizes[np.concatenate(self.units)], starts)
        return combined

    def _largest(self, sizes: NDArray[np.float64], longest: NDArray[np.float64], steps: int) -> tuple[int, int]:
        """The step, and the micro-batch in it, whose units have the largest sum of these sizes."""
        effective, per_epoch = self.batch_size * self.accumulation_steps, self.steps_per_epoch
        best, found = -1.0, (0, 0)
        for epoch in range(min(-(-steps // per_epoch), _EPOCHS_LOOKED_AT)):
            order = self._rng("epoch", epoch).permutation(len(self.units))[: (steps - epoch * per_epoch) * effective]
            if not self.packing:
                order = order[np.lexsort((-longest[order], np.arange(len(order)) // effective))]
            sums = np.add.reduceat(sizes[order], np.arange(0, len(order), self.batch_size))
            if sums.max() > best:
                step, place = divmod(int(sums.argmax()) * self.batch_size, effective)
                best, found = float(sums.max()), (epoch * per_epoch + step, place // self.batch_size)
        return found

    def _rng(self, *purpose: object) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=derive_seed(self.seed, *purpose)))


class Sampler(RowOrder):
    """The order of a store's samples, and the batches that follow from it; see `RowOrder` for the arguments."""

    def __init__(self, store: SampleStore, indices: Indices, **order: Any) -> None:
        super().__init__(store.lengths, indices, **order)
        self.store = store

    def step(self, step: int) -> list[Batch]:
        """The micro-batches of optimizer step `step`, counted from 0."""
        return [
            make_batch(self.store, np.concatenate(rows), slots=len(rows) * self.max_seq_len)
            for rows in self.micro_batches(step)
        ]
