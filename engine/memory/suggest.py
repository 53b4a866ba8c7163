"""Changes that make a run fit, each predicted. What does not help is not offered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.errors import ProfileError
from engine.memory.estimate import PHASES, peak
from engine.memory.plan import MemoryPlan, Suggestion
from engine.memory.steps import Facts, steps_of
from engine.settings.profile import Settings

if TYPE_CHECKING:
    from engine.memory.planning import Margin

ORIGIN = "adjusted after OOM"
_HELPS = 0.02
"""The least share of the peak that a change has to save to be offered."""
_SHORTEST, _SMALLEST_CHUNK, _FEWEST = 16, 64, 4
_ALL_ROWS = 512
"""Where all held-out rows are looked at, half of this many are the first that are tried instead."""
_KEEPS_LEARNING = {"batch_size", "accumulation_steps", "gradient_checkpointing", "loss_chunk_size", "dtype",
                   "rollout_batch_size", "reference_log_probs", "teacher_dtype", "eval_rows"}  # fmt: skip
"""Changes after which a run learns from the same rows in the same order as before."""
_CHANGES_ROWS = {"max_seq_len", "batch_size", "accumulation_steps", "num_generations", "max_new_tokens"}
"""Changes after which the largest micro-batch is another one."""


@dataclass(frozen=True)
class _Change:
    """A kind of change.

    Attributes:
        options: Its values from the smallest change to the largest.
        cost: What it costs.
        batch: Whether a step still learns from as many rows.
    """

    options: list[dict[str, Any]]
    cost: str
    batch: bool = True


def suggest(settings: Settings, facts: Facts, plan: MemoryPlan, margin: Margin) -> list[Suggestion]:
    """Changes that lower the peak, the best first; of `facts` the plan's largest micro-batches are known.

    Those that fit come before those that only help; among them those that leave the task as it is, then in the order
    people were taught: length, batch and accumulation, precision, checkpointing, chunks of the loss, dropout, an
    adapter, answers, frozen models, the size of evaluations. Of each kind the smallest change that fits is taken, or
    the largest there is. Where no single one fits that leaves the task as it is, they are put together until it does.
    """
    predictor = _Predictor(settings, facts, plan, margin)
    changes = list(_changes(settings, facts))
    found = [suggestion for change in changes if (suggestion := predictor.best(change))]
    fitting = [each for each in found if each.fits]
    if not plan.fits and not any(map(keeps_learning, fitting)):
        found += [each for each in predictor.together(changes) if keeps_learning(each) or not fitting]
    return sorted(found, key=lambda each: (not each.fits, not keeps_learning(each)))


def resumes(changes: Iterable[str]) -> bool:
    """Whether a run that has begun to learn can go on with changes of these settings."""
    return set(changes) <= _KEEPS_LEARNING | {"dropout", "max_new_tokens"}


def keeps_learning(suggestion: Suggestion) -> bool:
    """Whether a run can go on with the change as if nothing had happened."""
    return suggestion.keeps_effective_batch and set(suggestion.changes) <= _KEEPS_LEARNING


class _Predictor:
    """Predicts what changes bring."""

    def __init__(self, settings: Settings, facts: Facts, plan: MemoryPlan, margin: Margin) -> None:
        self._settings, self._facts, self._plan, self._margin = settings, facts, plan, margin
        # what is known of the run's own peak corrects the formula for what is changed
        self._correction = plan.peak_bytes / max(1, self._peak(settings, facts))

    def best(self, change: _Change) -> Suggestion | None:
        """The smallest of its options that fits, else the last; None where it saves next to nothing."""
        found = None
        for option in change.options:
            found = self._suggestion(option, change) or found
            if found is not None and found.fits:
                break
        return found

    def together(self, changes: list[_Change]) -> Iterator[Suggestion]:
        """As few changes at once as fit, none larger than need be; what leaves the task as it is comes first."""
        helpful = [change for change in changes if self._helps(change)]
        taken: dict[int, dict[str, Any]] = {}
        for change in sorted(helpful, key=lambda each: not set(each.options[-1]) <= _KEEPS_LEARNING):
            taken[changes.index(change)] = change.options[-1]
            if (found := self._all_of(changes, taken)) and found.fits:
                break
        else:
            return
        for number in list(reversed(taken)):
            for option in ({}, *changes[number].options):
                fewer = {place: option if place == number else other for place, other in taken.items()}
                if (smaller := self._all_of(changes, fewer)) and smaller.fits:
                    found, taken = smaller, fewer
                    break
        yield found

    def _helps(self, change: _Change) -> bool:
        """Whether the largest of its options lowers a step's peak, or that of a rollout or of an evaluation."""
        try:
            changed = self._settings.replace(change.options[-1], ORIGIN)
        except ProfileError:
            return False
        facts = self._changed_facts(change.options[-1])
        return any(
            self._peak(changed, replace(facts, only=phase))
            < (1 - _HELPS) * self._peak(self._settings, replace(self._facts, only=phase))
            for phase in ([self._facts.only] if self._facts.only else PHASES)
        )

    def _changed_facts(self, option: dict[str, Any]) -> Facts:
        """What is known of a run with other settings."""
        return replace(self._facts, measured=()) if _CHANGES_ROWS & set(option) else self._facts

    def _all_of(self, changes: list[_Change], taken: dict[int, dict[str, Any]]) -> Suggestion | None:
        """The suggestion of an option of each of these changes; an empty one is none."""
        parts = [changes[number] for number, option in taken.items() if option]
        option = {name: value for each in taken.values() for name, value in each.items()}
        costs, batch = "; ".join(part.cost for part in parts), all(part.batch for part in parts)
        return self._suggestion(option, _Change([option], costs, batch))

    def _suggestion(self, option: dict[str, Any], change: _Change) -> Suggestion | None:
        try:
            changed = self._settings.replace(option, ORIGIN)
        except ProfileError:  # a combination that cannot be
            return None
        after = int(self._peak(changed, self._changed_facts(option)) * self._correction)
        saves = self._plan.peak_bytes - after
        if saves < _HELPS * self._plan.peak_bytes:
            return None
        checkpointing = changed.training.gradient_checkpointing
        return Suggestion(
            changes=option,
            peak_bytes=after,
            saves_bytes=saves,
            fits=self._margin.range(after, tight=True, checkpointing=checkpointing)[1] <= self._plan.limit_bytes,
            cost=change.cost,
            keeps_effective_batch=change.batch,
            truncated_rows=self._truncated(option),
        )

    def _peak(self, settings: Settings, facts: Facts) -> int:
        return max(peak(step)[0].total for step in steps_of(settings, facts, exact=False))

    def _truncated(self, option: dict[str, Any]) -> int | None:
        """Rows that a shorter max_seq_len cuts beside those that are cut already."""
        if "max_seq_len" not in option:
            return 0
        if self._facts.rows is None:
            return None
        lengths = np.minimum(self._facts.rows.lengths, self._settings.data.max_seq_len)
        cut = int(np.count_nonzero(lengths > option["max_seq_len"]))
        return cut // 2 if self._settings.stage.reads == ("pair",) else cut


def _changes(settings: Settings, facts: Facts) -> Iterator[_Change]:
    """All kinds of changes that these settings have, in the order in which people were taught."""
    values, training = settings.values(), settings.training
    lengths = [{"max_seq_len": length} for length in _halved(values["max_seq_len"], _SHORTEST)]
    if lengths:
        yield _Change(lengths, "changes the task: longer rows are cut or split")
    smaller = list(_batches(training.batch_size, training.accumulation_steps))
    if smaller:
        yield _Change(smaller, "slower: more, smaller passes for the same step")
    if training.dtype == "float32" and facts.has_bfloat16:
        yield _Change([{"dtype": "bfloat16"}], "coarser numbers in the computation; weights stay in float32")
    if not training.gradient_checkpointing:
        yield _Change([{"gradient_checkpointing": True}], "a step takes about a third longer")
    chunks = [{"loss_chunk_size": size} for size in _halved(training.loss_chunk_size, _SMALLEST_CHUNK)]
    if chunks:
        yield _Change(chunks, "a little slower")
    if values["dropout"]:
        yield _Change([{"dropout": 0.0}], "less regularisation: small data are learnt by heart sooner")
    if not values["lora_rank"] and values["from"]:
        yield _Change([{"lora_rank": 8}], "only an adapter learns; less can be learnt, and at another learning rate")
    yield from _answers(values)
    yield from _companions(values)
    fewer = [{"eval_rows": size} for size in _halved(training.eval_rows or _ALL_ROWS, _FEWEST)]
    if values.get("val_fraction") and fewer:
        yield _Change(fewer, "validation figures are noisier")


def _answers(values: dict[str, Any]) -> Iterator[_Change]:
    """What reinforcement learning can do with fewer or shorter answers; a group is never split."""
    if values.get("rollout_batch_size", 1) > 1:
        sizes = [{"rollout_batch_size": size} for size in _halved(values["rollout_batch_size"], 1)]
        yield _Change(sizes, "answers are made fewer at a time; they stay the same")
    if values.get("num_generations", 2) > 2:
        sizes = [{"num_generations": size} for size in _halved(values["num_generations"], 2)]
        yield _Change(sizes, "smaller groups tell answers apart less well", batch=False)
    if values.get("max_new_tokens", 1) > _SHORTEST:
        sizes = [{"max_new_tokens": size} for size in _halved(values["max_new_tokens"], _SHORTEST)]
        yield _Change(sizes, "changes the task: longer answers are cut off")


def _companions(values: dict[str, Any]) -> Iterator[_Change]:
    """What frozen models and critics can do without."""
    if values.get("reference_log_probs") == "computed" and not values["lora_rank"]:
        cost = "a pass over the data before the first step; later steps are faster"
        yield _Change([{"reference_log_probs": "precomputed"}], cost)
    if values.get("teacher_dtype") == "float32" and not values.get("teacher_top_k"):
        yield _Change([{"teacher_dtype": "bfloat16"}], "the teacher's numbers are coarser")
    if values.get("teacher_top_k") == 0:
        yield _Change([{"teacher_top_k": 50}], "a pass of the teacher before the first step; its rare tokens are lost")
    if values.get("critic") == "own":
        yield _Change([{"critic": "shared"}], "policy and critic share their blocks and disturb each other")


def _halved(value: int, least: int) -> list[int]:
    """Half, a quarter and so on, not below `least`."""
    found = []
    while (value := value // 2) >= least:
        found.append(value)
    return found


def _batches(batch_size: int, accumulation_steps: int) -> Iterator[dict[str, Any]]:
    """Smaller micro-batches with the same number of rows a step."""
    whole = batch_size * accumulation_steps
    for size in range(batch_size - 1, 0, -1):
        if whole % size == 0:
            yield {"batch_size": size, "accumulation_steps": whole // size}
