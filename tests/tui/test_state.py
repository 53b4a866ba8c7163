"""What the app remembers, and whether the last start ended in order."""

import os
import time
from pathlib import Path

import psutil
import pytest

from engine.runs.events import CheckpointSaved, Finished, RunStarted, Step
from engine.runs.folder import RunFolder, create_run
from engine.runs.history import EventWriter
from minimind_tui.core.crash import crash_of, left_behind, note_carried, oom_kills
from minimind_tui.state import State, state_folder


def test_state_survives_a_restart(home) -> None:
    state = State()
    state.keep("app.screen", "chat")
    state.keep("data.row", 3)
    state.save()
    again = State.load()
    assert again.get("app.screen", "home") == "chat" and again.get("data.row", 0) == 3
    assert again.get("data.row", "a text") == "a text", "a value of another type is not taken"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"app.screen": 3}'])
def test_an_unreadable_state_is_the_default(home, text: str) -> None:
    state_folder().mkdir()
    (state_folder() / "tui.json").write_text(text)
    assert State.load().get("app.screen", "home") == "home"


def _run(*, finished: bool = False) -> RunFolder:
    """A run's folder as a killed process leaves it."""
    run = create_run("left")
    run.resolved.write_text('{"stage": "sft"}')
    write = EventWriter(run)
    write(RunStarted(stage="sft", total_steps=9, parameters=1, trainable_parameters=1, device="cpu", dtype="float32",
                     threads=1))  # fmt: skip
    write(Step(step=7, epoch=0.1, tokens=7, metrics={"loss": 1.0}))
    write(CheckpointSaved(step=5, path="x", best=False, seconds=0.1))
    if finished:
        write(Finished(status="stopped", step=7))
    write.close()
    run.checkpoint(5).mkdir()
    return run


def test_a_run_that_was_left_behind_is_found_with_what_is_saved() -> None:
    run = _run()
    crash = crash_of(str(run.path))
    assert crash is not None and crash.run == run and crash.step == 5
    assert "last word" in crash.hints[0]


def test_a_run_that_ended_in_order_goes_on_or_is_gone_is_no_crash() -> None:
    assert crash_of("") is None and crash_of("/nowhere") is None
    run = _run(finished=True)
    assert crash_of(str(run.path)) is None
    run.events.write_text("")
    assert crash_of(str(run.path)) is not None
    with run.lock():
        assert crash_of(str(run.path)) is None


def test_a_machine_that_was_started_again_is_named() -> None:
    run = _run()
    before = psutil.boot_time() - 3600
    os.utime(run.events, (before, before))
    crash = crash_of(str(run.path))
    assert crash is not None and "started again" in crash.hints[1]
    assert time.strftime("%Y-%m-%d", time.localtime(before)) in crash.hints[0]


def test_kills_for_lack_of_memory_are_counted_where_the_kernel_says_so(tmp_path) -> None:
    vmstat = tmp_path / "vmstat"
    assert oom_kills(vmstat) == 0
    vmstat.write_text("nr_free_pages 3\noom_kill 2\n")
    assert oom_kills(vmstat) == 2


def test_the_note_of_a_carried_run_is_found_by_the_next_start(home: Path) -> None:
    run = create_run("carried")
    run.resolved.write_text("{}")
    note_carried(run)
    with run.lock():
        assert left_behind() is None, "another app has it"
    crash = left_behind()
    assert crash is not None and crash.run == run
    assert left_behind() is None, "it is asked about once"
    note_carried(run)
    note_carried(None)
    assert left_behind() is None
