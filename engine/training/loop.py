"""The training loop: rounds of optimizer steps, with control, events and checkpoints between them."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from engine.errors import EngineError
from engine.runs.checkpoint import load_checkpoint, save_checkpoint, tidy_checkpoints
from engine.runs.control import Command, Inbox, StopNow
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
from engine.training.optimizer import load_optimizer_tensors, optimizer_tensors
from engine.training.precision import Precision
from engine.training.stage import Stage
from engine.training.state import LoopState, Stopwatch, Window
from engine.training.update import Outcome, Updater
from engine.training.watch import Watch

_PAUSE_POLL = 0.1


class Loop:
    """Trains a stage.

    Between two rounds a run stands at a boundary: there it measures, saves and obeys. Everything that is due at a
    boundary follows from the state, so a run that was killed between two of these does the rest when it is resumed.

    Args:
        stage: What is trained.
        run: Its folder.
        device: Where.
        precision: How.
        emit: Takes events.
        inbox: What the run is told.
        peak_flops: Flops a second that the model's matrix shapes reach here, for the utilisation; 0 if unknown.
        look: Called before each micro-batch; what it raises ends the run.
    """

    def __init__(
        self,
        stage: Stage,
        run: RunFolder,
        device: Device,
        precision: Precision,
        emit: Callable[[Event], None],
        inbox: Inbox,
        peak_flops: float = 0.0,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self.stage, self.state = stage, LoopState()
        self.total_steps = stage.rounds * stage.steps_per_round
        """Optimizer steps that the whole run takes."""
        self._run, self._device, self._precision = run, device, precision
        self._emit, self._inbox, self._peak_flops, self._look = emit, inbox, peak_flops, look
        self._settings = stage.settings.training
        self._update = Updater(stage, device, precision, self.total_steps)
        directions = {metric.name: metric.direction for metric in stage.settings.stage.metrics}
        self._better = directions[stage.best_metric]
        self._log_interval = self._settings.log_interval
        self._clock = Stopwatch()
        self._watch = Watch(self.total_steps, falling=directions.get("loss") == -1)
        self._stop = False
        self._saved_at = -1
        self.doing = "training"
        """`training`, `rollout` or `evaluation`: where an error came from."""

    def restore(self, folder: Path) -> None:
        """Puts the run where a whole checkpoint left it.

        Raises:
            CheckpointError: The checkpoint is of another model or version.
        """
        tensors, state = load_checkpoint(folder)
        self.state = LoopState.from_json(state.get("loop", {}))
        self.stage.load_model(folder)
        load_optimizer_tensors(self._update.optimizer, self._update.named, tensors)
        self._precision.load_state(state["scaler"])
        self.stage.load_state(state["stage"])
        self._saved_at = self.state.step
        self._watch.replay(self._run.history())  # its warnings were given then

    def train(self) -> str:
        """Runs to the end, or until it is told to stop.

        Returns:
            `done`, or `stopped` by a command or an interrupt; either way the last boundary is saved.

        Raises:
            EngineError: Too many non-finite steps in a row, or a checkpoint could not be written.
        """
        self._clock = Stopwatch()
        try:
            while True:
                self._do_what_is_due()
                self._obey()
                if self._stop or self.state.round == self.stage.rounds:
                    break
                self._round()
        except StopNow:
            list(self._commands())
        if self._saved_at != self.state.step:
            self._save()
        done = self.state.round == self.stage.rounds and self.state.evaluated_at == self.state.step
        return "done" if done else "stopped"

    def _round(self) -> None:
        """Collects and makes one round's steps. It can be given up until its first step has changed the weights."""
        for number, batches in enumerate(self._collected()):
            for module in self.stage.modules.values():
                module.train()
            outcome = self._update(self.state.step, batches, self._look if number else self._inbox.hurry)
            if number == 0:
                self.stage.settle()
            self._account(outcome)
        self.state.round += 1

    def _collected(self) -> Iterator[Sequence[Any]]:
        """The round's steps; what a policy stage computes for them is a rollout."""
        steps = None
        while True:
            before, self.doing = self.doing, "rollout" if self.stage.settings.stage.train_on == "prompt" else "training"
            if steps is None:
                steps = iter(self.stage.collect(self.state.round))
            batches = next(steps, None)
            self.doing = before
            if batches is None:
                return
            yield batches

    def _do_what_is_due(self) -> None:
        state, settings = self.state, self._settings
        last = state.round == self.stage.rounds
        first = state.step == 0 and self.stage.measures_start and settings.eval_interval > 0
        if (first or last or self._due(settings.eval_interval)) and state.evaluated_at != state.step:
            self._evaluate()
        if self._due(settings.save_interval) and self._saved_at != state.step and not state.non_finite:
            self._save()

    def _due(self, interval: int) -> bool:
        """Whether a multiple of the interval lies in the round behind."""
        step = self.state.step
        return bool(interval and step and step // interval != (step - self.stage.steps_per_round) // interval)

    def _account(self, outcome: Outcome) -> None:
        """Notes a step that was taken, and reports it where one is due."""
        state = self.state
        state.step += 1
        state.skipped += not outcome.applied
        state.non_finite = state.non_finite + 1 if outcome.non_finite else 0
        state.tokens += sum(each.tokens for each in outcome.measures)
        state.window.count(outcome.measures)
        loss = outcome.terms.get("loss", outcome.loss)
        state.last |= {"loss": loss}
        if outcome.non_finite:
            self._complain(outcome)
        # a step of reinforcement learning may have no signal; the stage reports how many have none
        trained = sum(each.trained for each in outcome.measures) if outcome.measures else 1
        self._warn(self._watch.step(state.step, loss, trained))
        if state.step % self._log_interval == 0 or state.step == self.total_steps:
            self._report(outcome)

    def _complain(self, outcome: Outcome) -> None:
        """Names a step that was left out with its rows; too many in a row end the run."""
        state, what = self.state, outcome.non_finite
        self._emit(NonFiniteStep(step=state.step, what=what, rows=outcome.rows))
        if state.non_finite >= self._settings.max_non_finite:
            steps = self._run.checkpoint_steps()
            kept = f"{self._run.name}@{steps[-1]}" if steps else "none was saved yet"
            raise EngineError(
                f"{state.non_finite} steps in a row had a non-finite {what}; the last was step {state.step}",
                where=f"rows {', '.join(map(str, outcome.rows[:8]))}",
                hint=f"lower learning_rate, add warmup_steps, or use dtype=float32; the last good checkpoint: {kept}",
            )

    def _report(self, outcome: Outcome) -> None:
        state, scaler = self.state, self._precision.scaler
        state.window.seconds += self._clock.lap()
        metrics = {
            "loss": outcome.loss,
            **(outcome.terms if len(outcome.terms) > 1 else {}),
            "learning_rate": outcome.rate,
            "grad_norm": outcome.norm,
            **state.window.metrics(self._peak_flops),
            "memory_bytes": float(self._device.memory_in_use()),
            **({"loss_scale": scaler.get_scale()} if scaler.is_enabled() else {}),
            **self.stage.metrics(),
        }
        state.seconds += state.window.seconds
        state.window = Window()
        epoch = self.stage.epoch(state.round + 1)
        event = Step(step=state.step, epoch=epoch, tokens=state.tokens, metrics=metrics)
        self._emit(event)
        self._warn(self._watch.report(event))

    def _evaluate(self) -> None:
        """Measures and asks; a new best is saved."""
        state = self.state
        self.doing = "evaluation"
        with self._clock.stopped():
            result = self.stage.evaluate()
        self.doing = "training"
        state.evaluated_at = state.step
        state.last |= result.metrics
        if result.metrics:
            event = Evaluated(step=state.step, metrics=result.metrics)
            self._emit(event)
            self._warn(self._watch.evaluation(event))
        for said in result.said:
            self._emit(Sampled(step=state.step, prompt=said.prompt, text=said.text, stop_reason=said.stop_reason))
        value = result.metrics.get(self.stage.best_metric, math.nan)
        if math.isfinite(value) and (state.best is None or (value - state.best) * self._better > 0):
            state.best, state.best_step = value, state.step
            self._save()

    def _warn(self, warnings: Iterable[Warned]) -> None:
        for warning in warnings:
            self._emit(warning)

    def _save(self) -> None:
        """Writes a checkpoint of the boundary that the run stands at; what went bad may not displace a good one."""
        state, began = self.state, time.monotonic()
        if not self._update.weights_finite():
            self._emit(Warned(name="weights_not_finite", message="no checkpoint was saved", step=state.step))
            return
        state.window.seconds += self._clock.lap()
        best = None if state.best_step < 0 else state.best_step
        with self._clock.stopped():
            path = save_checkpoint(
                self._run,
                state.step,
                self.stage.save_model,
                optimizer_tensors(self._update.optimizer, self._update.named),
                {"loop": state.to_json(), "scaler": self._precision.state(), "stage": self.stage.state()},
                best,
            )
            tidy_checkpoints(self._run, self._settings.keep_checkpoints, best)
        self._saved_at = state.step
        seconds = time.monotonic() - began
        self._emit(CheckpointSaved(step=state.step, path=str(path), best=best == state.step, seconds=seconds))

    def _obey(self) -> None:
        """Follows control commands; waits while the run is paused."""
        paused = False
        while True:
            for command in self._commands():
                match command.name:
                    case "pause":
                        paused = True
                    case "continue":
                        paused = False
                    case "stop" | "stop_now":
                        self._stop = True
                    case "save":
                        self._save()
                    case "evaluate":
                        self._evaluate()
                    case "set_log_interval" if command.value:
                        self._log_interval = max(1, command.value)
            self._stop = self._stop or self._inbox.interrupt.is_set()
            if self._stop or not paused:
                return
            with self._clock.stopped():
                time.sleep(_PAUSE_POLL)

    def _commands(self) -> Iterator[Command]:
        """What the run was told since the last time, each acknowledged."""
        for command in self._inbox.take():
            self._emit(ControlAcknowledged(id=command.id, command=command.name, step=self.state.step))
            yield command
