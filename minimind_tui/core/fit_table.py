"""Which batch sizes fit at which lengths. Torch-free and without Textual."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from engine.memory.limits import device_limit
from engine.memory.planning import largest_that_fits, make_plan
from engine.memory.steps import Facts, Rows
from engine.session.planning import Draft as Drafted
from engine.settings.profile import Settings

MOST = 4096
"""Larger batches are not looked at."""
_SHORTEST = 16
_EACH_WAY = 3
"""Lengths before and after the one that is set."""


@dataclass(frozen=True)
class FitTable:
    """What fits on a device with all other settings as they are.

    Attributes:
        batches: Values of `batch_size`, a row each.
        lengths: Values of `max_seq_len`, a column each.
        most: The largest batch_size that fits at each of the lengths, 0 where none does, at most `MOST`.
        batch, length: What is set.
        of_data: Whether it is for this data; otherwise every row is taken as full.
    """

    batches: tuple[int, ...]
    lengths: tuple[int, ...]
    most: tuple[int, ...]
    batch: int
    length: int
    of_data: bool

    def fits(self, row: int, column: int) -> bool:
        """Whether the run of a cell fits."""
        return self.batches[row] <= self.most[column]

    def borders(self, row: int, column: int) -> bool:
        """Whether it is the last row of its column that fits."""
        return self.fits(row, column) and (row + 1 == len(self.batches) or not self.fits(row + 1, column))


def fit_table(drafted: Drafted) -> FitTable:
    """Finds out what fits, in closed form.

    Raises:
        EngineError: Nobody knows how much memory the device has.
    """
    settings, facts = drafted.settings, drafted.facts
    limit, margin = device_limit(drafted.target), drafted.margin
    batch, length = settings.training.batch_size, settings.data.max_seq_len

    def fits(longest: int, size: int) -> bool:
        plan = make_plan(
            _changed(settings, size, longest), _stretched(facts, length, longest), device=drafted.target.name,
            limit_bytes=limit, margin=margin, exact=False, suggestions=False,
        )  # fmt: skip
        return plan.fits

    lengths = _around(length, _SHORTEST, max(length, settings.model.max_position_embeddings))
    most = tuple(largest_that_fits(partial(fits, longest), MOST) for longest in lengths)
    last = min(MOST, 2 * max(batch, *most))
    batches = {1 << power for power in range(last.bit_length()) if 1 << power <= last}
    return FitTable(tuple(sorted({*batches, batch})), lengths, most, batch, length, facts.rows is not None)


def _around(value: int, least: int, most: int) -> tuple[int, ...]:
    """Powers of two around a value, and the value."""
    powers = [1 << power for power in range(least.bit_length() - 1, most.bit_length()) if 1 << power <= most]
    below = [power for power in powers if power < value][-_EACH_WAY:]
    return (*below, value, *[power for power in powers if power > value][:_EACH_WAY])


def _changed(settings: Settings, batch: int, length: int) -> Settings:
    """Not checked again: it is only reckoned with."""
    training = settings.training.model_copy(update={"batch_size": batch})
    data = settings.data.model_copy(update={"max_seq_len": length})
    return replace(settings, sections={**settings.sections, "training": training, "data": data})


def _stretched(facts: Facts, now: int, length: int) -> Facts:
    """Rows that were as long as could be may go on beyond that."""
    if facts.rows is None or length <= now:
        return facts
    held_out = facts.rows.held_out
    rows = replace(_longer(facts.rows, now, length), held_out=held_out and _longer(held_out, now, length))
    return replace(facts, rows=rows)


def _longer(rows: Rows, now: int, length: int) -> Rows:
    full = rows.lengths >= now
    return Rows(np.where(full, length, rows.lengths), np.where(full, length, rows.trained))
