"""The program as it is, in a real terminal: tmux. What a user does from the data to a chat, by keyboard alone."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psutil
import pytest

from engine.runs.folder import RunFolder, find_run
from engine.session import TrainRequest, train

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")

_NUMBERS = count()
_BRAILLE = re.compile(r"[⠁-⣿]")
_SFT = """
stage = "sft"
title = "Tiny, for tests"
data = "{data}"
tokenizer = "tiny-tokenizer"
max_seq_len = 64
val_fraction = 0.1
hidden_size = 16
num_hidden_layers = 1
num_attention_heads = 2
num_key_value_heads = 2
intermediate_size = 32
max_position_embeddings = 512
batch_size = 4
max_steps = 100000
warmup_steps = 2
learning_rate = 3e-3
log_interval = 1
eval_interval = 1000
save_interval = 1000
eval_rows = 8
sample_tokens = 8
num_threads = 1
dtype = "float32"
device = "cpu"
"""


class Terminal:
    """A tmux server of its own with one pane."""

    def __init__(self, home: Path) -> None:
        self._home, self._server = home, ""

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._server, "-f", "/dev/null", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout

    def start(self, *arguments: str, size: tuple[int, int] = (80, 24), **environment: str) -> None:
        """Starts the program in place of the one before; what it leaves behind stays to be read."""
        self.close()
        self._server = f"minimind-{os.getpid()}-{next(_NUMBERS)}"
        places = {"MINIMIND_HOME": str(self._home), "PYTHONPATH": os.pathsep.join(sys.path), "LANG": "C.UTF-8"}
        settings = [f"{name}={value}" for name, value in {**places, **environment}.items()]
        program = shlex.join(["env", *settings, sys.executable, "-m", "minimind_tui", *arguments])
        line = f"{program}; echo it ended with $?; exec cat"
        self._tmux("new-session", "-d", "-x", str(size[0]), "-y", str(size[1]), line)

    def press(self, *keys: str) -> None:
        """Presses keys, by tmux's names."""
        for key in keys:
            self._tmux("send-keys", key)

    def type(self, text: str) -> None:
        """Types a text."""
        self._tmux("send-keys", "-l", text)

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def text(self) -> str:
        """What stands on the screen."""
        return self._tmux("capture-pane", "-p")

    def styled(self) -> str:
        """The same with its colours."""
        return self._tmux("capture-pane", "-p", "-e")

    def see(self, pattern: str, seconds: float = 60.0) -> re.Match[str]:
        """Waits until something stands on the screen."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.text())):
            assert time.monotonic() < end, f"{pattern!r} has not come:\n{self.text()}"
            time.sleep(0.1)
        return found

    def close(self) -> None:
        """Ends the server, and with it the program."""
        if self._server:
            subprocess.run(["tmux", "-L", self._server, "kill-server"], capture_output=True, timeout=20)


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal whose home is empty."""
    monkeypatch.setenv("MINIMIND_HOME", str(tmp_path))
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    """A file of conversations, with a tokenizer of it and the profile tiny/sft."""
    file = tmp_path / "sft.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": f"What does {who} do? {number}"},
                      {"role": "assistant", "content": f"{who} is a {what}."}]}
        for number in range(10)
        for who, what in (("Mira", "tailor"), ("Jon", "baker"), ("Ana", "sailor"), ("Leo", "painter"))
    ]  # fmt: skip
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    profiles = tmp_path / "profiles" / "tiny"
    profiles.mkdir(parents=True)
    (profiles / "sft.toml").write_text(_SFT.format(data=file))
    (profiles / "tokenizer.toml").write_text(f'stage = "tokenizer"\nvocab_size = 320\ndata = "{file}"\n')
    return file


def _step(terminal: Terminal) -> int:
    """The step on the Train screen."""
    return int(terminal.see(r"([\d,]+)/100,000 steps")[1].replace(",", ""))


def _wait_past(terminal: Terminal, step: int) -> int:
    end = time.monotonic() + 60
    while (now := _step(terminal)) <= step:
        assert time.monotonic() < end, terminal.text()
        time.sleep(0.1)
    return now


def _dots(terminal: Terminal) -> str:
    """The curves on the screen."""
    return "".join(_BRAILLE.findall(terminal.text()))


@pytest.mark.parametrize(("way", "size"), [("thread", (80, 24)), ("detached", (120, 40))])
def test_from_the_data_to_a_chat(terminal: Terminal, talks: Path, way: str, size: tuple[int, int]) -> None:
    train(TrainRequest("tiny/tokenizer"))

    terminal.start(str(talks), size=size)
    terminal.see("40 conversations")
    terminal.see(r"\d+ of \d+ tokens trained")
    terminal.press("Tab", "g", "l", "l", "l", "l", "l")
    terminal.see(r"not trained: the user[\s\S]*token #5\b[\s\S]*weight 0")
    terminal.press("]")
    terminal.see(r"assistant[\s\S]*weight 1")

    terminal.press("s")
    terminal.see(r"New run[\s\S]*engine train")  # the profiles are read
    terminal.press("End")
    terminal.see("engine train tiny/sft --data")
    terminal.press("C-r")
    _wait_past(terminal, 5)
    terminal.see(r"[⠁-⣿]{3}")
    before, step = _dots(terminal), _step(terminal)
    _wait_past(terminal, step + 20)
    end = time.monotonic() + 60
    while _dots(terminal) == before:  # a fast run needs more steps than these to move a dot
        assert time.monotonic() < end, "the curve moves"
        time.sleep(0.1)

    terminal.press("C-q")
    terminal.see("Stop and save")
    if way == "thread":
        terminal.press("s")
        step = int(terminal.see(r"tiny-sft is saved at step ([\d,]+)")[1].replace(",", ""))
        run = find_run("tiny-sft")
        assert run.state() == "stopped" and run.checkpoint_steps()[-1] == step
    else:
        terminal.press("d")
        terminal.see("tiny-sft goes on without this terminal")
        run = find_run("tiny-sft")
        assert run.is_running()
    terminal.see("it ended with 0")

    terminal.start(size=size)
    if way == "thread":
        terminal.see("stopped")
        terminal.press("r")
    _wait_past(terminal, step)
    assert run.is_running()
    if way == "thread":
        terminal.close()
        _wait_for_end(run)
        assert run.state() == "stopped" and run.checkpoint_steps()[-1] > step, "a closed terminal saves the run"
        terminal.start(size=size)
    else:
        terminal.press("s")
    terminal.see("◐ stopped")
    _talk(terminal, run)
    terminal.press("C-q")
    terminal.see("it ended with 0")


def _wait_for_end(run: RunFolder) -> None:
    """Waits until the process that carries the run is gone."""
    process = psutil.Process(json.loads(run.lock_file.read_text())["pid"])
    process.wait(60)


def _talk(terminal: Terminal, run: RunFolder) -> None:
    terminal.press("c")
    terminal.see("answers you")
    terminal.type("What does Mira do?")
    terminal.press("Enter")
    terminal.see(r"\d+ tokens · [\d,.k]+ tokens/s")
    assert run.state() == "stopped"


@pytest.mark.parametrize(
    "environment",
    [{"TERM": "linux"}, {"TERM": "xterm-256color"}, {"TERM": "tmux-256color", "NO_COLOR": "1"}],
    ids=lambda one: "-".join(one.values()),
)
def test_few_colours_and_a_storm_of_sizes(terminal: Terminal, environment: dict[str, str]) -> None:
    terminal.start(size=(80, 24), **environment)
    terminal.see("No runs yet")
    for number in range(50):
        terminal.resize(60 + number % 40, 16 + number % 20)
    terminal.resize(40, 10)
    terminal.see("too small")
    terminal.resize(90, 30)
    terminal.see("No runs yet")
    lines = terminal.text().splitlines()
    assert "1 Home" in lines[0] and "Quit" in lines[29], "bar above, keys below, nothing left over"
    assert "too small" not in terminal.text()
    colours = set(re.findall(r"\x1b\[[\d;]*?38;2;(\d+;\d+;\d+)", terminal.styled()))
    if "NO_COLOR" in environment:
        assert all(len(set(colour.split(";"))) == 1 for colour in colours), "greys only"
    else:
        assert not colours, "no colours that the terminal has not"
    terminal.press("C-q")
    terminal.see("it ended with 0")


def test_an_editor_draws_on_the_terminal_and_the_app_comes_back(terminal: Terminal, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\necho "the editor has $1"\nread answer\necho "$answer" >&2\n')
    editor.chmod(0o755)
    profile = tmp_path / "mine.toml"
    profile.write_text('stage = "tokenizer"\ndata = "starter:pretrain.jsonl"\nvocab_size = 300\n')
    terminal.start(str(profile), EDITOR=str(editor))
    terminal.see("vocab_size|vocab size")
    terminal.press("e")
    terminal.see(f"the editor has {re.escape(str(tmp_path))[:20]}")
    terminal.press("Enter")
    terminal.see("3 Profiles")
    terminal.press("1")
    terminal.see("No runs yet")
    terminal.press("C-q")
    terminal.see("it ended with 0")
    log = tmp_path / "state" / "tui.log"
    assert not log.exists() or "editor has" not in log.read_text()
