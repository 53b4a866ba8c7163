import json

import pytest

from engine.errors import CheckpointError
from engine.runs.events import CheckpointSaved, Evaluated, Event, Finished, Resumed, RunStarted, Step
from engine.runs.folder import RunFolder, create_run
from engine.runs.history import EventWriter
from engine.runs.summary import Digest, summarise


def _run(name: str, *events: Event, stage: str = "pretrain") -> RunFolder:
    run = create_run(name)
    settings = {"data": {"value": "/d/a.jsonl", "origin": "user"}, "seed": {"value": 7, "origin": "default"}}
    run.resolved.write_text(json.dumps({"stage": stage, "profile": "p", "settings": settings}))
    _say(run, *events)
    return run


def _say(run: RunFolder, *events: Event) -> None:
    writer = EventWriter(run)
    for event in events:
        writer(event)
    writer.close()


def _started(total: int = 20) -> RunStarted:
    return RunStarted(
        time=1.0, stage="pretrain", total_steps=total, parameters=1, trainable_parameters=1, device="cpu",
        dtype="float32", threads=1,
    )  # fmt: skip


def _step(step: int, loss: float = 2.0) -> Step:
    return Step(time=10.0 + step, step=step, epoch=0.5, tokens=step * 100, metrics={"loss": loss})


def _validated(step: int, loss: float) -> Evaluated:
    return Evaluated(time=10.5 + step, step=step, metrics={"val_loss": loss})


def _saved(step: int) -> CheckpointSaved:
    return CheckpointSaved(time=10.6 + step, step=step, path="", best=True, seconds=0.0)


def test_a_run_at_a_glance() -> None:
    run = _run("one", _started(), _step(5), _validated(5, 3.0), _step(10, 1.5), _validated(10, 3.5),
               Finished(time=99.0, status="failed", step=10, error="why"))  # fmt: skip
    for step in (5, 10):
        run.checkpoint(step).mkdir()
    (run.checkpoint(10) / "manifest.json").write_text('{"best_step": 5}')
    found = summarise(run)
    assert (found.name, found.stage, found.profile, found.state, found.error) == (
        "one",
        "pretrain",
        "p",
        "failed",
        "why",
    )
    assert (found.step, found.total, found.tokens) == (10, 20, 1000)
    assert found.metric is not None and (found.metric.name, found.best) == ("val_loss", 3.0)
    assert found.metrics == {"loss": 1.5, "val_loss": 3.5}
    assert (found.checkpoints, found.best_step) == ((5, 10), 5)
    assert (found.began, found.said) == (1.0, 99.0)
    assert found.can_resume and found.place("data") == "/d/a.jsonl" and found.place("from") == found.place("seed") == ""


def test_what_a_resume_took_back_does_not_count() -> None:
    run = _run("one", _started(), _step(5), _validated(5, 3.0), _saved(5), _step(6), _validated(6, 0.1),
               Finished(status="failed", step=6))  # fmt: skip
    digest = Digest(run)
    assert (digest.read().best, digest.read().state) == (0.1, "failed")
    _say(run, Resumed(from_step=5))
    now = digest.read()
    assert (now.best, now.step, now.state, now.error) == (3.0, 5, "interrupted", "")
    assert now == summarise(run)


def test_what_comes_is_read_on_top_of_what_is_known() -> None:
    run = _run("one", _started(), _step(1), _step(2))
    digest = Digest(run)
    assert (digest.read().step, digest.read().metrics) == (2, {"loss": 2.0})
    assert digest.read() is digest.read(), "nothing new: nothing is read or made"
    _say(run, _step(3, 1.0), _validated(3, 4.0), _step(4, 0.5))
    now = digest.read()
    assert now == summarise(run) and (now.step, now.best, now.metrics["loss"]) == (4, 4.0, 0.5)


def test_a_run_that_another_replaced_is_read_anew() -> None:
    run = _run("one", _started(), _step(9), Finished(status="done", step=9))
    digest = Digest(run)
    assert digest.read().state == "done"
    create_run("one", overwrite=True)
    run.resolved.write_text(json.dumps({"stage": "sft", "profile": "q"}))
    _say(run, _started(), _step(1))
    assert (digest.read().stage, digest.read().step, digest.read().state) == ("sft", 1, "interrupted")


def test_the_lock_decides_while_there_is_no_end() -> None:
    run = _run("one", _started(), _step(1))
    digest = Digest(run)
    assert digest.read().state == "interrupted"
    with run.lock():
        assert digest.read().state == "running" and not digest.read().can_resume
    assert digest.read().state == "interrupted"


def test_a_stage_without_steps_tells_its_metrics_at_the_end() -> None:
    found = summarise(_run("t", _started(1), Finished(status="done", step=1, summary={"characters_per_token": 3.5}),
                           stage="tokenizer"))  # fmt: skip
    assert found.metric is not None and (found.metric.name, found.best) == ("characters_per_token", 3.5)
    assert found.metrics == {"characters_per_token": 3.5}


def test_without_a_validation_the_newest_value_leads() -> None:
    found = summarise(_run("one", _step(1, 1.0), _step(2, 5.0)))
    assert found.metric is not None and (found.metric.name, found.best) == ("loss", 5.0)
    assert summarise(_run("two", _step(1, float("nan")))).best is None
    empty = summarise(_run("three"))
    assert (empty.step, empty.total, empty.metric, empty.state) == (0, 0, None, "interrupted")


def test_a_damaged_run_is_refused() -> None:
    run = _run("one")
    run.resolved.write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        summarise(run)
