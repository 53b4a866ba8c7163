from engine.runs.events import (
    Adjusted,
    CheckpointSaved,
    ControlAcknowledged,
    Evaluated,
    Finished,
    MemoryPlanned,
    NonFiniteStep,
    Progress,
    RanOutOfMemory,
    Resumed,
    RunStarted,
    Sampled,
    Step,
    Warned,
)
from minimind_tui.core.history import ERROR, WARNING, RunHistory
from tests.tui.made import plan_json

_STARTED = RunStarted(
    time=100, stage="sft", total_steps=40, parameters=2_066_368, trainable_parameters=1, device="cpu", dtype="float32",
    threads=2,
)  # fmt: skip


def _step(step: int, loss: float, time: float) -> Step:
    return Step(time=time, step=step, epoch=step / 10, tokens=step * 100, metrics={"loss": loss, "reward": step})


def _running() -> RunHistory:
    history = RunHistory()
    history.feed([Progress(time=95, what="encoding the data", done=0.5), _STARTED])
    history.feed([_step(step, 5 - step / 10, 100 + step) for step in range(1, 11)])
    return history


def test_progress_before_the_first_step() -> None:
    history = RunHistory()
    history.feed([Progress(time=1, what="encoding the data", done=0.25)])
    assert (history.status, history.preparing, history.fraction) == ("preparing", "encoding the data", 0.25)


def test_steps_become_curves_and_an_estimate() -> None:
    history = _running()
    assert (history.status, history.step, history.fraction) == ("running", 10, 0.25)
    assert history.value("loss") == 4.0
    assert history.elapsed(now=110) == 15
    assert history.elapsed(now=9_999, alive=False) == 15
    assert history.seconds_left() == 30


def test_metrics_come_from_the_registry_and_then_from_the_events() -> None:
    history = _running()
    history.feed([Evaluated(time=111, step=10, metrics={"val_loss": 4.2})])
    assert [metric.name for metric in history.metrics()] == ["loss", "val_loss", "reward"]
    assert history.metrics()[1].title == "validation loss"
    assert "validation loss 4.2" in history.log[-1].text


def test_pause_continue_and_end() -> None:
    history = _running()
    history.feed([ControlAcknowledged(time=111, id="a", command="pause", step=10)])
    assert history.status == "paused"
    history.feed([ControlAcknowledged(time=120, id="b", command="continue", step=10)])
    assert (history.status, history.seconds_left()) == ("running", None)
    history.feed([Finished(time=125, status="stopped", step=12, exit_code=130)])
    assert (history.status, history.over, history.step) == ("stopped", True, 12)
    assert history.elapsed(now=9_999) == 30


def test_a_resume_takes_back_later_steps_and_the_pause_between() -> None:
    history = _running()
    history.feed([Sampled(time=111, step=10, prompt="p", text="t", stop_reason="stop"),
                  Finished(time=115, status="stopped", step=10)])  # fmt: skip
    history.feed([Progress(time=1_000, what="encoding the data", done=0.0), Resumed(time=1_001, from_step=4), _STARTED])
    assert (history.status, history.over, history.step, history.samples) == ("running", False, 4, [])
    assert list(history.curves["loss"].steps) == [1, 2, 3, 4]
    assert history.elapsed(now=1_005) == 20 + 5


def test_troubles_stand_in_the_log_and_nothing_steers_the_terminal() -> None:
    history = _running()
    history.feed([
        NonFiniteStep(time=111, step=10, what="loss", rows=[3]),
        Warned(time=112, name="slow", message="\x1b[2Jgone"),
        CheckpointSaved(time=113, step=10, path="x", best=True, seconds=0.1),
    ])  # fmt: skip
    assert [line.level for line in history.log[-3:-1]] == [ERROR, WARNING]
    assert "\x1b" not in history.log[-2].text
    assert history.log[-1].text == "step 10: checkpoint saved, the best so far"


def test_warnings_are_counted_by_name_and_stay_until_they_are_seen() -> None:
    history = _running()
    history.feed([
        Warned(time=111, name="loss_not_falling", message="flat", step=10),
        NonFiniteStep(time=112, step=11, what="loss", rows=[3]),
        Warned(time=113, name="loss_not_falling", message="still flat", step=12),
    ])  # fmt: skip
    assert [(alert.name, alert.count) for alert in history.unseen.values()] == [
        ("non_finite_step", 1), ("loss_not_falling", 2)]  # fmt: skip
    assert history.unseen["loss_not_falling"].message == "still flat"
    history.mark_seen()
    assert not history.unseen and history.alerts["loss_not_falling"].count == 2
    history.feed([Warned(time=114, name="loss_not_falling", message="flat again", step=13)])
    assert [alert.count for alert in history.unseen.values()] == [3]


def test_a_resume_forgets_checkpoints_that_came_later() -> None:
    history = _running()
    history.feed([CheckpointSaved(time=111, step=step, path="x", best=step == 4, seconds=0.1) for step in (4, 8)])
    assert history.saved_step == 8
    history.feed([Resumed(time=120, from_step=4)])
    assert [saved.step for saved in history.saved] == [4]


def test_leading_metrics_are_those_that_validation_measures() -> None:
    history = _running()
    assert [metric.name for metric in history.leading()] == ["loss"]
    history.feed([Step(time=130, step=11, epoch=1, tokens=1, metrics={"tokens_per_second": 5.0, "grad_norm": 1.0}),
                  Evaluated(time=131, step=11, metrics={"val_loss": 4.2, "val_perplexity": 60.0})])  # fmt: skip
    assert [metric.name for metric in history.leading()] == ["loss", "val_loss", "val_perplexity"]


def test_what_the_registry_does_not_list_stands_with_its_kin() -> None:
    history = RunHistory()
    history.feed([RunStarted(time=1, stage="grpo", total_steps=1, parameters=1, trainable_parameters=1, device="cpu",
                             dtype="float32", threads=1)])  # fmt: skip
    metrics = dict.fromkeys(("loss_scale", "reward_answer", "expert_load_1", "val_entropy", "entropy", "loss",
                             "expert_load_max", "reward_std", "reward", "odd"), 1.0)  # fmt: skip
    history.feed([Step(time=2, step=1, epoch=1, tokens=1, metrics=metrics)])
    assert [metric.name for metric in history.metrics()] == [
        "reward", "reward_answer", "loss", "loss_scale", "entropy", "reward_std", "expert_load_max", "expert_load_1",
        "val_entropy", "odd"]  # fmt: skip
    found = {metric.name: metric for metric in history.metrics()}
    assert found["reward_answer"].title == "reward answer" and found["expert_load_1"].title == "expert load 1"
    held_out = found["val_entropy"]
    assert (held_out.title, held_out.unit) == ("validation entropy", "nats a token")


def test_memory_is_planned_runs_out_and_is_adjusted() -> None:
    history = RunHistory()
    history.feed([MemoryPlanned(time=99, plan=plan_json(), measured_bytes=1), _STARTED])
    assert history.plan is not None and history.log[0].text == "memory: 1.1 to 1.6 GiB of 1.0 GiB expected"
    for step in range(1, 6):
        metrics = {"loss": 1.0, "memory_bytes": 2.0**30}
        history.feed([Step(time=100 + step, step=step, epoch=0, tokens=0, metrics=metrics)])
    assert [*history.planned.steps] == [1, 2, 3, 4, 5] and set(history.planned.values) == {1_600 << 20}
    event = RanOutOfMemory(
        time=106, step=5, phase="training", what="no \x1b[31mmemory", device="cpu", wanted_bytes=1, limit_bytes=1,
        plan={},
    )  # fmt: skip
    history.feed([event, Finished(time=107, status="failed", step=5, error="use the command line", exit_code=3)])
    assert history.ran_out == event and history.status == "failed"
    assert [line.text for line in history.log[-2:]] == [
        "step 5: out of memory in training: no ␛[31mmemory", "failed at step 5"]  # fmt: skip
    history.feed([Adjusted(time=108, step=5, changes={"batch_size": 2, "packing": True}, reason="adjusted after OOM")])
    assert history.ran_out is None and history.log[-1].text == "adjusted after OOM: batch_size=2 packing=true"
    history.feed([event, Resumed(time=109, from_step=3)])
    assert history.ran_out is None and [*history.planned.steps] == [1, 2, 3]
    damaged = RunHistory()
    damaged.feed([MemoryPlanned(time=99, plan={}), _STARTED, _step(1, 1.0, 101)])
    assert damaged.plan is None and not len(damaged.planned)
