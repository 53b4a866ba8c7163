"""A run's memory: planned before it, measured in its first seconds, watched during it, explained when it runs out."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.allocator import set_tight, trim
from engine.errors import DoesNotFit, OutOfMemory
from engine.exhaustion import Exhausted
from engine.figures import size
from engine.memory.allocated import rehearsed_peak
from engine.memory.history import Record, write_record
from engine.memory.kills import oom_kills
from engine.memory.limits import Target, device_limit, process_limits
from engine.memory.plan import Breakdown, MemoryPlan
from engine.memory.planning import limit_found, make_plan
from engine.model.config import num_parameters
from engine.runs.events import MemoryPlanned, RanOutOfMemory
from engine.runs.folder import RunFolder
from engine.session.adjust import offer
from engine.session.planning import Draft, draft_settings, rows_of, time_of
from engine.session.shortage import remedies
from engine.settings.profile import Settings
from engine.stages.answers import PolicyBatch
from engine.text.batching import Batch
from engine.text.store import SampleStore
from engine.training.device import Device
from engine.training.precision import Precision
from engine.training.stage import Stage

_MARGIN = 192 << 20
"""A run ends itself when the system has no more than this left for it: what follows would be a kill."""
_LOOK_SECONDS = 0.2
_together: "set[RunMemory]" = set()
"""The runs of this process that go on, whose memory cannot be told apart."""
_UNCATCHABLE = ("available memory", "cgroup limit")
"""Limits at which the kernel ends a process instead of refusing memory."""


class RunMemory:
    """What a run was expected to take and took.

    Args:
        run: Its folder.
        settings: Its settings.
        device: Where it computes.
        store: Its rows.
    """

    def __init__(self, run: RunFolder, settings: Settings, device: Device, store: SampleStore) -> None:
        self._run, self._settings, self._device = run, settings, device
        target = Target(device.kind, str(device.torch_device), None)
        self._draft: Draft = draft_settings(settings, target, [], rows_of(store, settings))
        self._program = process_limits().resident if device.kind == "cpu" else 0  # what it holds there
        self._margin = self._draft.margin
        if device.kind == "cpu":
            self._margin = replace(self._margin, program=self._program)
        self._limit = device_limit(target)
        self.plan = self._plan(draft=self._draft)
        self._formula, self._phase = self.plan.peak_bytes, self.plan.phase
        self._parameters = sum(num_parameters(self._draft.facts.config).values())
        self._measured: int | None = None
        self._alone, self._looked = False, 0.0

    def refuse_if_too_large(self, *, resume: bool) -> None:
        """A run that is not expected to fit is refused before anything is allocated.

        Raises:
            DoesNotFit: With the changes that would help; a run that is there already can take them over.
        """
        if self.plan.fits:
            return
        plan = self._plan(self._draft, suggestions=True).to_json()
        if resume:
            offer(self._run, plan["suggestions"])
        raise DoesNotFit(
            f"the run is not expected to fit: up to {size(self.plan.high_bytes)} of {size(self._limit)}",
            where=f"run {self._run.name}",
            hint=remedies(plan, self._run if resume else None, otherwise="--force starts it all the same"),
            plan=plan,
            run=self._run.name if resume else "",
        )

    def begin(self) -> None:
        """The run goes on: its record is begun, with the kernel's counts, should that end the process."""
        for other in _together:
            other._alone = False
        self._alone = not _together and self._device.reset_peak()
        if not _together:  # it holds for the whole process
            set_tight(self.plan.allocator == "tight")
        _together.add(self)
        self._write(None, None)

    def end(self) -> None:
        """The run goes on no longer."""
        _together.discard(self)

    def rehearse(self, stage: Stage, precision: Precision) -> MemoryPlanned:
        """Makes the largest step once without an update, and measures it; the record is written.

        Returns:
            What the run says of it.
        """
        shapes = tuple(shape_of(batch) for batch in stage.largest())
        self._draft = replace(self._draft, facts=replace(self._draft.facts, measured=shapes))
        self.plan = self._plan(self._draft)
        moments = _moments(stage)  # the optimizer makes them at its first step only
        found = rehearsed_peak(stage, precision, self._device.torch_device)
        del moments
        if found is not None:
            self._measured = found.peak_bytes
            if self.plan.phase == "update":
                self.plan = self._plan(self._draft, found=(self.plan.breakdown.corrected(found.peak_bytes), "update"))
        self._write(None, None)
        return MemoryPlanned(plan=self.plan.to_json(), measured_bytes=self._measured)

    def finish(self, tokens_per_second: float | None) -> dict[str, Any]:
        """Completes the record; gives what the summary says of memory."""
        peak = self._device.peak_memory()
        self._write(peak if self._alone else None, tokens_per_second)
        return {"peak_bytes": max(self._measured or 0, self.plan.peak_bytes), "resident_bytes": peak}

    def look(self) -> None:
        """Called wherever the run can be told to stop: it ends in order before the system would end it.

        Raises:
            OutOfMemory: Next to nothing is left.
        """
        now = time.monotonic()
        if self._device.kind != "cpu" or now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        limits = process_limits()
        if limits.left < _MARGIN:
            trim()
            limits = process_limits()
        if limits.source in _UNCATCHABLE and limits.left < _MARGIN:
            raise OutOfMemory(f"{limits.source}: {size(limits.left)} are left; the run ends before the system ends it")

    def explain(self, found: Exhausted, phase: str, step: int) -> RanOutOfMemory:
        """What happened, with the changes that fit.

        What did not fit in spite of the plan is more than was thought: the limit is taken to lie below it.
        """
        if self._settings.stage.train_on == "prompt" and phase == "evaluation":
            only = "rollout"  # answers are made there
        else:
            only = phase if phase in ("rollout", "evaluation") else ""
        draft = replace(self._draft, facts=replace(self._draft.facts, only=only))
        thought = self._plan(draft) if only else self.plan
        if thought.fits:
            parts = thought.breakdown
            passing = parts.activations + parts.logits + parts.rollout_cache
            self._limit = limit_found(self._limit, thought.high_bytes, passing if only else None)
        self.plan = self._plan(draft, suggestions=True)
        offer(self._run, self.plan.to_json()["suggestions"])
        return RanOutOfMemory(
            step=step, phase=phase, what=found.text, device=found.device, wanted_bytes=found.wanted_bytes,
            limit_bytes=self._limit, plan=self.plan.to_json(),
        )  # fmt: skip

    def _plan(
        self, draft: Draft, *, suggestions: bool = False, found: tuple[Breakdown, str] | None = None
    ) -> MemoryPlan:
        plan = make_plan(
            draft.settings, draft.facts, device=draft.target.name, limit_bytes=self._limit, margin=self._margin,
            found=found, method="measured" if found else "formula", suggestions=suggestions,
        )  # fmt: skip
        return replace(plan, notes=draft.notes, time=time_of(draft.settings, draft.facts))

    def _write(self, resident: int | None, tokens_per_second: float | None) -> None:
        record = Record(
            run=self._run.name,
            stage=self._settings.stage.name,
            device=self._device.kind,
            parameters=self._parameters,
            predicted_bytes=self._formula,
            measured_bytes=self._measured,
            phase=self._phase,
            allocator=self.plan.allocator,
            low_bytes=self.plan.low_bytes,
            high_bytes=self.plan.high_bytes,
            resident_bytes=resident,
            program_bytes=self._program,
            tokens_per_second=tokens_per_second,
            finished=tokens_per_second is not None,
            kills=oom_kills().to_json(),
        )
        write_record(self._run.path, record)


def _moments(stage: Stage) -> list[Tensor]:
    """What AdamW will keep of all trained parameters, written to, so that it is really there."""
    trained = {
        parameter for module in stage.modules.values() for parameter in module.parameters() if parameter.requires_grad
    }
    return [torch.empty(2, parameter.numel(), device=parameter.device).fill_(0) for parameter in trained]


def shape_of(batch: Any) -> tuple[tuple[int, ...], int]:
    """Tokens of each document and number of targets."""
    flat: Batch = batch.batch if isinstance(batch, PolicyBatch) else batch
    return tuple(np.diff(flat.cu_seqlens).tolist()), int(np.count_nonzero(flat.loss_weights))
