import shutil
from pathlib import Path

import pytest

from engine.errors import EngineError, UserError
from engine.runs.delete import delete_run, disk_use
from engine.runs.folder import RunFolder, create_run, list_runs


def _run(name: str) -> RunFolder:
    run = create_run(name)
    run.resolved.write_text("{}")
    run.checkpoint(5).mkdir()
    (run.checkpoint(5) / "model.safetensors").write_bytes(bytes(1000))
    return run


def test_what_a_run_takes_on_disk() -> None:
    run = _run("one")
    assert disk_use(run) == 1002
    (run.path / "link").symlink_to(run.checkpoint(5), target_is_directory=True)
    assert disk_use(run) == 1002, "what a folder's link leads to does not count"
    shutil.rmtree(run.path)
    assert disk_use(run) == 0


def test_a_run_is_deleted_wholly() -> None:
    run, other = _run("one"), _run("two")
    delete_run(run)
    assert list_runs() == [other]
    assert [path.name for path in run.path.parent.iterdir()] == ["two"]


def test_a_running_one_is_refused_and_stays_as_it_is() -> None:
    run = _run("one")
    with run.lock(), pytest.raises(UserError, match="is being run already"):
        delete_run(run)
    assert list_runs() == [run] and disk_use(run) > 1000


def test_a_link_is_refused(tmp_path: Path) -> None:
    run = _run("one")
    moved = tmp_path / "elsewhere"
    run.path.rename(moved)
    run.path.symlink_to(moved, target_is_directory=True)
    with pytest.raises(UserError, match="is a link") as refused:
        delete_run(run)
    assert str(moved) in refused.value.hint and (moved / "resolved.json").exists()


def test_what_cannot_be_removed_is_off_the_list_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    run, other = _run("one"), _run("two")

    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", refuse)
        with pytest.raises(EngineError, match="Permission denied") as failed:
            delete_run(run)
    left = Path(failed.value.where)
    assert list_runs() == [other] and (left / "resolved.json").exists()
    delete_run(other)
    assert not left.exists(), "the next deletion sweeps what is left of this one"


def test_a_run_that_is_gone_already() -> None:
    run = _run("one")
    delete_run(run)
    with pytest.raises(EngineError, match="cannot be deleted"):
        delete_run(run)
