"""One optimizer step over all its micro-batches."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from engine.randomness import derive_seed
from engine.training.device import Device
from engine.training.distributed import rank, sum_gradients, sum_over_ranks
from engine.training.optimizer import make_optimizer
from engine.training.precision import Precision
from engine.training.schedule import learning_rate
from engine.training.stage import Measures, Stage


@dataclass(frozen=True)
class Outcome:
    """How an optimizer step went.

    Attributes:
        loss: Its value, every term divided by its count over the whole step and all ranks.
        terms: The terms' values, without their coefficients.
        rate: The learning rate.
        norm: The gradient's norm before clipping.
        measures: Of its micro-batches.
        applied: Whether the weights changed.
        non_finite: `loss` or `gradient` where one was not finite; empty if all is well, or if it was the scaler of
            float16 trying its scale.
        rows: The rows of the data to blame for it.
    """

    loss: float
    terms: dict[str, float]
    rate: float
    norm: float
    measures: list[Measures]
    applied: bool
    non_finite: str = ""
    rows: list[int] = field(default_factory=list)


class Updater:
    """Makes a stage's optimizer steps.

    Args:
        stage: What is trained.
        device: Where.
        precision: How.
        total_steps: How many steps the run takes, for the learning rate.
    """

    def __init__(self, stage: Stage, device: Device, precision: Precision, total_steps: int) -> None:
        self._stage, self._device, self._precision, self._total = stage, device, precision, total_steps
        self._settings = stage.settings.training
        self.named: list[tuple[str, nn.Parameter]] = [
            (f"{key}.{name}", parameter)
            for key, module in stage.modules.items()
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        ]
        self.optimizer = make_optimizer(self.named, self._settings, stage.rates)

    def __call__(self, step: int, batches: Sequence[Any], between: Callable[[], None]) -> Outcome:
        """Takes optimizer step `step`, counted from 0.

        Args:
            step: Its number; decides the learning rate and dropout.
            batches: Its micro-batches.
            between: Called before each micro-batch; what it raises leaves weights and optimizer as they were.
        """
        rate = learning_rate(self._settings, step, self._total)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        if not sum_over_ranks({"batches": float(len(batches))}, self._device.torch_device)["batches"]:
            return Outcome(0.0, {}, rate, 0.0, [], applied=False)
        measures = [self._stage.measure(batch) for batch in batches]
        counts: dict[str, float] = {}
        for each in measures:
            for name, count in each.counts.items():
                counts[name] = counts.get(name, 0.0) + count
        counts = sum_over_ranks(counts, self._device.torch_device)
        found: list[dict[str, Tensor]] = []
        try:
            for index, batch in enumerate(batches):
                between()
                found.append(self._backward(step, index, batch, counts))
        except BaseException:
            self.optimizer.zero_grad(set_to_none=True)
            raise
        parameters = [parameter for _, parameter in self.named]
        sum_gradients(parameters)
        self._precision.scaler.unscale_(self.optimizer)
        limit = self._settings.grad_clip or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, limit))
        local = [{name: float(value) for name, value in each.items()} for each in found]
        totals = sum_over_ranks(_added(local), self._device.torch_device)
        loss = totals.pop("", 0.0)
        what = self._non_finite(loss, norm)
        accepted = bool(what) or self._stage.accept(totals)
        if accepted and not what:
            self._precision.scaler.step(self.optimizer)
        self._precision.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        guilty = [batch for batch, values in zip(batches, local, strict=True) if not math.isfinite(values[""])]
        rows = self._rows(self._bad_parts(guilty) or guilty or batches) if what else []
        applied = accepted and math.isfinite(loss + norm)
        return Outcome(loss, totals, rate, norm, measures, applied, what, rows)

    def _backward(self, step: int, index: int, batch: Any, counts: dict[str, float]) -> dict[str, Tensor]:
        """See `back_propagate`; dropout is a function of the step and the micro-batch."""
        torch.manual_seed(derive_seed(self._settings.seed, "dropout", step, index, rank()))
        return back_propagate(self._stage, self._precision, batch, counts)

    @torch.no_grad()
    def _bad_parts(self, batches: Sequence[Any]) -> list[Any]:
        """The rows of these micro-batches whose own loss is not finite; none where only their sum is too large."""
        found = []
        for part in (part for batch in batches for part in self._stage.parts(batch)):
            with self._precision.autocast():
                terms = self._stage.loss(part).values()
            if not all(bool(torch.isfinite(term.sum)) for term in terms if term.coefficient):
                found.append(part)
        return found

    def _rows(self, batches: Sequence[Any]) -> list[int]:
        return sorted({int(row) for batch in batches for row in self._stage.measure(batch).rows})

    def _non_finite(self, loss: float, norm: float) -> str:
        if not math.isfinite(loss):
            return "loss"
        # the scaler leaves out a step while it looks for its scale; at 1 there is nothing left to look for
        searching = self._precision.scaler.is_enabled() and self._precision.scaler.get_scale() > 1
        return "" if math.isfinite(norm) or searching else "gradient"

    def weights_finite(self) -> bool:
        """Whether every weight is a number."""
        return all(bool(torch.isfinite(parameter).all()) for _, parameter in self.named)


def back_propagate(stage: Stage, precision: Precision, batch: Any, counts: Mapping[str, float]) -> dict[str, Tensor]:
    """Adds a micro-batch's gradients to those that are there.

    Args:
        stage: Makes the loss.
        precision: How.
        batch: The micro-batch.
        counts: What each term of the loss is divided by.

    Returns:
        The terms' values over these counts; the key '' holds the loss that was back-propagated.
    """
    with precision.autocast():
        terms = stage.loss(batch)
    # a term of nothing has a sum of 0 with a live graph: it adds 0, and no 0/0
    values = {name: term.sum / (counts[name] or 1.0) for name, term in terms.items()}
    parts = [values[name] * term.coefficient for name, term in terms.items() if term.coefficient]
    loss = torch.stack(parts).sum()
    precision.backward(loss)
    return {"": loss.detach(), **{name: value.detach() for name, value in values.items()}}


def _added(values: list[dict[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for each in values:
        for name, value in each.items():
            total[name] = total.get(name, 0.0) + value
    return total
