"""The training loop: rounds of optimizer steps, with control, events and checkpoints between them."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import EngineError, Interrupted
from engine.randomness import derive_seed
from engine.runs.checkpoint import load_checkpoint, save_checkpoint, tidy_checkpoints
from engine.runs.control import ControlReader
from engine.runs.events import (
    CheckpointSaved,
    ControlAcknowledged,
    Evaluated,
    Event,
    NonFiniteStep,
    Sampled,
    Step,
    Warned,
)
from engine.runs.folder import RunFolder
from engine.training.device import Device
from engine.training.distributed import rank, sum_gradients, sum_over_ranks
from engine.training.optimizer import load_optimizer_tensors, make_optimizer, optimizer_tensors
from engine.training.precision import Precision
from engine.training.schedule import learning_rate
from engine.training.stage import MicroBatch, Stage

_PAUSE_POLL = 0.2


class _Dropped(Exception):
    """The step that was being computed is given up; the last boundary is what counts."""


@dataclass
class LoopState:
    """Where a run stands between two rounds; all of it goes into the checkpoint."""

    step: int = 0
    round: int = 0
    tokens: int = 0
    best: float = math.inf
    best_step: int = -1
    non_finite: int = 0
    skipped: int = 0
    last: dict[str, float] = field(default_factory=dict)
    """The newest training and validation numbers, for the summary."""


class Loop:
    """Trains a stage.

    Args:
        stage: What is trained.
        run: Its folder.
        device: Where.
        precision: How.
        emit: Takes events.
        interrupt: Set from outside (a signal, a closing app): save the last step boundary and end.
        peak_flops: Flops a second that the model's matrix shapes reach here, for the utilisation; 0 if unknown.
    """

    def __init__(
        self,
        stage: Stage,
        run: RunFolder,
        device: Device,
        precision: Precision,
        emit: Callable[[Event], None],
        interrupt: threading.Event,
        peak_flops: float = 0.0,
    ) -> None:
        self.stage, self.state = stage, LoopState()
        self._run, self._device, self._precision = run, device, precision
        self._emit, self._interrupt, self._peak_flops = emit, interrupt, peak_flops
        self._settings = stage.settings.training
        self._named: list[tuple[str, nn.Parameter]] = [
            (f"{key}.{name}", parameter)
            for key, module in stage.modules.items()
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        ]
        self._optimizer = make_optimizer(self._named, self._settings)
        self._control = ControlReader(run.control)
        self._total = stage.rounds * stage.steps_per_round
        self._log_interval = self._settings.log_interval
        self._clock = _Clock()
        self._stop = False
        self._evaluated_at = self._saved_at = -1

    @property
    def total_steps(self) -> int:
        """Optimizer steps that the whole run takes."""
        return self._total

    def restore(self, folder: Any) -> None:
        """Puts the run where a checkpoint left it.

        Raises:
            CheckpointError: The checkpoint is damaged or of another model.
        """
        tensors, state = load_checkpoint(folder)
        self.stage.load_model(folder)
        load_optimizer_tensors(self._optimizer, self._named, tensors)
        self._precision.load_state(state["scaler"])
        self.stage.load_state(state["stage"])
        self.state = LoopState(**{**state["loop"], "best": float(state["loop"]["best"])})
        self._saved_at = self._evaluated_at = self.state.step

    def train(self) -> str:
        """Runs to the end, or until it is told to stop.

        Returns:
            `done` or `stopped`; either way the last boundary is saved.

        Raises:
            Interrupted: The interrupt was set; the last boundary is saved.
            EngineError: Too many non-finite steps in a row, or a checkpoint could not be written.
        """
        try:
            while self.state.round < self.stage.rounds and not self._obey():
                self._round()
        except _Dropped:
            self._stop = True
        if self._interrupt.is_set():
            self._save()
            raise Interrupted(f"interrupted at step {self.state.step}; the checkpoint is saved")
        if not self._stop and self._evaluated_at != self.state.step:
            self._evaluate()
        if self._saved_at != self.state.step:
            self._save()
        return "stopped" if self._stop else "done"

    def _round(self) -> None:
        steps = self.stage.collect(self.state.round)
        for batches in steps:
            self._update(batches)
        self.state.round += 1
        settings, step = self._settings, self.state.step
        if settings.eval_interval and step % settings.eval_interval == 0:
            self._evaluate()
        if settings.save_interval and step % settings.save_interval == 0 and self._saved_at != step:
            self._save()

    def _update(self, batches: Sequence[MicroBatch]) -> None:
        """One optimizer step over all its micro-batches."""
        stage, state, settings = self.stage, self.state, self._settings
        rate = learning_rate(settings, state.step, self._total)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        counts: dict[str, float] = {}
        for batch in batches:
            for name, count in stage.counts(batch).items():
                counts[name] = counts.get(name, 0.0) + count
        counts = sum_over_ranks(counts, self._device.torch_device)
        losses = [self._backward(index, batch, counts) for index, batch in enumerate(batches)]
        parameters = [parameter for _, parameter in self._named]
        sum_gradients(parameters)
        self._precision.scaler.unscale_(self._optimizer)
        limit = settings.grad_clip or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, limit, foreach=True))
        values = [float(loss) for loss in losses]
        scaling = self._precision.scaler.is_enabled()
        if all(map(math.isfinite, values)) and (math.isfinite(norm) or scaling):
            self._precision.scaler.step(self._optimizer)
            state.non_finite = 0
            state.skipped += not math.isfinite(norm)
        else:
            self._skip(batches, values)
        self._precision.scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        state.step += 1
        self._account(batches, sum(values), rate, norm)

    def _backward(self, index: int, batch: MicroBatch, counts: dict[str, float]) -> Tensor:
        if self._interrupt.is_set():
            self._optimizer.zero_grad(set_to_none=True)
            raise _Dropped
        torch.manual_seed(derive_seed(self._settings.seed, "dropout", self.state.step, index, rank()))
        with self._precision.autocast():
            terms = self.stage.loss(batch)
        parts = [term.sum * (term.coefficient / counts[name]) for name, term in terms.items() if counts[name]]
        loss = torch.stack(parts).sum()
        self._precision.backward(loss)
        return loss.detach()

    def _skip(self, batches: Sequence[MicroBatch], values: list[float]) -> None:
        """The step is left out, named with its rows; too many in a row end the run."""
        guilty = [batch for batch, value in zip(batches, values, strict=True) if not math.isfinite(value)]
        what = "loss" if guilty else "gradient"
        rows = sorted({int(row) for batch in guilty or batches for row in batch.rows})
        self.state.non_finite += 1
        self.state.skipped += 1
        self._emit(NonFiniteStep(step=self.state.step, what=what, rows=rows))
        if self.state.non_finite >= self._settings.max_non_finite:
            raise EngineError(
                f"{self.state.non_finite} steps in a row had a non-finite {what}; the last at step {self.state.step}",
                where=f"rows {', '.join(map(str, rows[:8]))}",
                hint="lower learning_rate, add warmup_steps, or use dtype=float32; "
                f"the last good checkpoint: {self._last_checkpoint()}",
            )

    def _last_checkpoint(self) -> str:
        steps = self._run.checkpoint_steps()
        return f"{self._run.name}@{steps[-1]}" if steps else "none was saved yet"

    def _account(self, batches: Sequence[MicroBatch], loss: float, rate: float, norm: float) -> None:
        clock, state = self._clock, self.state
        tokens = sum(len(batch.input_ids) for batch in batches)
        state.tokens += tokens
        clock.tokens += tokens
        clock.slots += sum(batch.slots for batch in batches)
        clock.trained += sum(int((batch.loss_weights > 0).sum()) for batch in batches)
        clock.flops += sum(self.stage.flops(batch) for batch in batches)
        state.last |= {"loss": loss}
        if state.step % self._log_interval and state.step != self._total:
            return
        seconds = clock.seconds()
        metrics = {
            "loss": loss,
            "learning_rate": rate,
            "grad_norm": norm,
            "tokens_per_second": clock.tokens / seconds,
            "trained_share": clock.trained / max(clock.tokens, 1),
            "padding_share": 1 - clock.tokens / max(clock.slots, 1),
            "memory_bytes": float(self._device.memory_in_use()),
            **({"mfu": clock.flops / seconds / self._peak_flops} if self._peak_flops else {}),
            **({"loss_scale": self._precision.scaler.get_scale()} if self._precision.scaler.is_enabled() else {}),
            **self.stage.metrics(),
        }
        state.last |= {"tokens_per_second": metrics["tokens_per_second"]}
        self._emit(Step(step=state.step, epoch=self.stage.epoch(state.round), tokens=state.tokens, metrics=metrics))
        self._clock = _Clock()

    def _evaluate(self) -> None:
        """Measures and asks; a new best is saved."""
        with self._clock.stopped():
            result = self.stage.evaluate()
        step, state = self.state.step, self.state
        self._evaluated_at = step
        state.last |= result.metrics
        if result.metrics:
            self._emit(Evaluated(step=step, metrics=result.metrics))
        for said in result.said:
            self._emit(Sampled(step=step, prompt=said.prompt, text=said.text, stop_reason=said.stop_reason))
        value = result.metrics.get(self.stage.best_metric, math.inf)
        if value < state.best:
            state.best, state.best_step = value, step
            self._save()

    def _save(self) -> None:
        """Writes a checkpoint of the boundary that the run stands at."""
        state, began = self.state, time.monotonic()
        with self._clock.stopped():
            path = save_checkpoint(
                self._run,
                state.step,
                self.stage.save_model,
                optimizer_tensors(self._optimizer, self._named),
                {
                    "loop": {**vars(state), "best": repr(state.best)},
                    "scaler": self._precision.state(),
                    "stage": self.stage.state(),
                },
            )
            best = state.best_step == state.step
            tidy_checkpoints(self._run, self._settings.keep_checkpoints, state.best_step)
        self._saved_at = state.step
        self._emit(CheckpointSaved(step=state.step, path=str(path), best=best, seconds=time.monotonic() - began))

    def _obey(self) -> bool:
        """Follows control commands; true when the run is to end."""
        paused = False
        while True:
            for identity, command, value in self._control.poll():
                self._emit(ControlAcknowledged(id=identity, command=command, step=self.state.step))
                paused = command == "pause" or (paused and command in ("save", "evaluate", "set_log_interval"))
                if command in ("stop", "stop_now"):
                    self._stop = True
                elif command == "save":
                    self._save()
                elif command == "evaluate":
                    self._evaluate()
                elif command == "set_log_interval" and isinstance(value, int) and value > 0:
                    self._log_interval = value
            if self._stop or self._interrupt.is_set():
                return True
            if not paused:
                return False
            with self._clock.stopped():
                time.sleep(_PAUSE_POLL)

    def warn(self, name: str, message: str) -> None:
        """Emits a named warning at the present step."""
        self._emit(Warned(name=name, message=message, step=self.state.step))


class _Clock:
    """Counts what was done since the last report, and the time that training itself took."""

    def __init__(self) -> None:
        self.tokens = self.slots = self.trained = 0
        self.flops = 0.0
        self._began, self._away = time.perf_counter(), 0.0

    def seconds(self) -> float:
        """Seconds since the last report, less the time spent away from training."""
        return max(time.perf_counter() - self._began - self._away, 1e-9)

    def stopped(self) -> "_Pause":
        """A context whose time does not count as training."""
        return _Pause(self)

    def add_away(self, seconds: float) -> None:
        self._away += seconds


class _Pause:
    def __init__(self, clock: _Clock) -> None:
        self._clock = clock

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._clock.add_away(time.perf_counter() - self._began)
