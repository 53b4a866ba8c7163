import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from engine.errors import EngineError, Interrupted
from engine.runs.control import send
from engine.runs.events import CheckpointSaved, ControlAcknowledged, Evaluated, Event, NonFiniteStep, Step
from engine.runs.folder import RunFolder
from engine.session import carry, carry_out
from engine.stages.supervised import Supervised
from engine.training.stage import Evaluation, Term
from engine.training.update import Updater
from tests.training.tiny import World, losses, same_bits, tensors, told


def _steps(run: RunFolder) -> list[Step]:
    return [event for event in run.history() if isinstance(event, Step)]


def _when(step: int, act: Callable[[], object]) -> Callable[[Event], None]:
    """A listener that does something once, when a step was reported."""
    waiting = [act]

    def listen(event: Event) -> None:
        if isinstance(event, Step) and event.step == step and waiting:
            waiting.pop()()

    return listen


def test_intervals(world: World) -> None:
    run = world.trained("sft", max_steps=11, log_interval=4, eval_interval=5, save_interval=3, keep_checkpoints=2)
    assert [step.step for step in _steps(run)] == [4, 8, 11]
    assert [event.step for event in run.history() if isinstance(event, Evaluated)] == [5, 10, 11]
    saved = [event.step for event in run.history() if isinstance(event, CheckpointSaved)]
    assert {3, 6, 9, 11} <= set(saved) <= {3, 5, 6, 9, 10, 11}
    assert len(saved) == len(set(saved))
    values = {e.step: e.metrics["val_loss"] for e in run.history() if isinstance(e, Evaluated)}
    best = min(values, key=lambda step: values[step])
    assert run.select("best") == run.checkpoint(best)
    assert run.checkpoint_steps() == sorted({best, *sorted(saved)[-2:]})


def test_the_best_is_kept_when_it_is_old(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([3.0, 1.0, float("nan"), 2.0, 2.5])
    monkeypatch.setattr(Supervised, "evaluate", lambda self: Evaluation({"val_loss": next(values)}))
    run = world.trained("sft", max_steps=10, eval_interval=2, save_interval=1, keep_checkpoints=1)
    assert run.checkpoint_steps() == [4, 10]
    assert run.select("best") == run.checkpoint(4)


def test_learning_rate_and_epochs(world: World) -> None:
    run = world.trained("sft", max_steps=0, epochs=2, batch_size=7, warmup_steps=3)
    steps = _steps(run)
    assert len(steps) % 2 == 0 and steps[-1].epoch == 2.0 and steps[len(steps) // 2 - 1].epoch == 1.0
    rates = [step.metrics["learning_rate"] for step in steps]
    assert rates[0] == pytest.approx(1e-3) and rates[2] == pytest.approx(3e-3) and rates[-1] == pytest.approx(3e-4)
    half = steps[len(steps) // 2 - 1].tokens
    assert steps[-1].tokens == 2 * half  # every epoch reads everything once


def test_control_while_it_runs(world: World) -> None:
    """Commands are obeyed at the next boundary; what they ask for changes nothing of what is learnt."""
    quiet = world.trained("sft", "quiet", max_steps=12)
    run = world.begun("sft", "told", max_steps=12)

    def tell() -> None:
        send(run, "save")
        send(run, "evaluate")
        send(run, "set_log_interval", 5)
        send(run, "pause")
        threading.Timer(0.3, lambda: send(run, "continue")).start()

    carry_out(run, listener=_when(3, tell))
    assert [e.command for e in run.history() if isinstance(e, ControlAcknowledged)] == [
        "save", "evaluate", "set_log_interval", "pause", "continue",
    ]  # fmt: skip
    assert [step.step for step in _steps(run)] == [1, 2, 3, 5, 10, 12]
    assert [e.step for e in run.history() if isinstance(e, Evaluated)] == [3, 12]
    assert 3 in [e.step for e in run.history() if isinstance(e, CheckpointSaved)]
    assert same_bits(tensors(run), tensors(quiet))
    # the pause of 0.3 s does not count: 5 steps never take that long here, but the pause would
    assert losses(quiet)[-1] == losses(run)[-1]


@pytest.mark.parametrize("how", ["stop_now", "interrupt"])
def test_a_long_step_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Between two micro-batches: the step is dropped, the boundary saved, and a resume makes the step anew."""
    settings: dict[str, Any] = {"batch_size": 1, "accumulation_steps": 8, "max_steps": 5, "dropout": 0.1}
    whole = world.trained("sft", "whole", **settings)
    run, interrupt, calls = world.begun("sft", "cut", **settings), threading.Event(), []
    real = Supervised.loss

    def loss(self: Supervised, batch: Any) -> dict[str, Term]:
        calls.append(1)
        if len(calls) == 2 * 8 + 3:
            interrupt.set() if how == "interrupt" else send(run, "stop_now")
        return real(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Supervised, "loss", loss)
        if how == "interrupt":
            with pytest.raises(Interrupted, match="step 2"):
                carry_out(run, interrupt=interrupt)
        else:
            assert carry_out(run)["status"] == "stopped"
    assert len(calls) == 2 * 8 + 3 and run.checkpoint_steps() == [2]
    acknowledged = [event.command for event in run.history() if isinstance(event, ControlAcknowledged)]
    assert acknowledged == ([] if how == "interrupt" else ["stop_now"])
    carry_out(run, resume=True)
    assert same_bits(tensors(run), tensors(whole))


class _TwoPasses(Supervised):
    """Two optimizer steps on what a round collects, as reinforcement learning makes them on its rollouts."""

    steps_per_round = 2
    best_metric = "tokens_per_second"  # any metric of which more is better
    seen = 0

    def collect(self, round: int) -> list[list[Any]]:
        self.model.eval()  # rollouts are made without dropout
        return super().collect(round) * 2

    def loss(self, batch: Any) -> dict[str, Term]:
        assert self.model.training
        losses = super().loss(batch)
        return {**losses, "extra": Term(losses["loss"].sum.detach() * 2, 0.0)}

    def measure(self, batch: Any) -> Any:
        measures = super().measure(batch)
        measures.counts["extra"] = measures.counts["loss"]
        return measures

    def evaluate(self) -> Evaluation:
        self.seen += 1
        return Evaluation({"tokens_per_second": float(self.seen)})

    def state(self) -> dict[str, Any]:
        return super().state() | {"seen": self.seen}

    def load_state(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]


def test_rounds_of_several_steps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round is given up before its first step has changed the weights, or made to its end: that is the boundary."""
    monkeypatch.setattr(carry, "implementation", lambda stage: _TwoPasses)
    settings: dict[str, Any] = {"max_steps": 6, "eval_interval": 3, "save_interval": 5, "keep_checkpoints": 9}
    whole = world.trained("sft", "whole", **settings)
    steps = _steps(whole)
    assert [step.step for step in steps] == list(range(1, 13))
    assert all(step.metrics["extra"] == pytest.approx(2 * step.metrics["loss"]) for step in steps)
    evaluated = [event.step for event in whole.history() if isinstance(event, Evaluated)]
    assert evaluated == [4, 6, 10, 12]  # the ends of the rounds in which 3, 6, 9 and 12 lie
    assert whole.best_step() == 12
    assert whole.checkpoint_steps() == [4, 6, 10, 12]
    run, interrupt = world.begun("sft", "cut", **settings), threading.Event()
    with pytest.raises(Interrupted):
        carry_out(run, interrupt=interrupt, listener=_when(7, interrupt.set))
    assert run.checkpoint_steps()[-1] == 8
    carry_out(run, resume=True)
    assert same_bits(tensors(run), tensors(whole))
    assert list(told(run.history())) == list(told(whole.history()))


def _poison(monkeypatch: pytest.MonkeyPatch, steps: set[int], what: str) -> None:
    """Makes the loss or the gradient of some steps infinite, in their second micro-batch."""
    real = Updater._backward

    def backward(self: Updater, step: int, index: int, *rest: Any) -> dict[str, torch.Tensor]:
        found = real(self, step, index, *rest)
        if step + 1 in steps and index == 1:
            if what == "loss":
                found[""] = found[""] * float("inf")
            else:
                gradient = self.named[0][1].grad
                assert gradient is not None
                gradient.fill_(float("nan"))
        return found

    monkeypatch.setattr(Updater, "_backward", backward)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_non_finite_step_is_left_out(world: World, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    settings: dict[str, Any] = {"accumulation_steps": 3, "batch_size": 2, "max_steps": 4, "packing": False}
    _poison(monkeypatch, {3}, what)
    run = world.begun("sft", keep_checkpoints=9, save_interval=1, **settings)
    assert carry_out(run)["skipped_steps"] == 1
    [event] = [event for event in run.history() if isinstance(event, NonFiniteStep)]
    # a bad loss names the two rows of its micro-batch; a bad gradient could be any row of the step
    assert (event.step, event.what, len(event.rows)) == (3, what, 2 if what == "loss" else 6)
    assert 3 not in run.checkpoint_steps()
    assert _steps(run)[3].metrics["loss"] > 0
    state = json.loads((run.checkpoint(4) / "state.json").read_text())["loop"]
    assert (state["step"], state["skipped"], state["non_finite"]) == (4, 1, 0)


@pytest.mark.parametrize("packing", [False, True])
def test_a_bad_row_is_named_alone(world: World, monkeypatch: pytest.MonkeyPatch, packing: bool) -> None:
    """One row in a micro-batch of several has an infinite loss, every time it is computed."""
    real, bad = Supervised.loss, 7

    def loss(self: Supervised, batch: Any) -> dict[str, Term]:
        terms = real(self, batch)
        return {"loss": Term(terms["loss"].sum * float("inf"))} if bad in batch.rows else terms

    monkeypatch.setattr(Supervised, "loss", loss)
    run = world.begun("sft", max_steps=0, batch_size=4, accumulation_steps=3, packing=packing, dropout=0.1)
    carry_out(run)
    assert [event.rows for event in run.history() if isinstance(event, NonFiniteStep)] == [[bad]]


def test_too_many_in_a_row_end_the_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _poison(monkeypatch, {2, 4, 5, 6}, "loss")
    run = world.begun("sft", accumulation_steps=2, max_non_finite=3, save_interval=1, keep_checkpoints=1)
    with pytest.raises(EngineError, match=r"rows \d(.|\n)*3 steps in a row(.|\n)*learning_rate(.|\n)*sft@3") as caught:
        carry_out(run)
    assert caught.value.exit_code == 1
    assert run.checkpoint_steps() == [3] and run.state() == "failed"


def test_a_huge_learning_rate_is_diagnosed_and_displaces_no_good_checkpoint(world: World) -> None:
    run = world.begun("sft", learning_rate=10, weight_decay=10.0, warmup_steps=0, grad_clip=0, max_steps=4000,
                      lr_schedule="constant", save_interval=1, keep_checkpoints=1, hidden_size=16)  # fmt: skip
    with pytest.raises(EngineError, match="steps in a row had a non-finite"):
        carry_out(run)
    assert all(bool(torch.isfinite(tensor).all()) for name, tensor in tensors(run).items() if "model" in name)


def test_speed_leaves_out_pauses_and_evaluations(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    import engine.training.state as state

    now = [0.0]
    monkeypatch.setattr(state.time, "perf_counter", lambda: now[0])
    watch = state.Stopwatch()
    now[0] = 2.0
    with watch.stopped():
        now[0] = 10.0
    now[0] = 11.0
    assert watch.lap() == 3.0
    now[0] = 12.0
    assert watch.lap() == 1.0
    window = state.Window(tokens=30, trained=10, slots=40, flops=80.0, seconds=2.0)
    assert window.metrics(160.0) == {
        "tokens_per_second": 15.0,
        "trained_share": 1 / 3,
        "padding_share": 0.25,
        "mfu": 0.25,
    }
