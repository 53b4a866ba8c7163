"""`engine runs delete`, as scripts and people use it."""

import json
import sys
from collections.abc import Callable

import pytest

from engine.cli import main
from engine.runs.folder import RunFolder, create_run, list_runs

Engine = Callable[..., tuple[str, str]]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Engine:
    """Runs `engine …` in this process, without a terminal; standard output and standard error."""

    def run(*arguments: str, code: int = 0) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["engine", *arguments])
        try:
            main()
            status: object = 0
        except SystemExit as end:
            status = end.code or 0
        out, err = capsys.readouterr()
        assert status == code, f"exit {status}, not {code}\n{out}\n{err}"
        return out, err

    return run


def _run(name: str, start: str = "") -> RunFolder:
    run = create_run(name)
    run.resolved.write_text(json.dumps({"stage": "sft", "settings": {"from": {"value": start}}}))
    run.checkpoint(3).mkdir()
    (run.checkpoint(3) / "model.safetensors").write_bytes(bytes(2048))
    return run


def test_runs_are_deleted_and_what_was_started_from_them_is_named(engine: Engine) -> None:
    base, child = _run("base"), _run("child", str(create_run("other").checkpoint(1)))
    child.resolved.write_text(json.dumps({"settings": {"from": {"value": str(base.checkpoint(3))}}}))
    out, err = engine("runs", "delete", "base", "base", "--yes", "--json")
    [gone] = json.loads(out)["deleted"]
    assert (gone["run"], gone["checkpoints"], gone["started_from_it"]) == ("base", [3], ["child"])
    assert gone["bytes"] > 2048 and "child" in err
    assert list_runs() == [child]


def test_without_a_terminal_yes_is_needed(engine: Engine) -> None:
    _run("base")
    _, err = engine("runs", "delete", "base", code=2)
    assert "--yes" in err and len(list_runs()) == 1


@pytest.mark.parametrize(("answer", "left"), [("y\n", 0), ("n\n", 1), ("\n", 1)])
def test_on_a_terminal_it_asks(engine: Engine, monkeypatch: pytest.MonkeyPatch, answer: str, left: int) -> None:
    _run("base")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: answer.strip())
    out, err = engine("runs", "delete", "base", "--json")
    assert len(list_runs()) == left == 1 - len(json.loads(out)["deleted"])
    assert "Delete 1 run for good?" in err or left == 0 or "nothing was deleted" in err


def test_a_running_or_unknown_run_keeps_all_of_them(engine: Engine) -> None:
    running = _run("live")
    _run("base")
    with running.lock():
        _, err = engine("runs", "delete", "base", "live", "--yes", code=2)
    assert "live: still running" in err
    _, err = engine("runs", "delete", "base", "bse", "--yes", code=2)
    assert "no run 'bse'" in err and len(list_runs()) == 2
