from engine.runs.events import (
    CheckpointSaved,
    ControlAcknowledged,
    Evaluated,
    Finished,
    NonFiniteStep,
    Progress,
    Resumed,
    RunStarted,
    Sampled,
    Step,
    Warned,
)
from minimind_tui.core.history import ERROR, WARNING, RunHistory

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
