"""engine chat with adapters of its model."""

import sys
from pathlib import Path

import pytest

from engine.cli import chat as module
from engine.cli import main
from tests.training.tiny import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A model and two adapters of it that say something else."""
    monkeypatch.setenv("MINIMIND_HOME", str(tmp_path))
    made = World.make(tmp_path)
    made.trained("lora", "one", learning_rate=0.5)
    made.trained("lora", "two", learning_rate=0.5, seed=7)
    return made


def _talk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lines: list[str], *arguments: str
) -> tuple[int, str, str]:
    """Exit code, what the model said, and what was said about it."""
    typed = iter(lines)
    monkeypatch.setattr(module, "_ask", lambda: next(typed, ""))
    monkeypatch.setattr(sys, "argv", ["engine", "chat", *arguments, "--temperature", "1", "--max-new-tokens", "8"])
    with pytest.raises(SystemExit) as end:
        main()
        raise SystemExit(0)
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_adapters_are_changed_within_a_talk(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hi = "0: who gives what?"
    said = {name: _talk(monkeypatch, capsys, [hi], name)[1] for name in ("start", "one", "two")}
    assert len(set(said.values())) == 3
    lines = [hi, "/new", "/adapter two", hi, "/new", "/adapter none", hi, "/new", "/adapter", "/adapter start",
             "/adapter nobody", hi]  # fmt: skip
    code, out, err = _talk(monkeypatch, capsys, lines, "start", "--adapter", "one", "--adapter", "two")
    assert code == 0 and out == said["one"] + said["two"] + said["start"] * 2
    assert "in use: none; /adapter one | two | none" in err
    assert "start is a whole model, no adapter" in err and "there is no run 'nobody'" in err


def test_an_adapter_of_another_model_is_refused_before_a_word(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.trained("sft", "other", seed=9)
    code, out, err = _talk(monkeypatch, capsys, ["hi"], "other", "--adapter", "one")
    assert code == 2 and not out and "belongs to another base" in err
