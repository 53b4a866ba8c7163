import json
import threading

import pytest

from engine.errors import CheckpointError, UserError
from engine.runs.folder import RunFolder, create_run, find_run, free_name, list_runs


def _run(name: str, best: int | None = None, steps: tuple[int, ...] = ()) -> RunFolder:
    run = create_run(name)
    run.resolved.write_text("{}")
    for step in steps:
        run.checkpoint(step).mkdir()
        (run.checkpoint(step) / "manifest.json").write_text(json.dumps({"step": step, "best_step": best}))
    return run


def test_checkpoints_by_name() -> None:
    run = _run("named", best=10, steps=(10, 20))
    assert run.select("best") == run.checkpoint(10)
    assert run.select("newest") == run.select("") == run.select("20") == run.checkpoint(20)
    assert _run("none-best", steps=(5,)).select("best").name == "step-00000005"
    assert _run("zero", best=0, steps=(0, 5)).select("best").name == "step-00000000"
    for which in ("30", "newer", "-1"):
        with pytest.raises(CheckpointError):
            run.select(which)
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        _run("empty").select("best")


def test_one_writer_at_a_time() -> None:
    run = _run("locked")
    assert not run.is_running()
    with run.lock():
        assert run.is_running() and run.state() == "running"
        with pytest.raises(UserError, match="is being run already \\(by process"), run.lock():
            pass
    with run.lock():
        pass
    assert run.state() == "interrupted"


def test_looking_does_not_keep_a_run_from_starting() -> None:
    run, stop = _run("watched"), threading.Event()

    def look() -> None:
        while not stop.is_set():
            run.is_running()

    watchers = [threading.Thread(target=look) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(200):
            with run.lock():
                pass
    finally:
        stop.set()
        for watcher in watchers:
            watcher.join()


def test_names() -> None:
    run = _run("mine")
    assert free_name("mine") == "mine-2" and free_name("a/b c") == "a-b-c" and free_name("../..") == "run"
    assert find_run("mine").path == run.path == find_run(str(run.path)).path
    assert [each.name for each in list_runs()] == ["mine"]
    with pytest.raises(UserError, match="exists already"):
        create_run("mine")
    for name in ("../x", "", "/abs", "a b", "a\0b", ".hidden", "x" * 101):
        with pytest.raises(UserError):
            create_run(name)
    with pytest.raises(CheckpointError, match="mien"):
        find_run("mien")
    with run.lock(), pytest.raises(UserError, match="is running"):
        create_run("mine", overwrite=True)
    assert not create_run("mine", overwrite=True).resolved.exists()
