import json
from pathlib import Path

from engine.runs.events import Evaluated, Finished, RunStarted, Step
from engine.runs.folder import EventWriter, RunFolder, create_run
from engine.settings.registry import STAGES
from minimind_tui.core.library import Library, ladder, next_stage


def _run(name: str, stage: str, status: str) -> RunFolder:
    run = create_run(name)
    run.resolved.write_text(json.dumps({"stage": stage, "profile": f"tiny/{stage}"}))
    writer = EventWriter(run)
    writer(RunStarted(stage=stage, total_steps=20, parameters=1, trainable_parameters=1, device="cpu", dtype="float32",
                      threads=1))  # fmt: skip
    writer(Step(step=10, epoch=0.5, tokens=10, metrics={"loss": 2.0}))
    writer(Evaluated(step=10, metrics={"val_loss": 3.0}))
    writer(Evaluated(step=12, metrics={"val_loss": 3.5}))
    if status:
        writer(Finished(status=status, step=12))
    writer.close()
    return run


def test_a_run_at_a_glance(home: Path) -> None:
    _run("one", "pretrain", "stopped")
    (summary,) = Library().runs()
    assert (summary.name, summary.stage, summary.state) == ("one", "pretrain", "stopped")
    assert (summary.step, summary.total, summary.best) == (12, 20, 3.0)
    assert summary.metric is not None and summary.metric.name == "val_loss"
    assert summary.can_resume


def test_a_run_that_ended_without_a_word_and_one_that_runs(home: Path) -> None:
    run = _run("one", "pretrain", "")
    library = Library()
    assert library.runs()[0].state == "interrupted"
    with run.lock():
        assert library.runs()[0].state == "running"


def test_a_damaged_run_is_left_out(home: Path) -> None:
    _run("one", "pretrain", "done")
    _run("two", "sft", "done").resolved.write_text("{")
    assert [summary.name for summary in Library().runs()] == ["one"]


def test_the_ladder_says_what_comes_next(home: Path) -> None:
    library = Library()
    _run("one", "tokenizer", "done")
    advice = {rung.stage.name: rung.advice for rung in ladder(library.runs())}
    assert (advice["tokenizer"], advice["pretrain"]) == ("", "next")
    assert advice["sft"].startswith("after ")
    _run("two", "pretrain", "done")
    rungs = {rung.stage.name: rung for rung in ladder(library.runs())}
    assert rungs["sft"].advice == "next"
    assert rungs["mid-train"].advice == "possible"
    assert rungs["pretrain"].newest is not None and rungs["pretrain"].newest.name == "two"


def test_next_stage_comes_to_an_end() -> None:
    assert next_stage(STAGES) is None
