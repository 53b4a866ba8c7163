"""What the screens look like; after a wanted change: pytest tests/tui/test_snapshots.py --snapshot-update."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.runs.events import CheckpointSaved, Evaluated, Finished, Progress, RunStarted, Sampled, Step
from engine.runs.folder import EventWriter, RunFolder, create_run
from minimind_tui.app import MinimindApp
from minimind_tui.screens.chat import ChatScreen
from minimind_tui.widgets.turn_view import TurnView


@pytest.fixture(autouse=True)
def same_everywhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own figures and the only blinking thing left out."""
    monkeypatch.setattr("minimind_tui.screens.home.describe_machine", lambda device: "2 cores · 8.0 GiB of memory")
    monkeypatch.setattr("textual.widgets.Input.cursor_blink", False)
    monkeypatch.setattr(MinimindApp, "_load_torch", lambda app: None)


def _finished_run() -> RunFolder:
    """A run's folder as the engine writes it."""
    run = create_run("snapshot")
    run.resolved.write_text(json.dumps({"stage": "sft", "profile": "starter/sft"}))
    write = EventWriter(run)
    write(Progress(time=1e9, what="encoding the data", done=0.0))
    write(RunStarted(time=1e9 + 2, stage="sft", total_steps=200, parameters=2_066_368, trainable_parameters=2_066_368,
                     device="cpu (x86_64)", dtype="float32", threads=2))  # fmt: skip
    for step in range(5, 201, 5):
        loss = 6 * math.exp(-step / 60) + 0.3 + 0.1 * math.sin(step)
        metrics = {"loss": loss, "learning_rate": 1e-3 * (1 - step / 250), "grad_norm": 1 + math.sin(step / 9) / 2,
                   "tokens_per_second": 5000.0 + step, "trained_share": 0.38, "memory_bytes": 5e8}  # fmt: skip
        write(Step(time=1e9 + 2 + step, step=step, epoch=step / 200, tokens=step * 600, metrics=metrics))
        if step % 50 == 0:
            write(Evaluated(time=1e9 + 2 + step, step=step, metrics={"val_loss": loss + 0.2}))
            write(
                Sampled(
                    time=1e9 + 2 + step, step=step, prompt="莫娜住在哪里？", text="莫娜住在海边。", stop_reason="stop"
                )
            )
    write(CheckpointSaved(time=1e9 + 203, step=200, path="x", best=True, seconds=0.1))
    write(Finished(time=1e9 + 203, status="done", step=200))
    write.close()
    return run


def test_home_on_a_first_start(snap_compare: Any) -> None:
    async def before(pilot: Pilot[None]) -> None:
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()

    assert snap_compare(MinimindApp(), terminal_size=(80, 24), run_before=before)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_train(snap_compare: Any, size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[None]) -> None:
        await pilot.pause(0.6)
        pilot.app.screen.draw()  # type: ignore[attr-defined]
        await pilot.pause()

    assert snap_compare(MinimindApp(_finished_run().path), terminal_size=size, run_before=before)


def test_chat_without_colours(snap_compare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def before(pilot: Pilot[None]) -> None:
        await pilot.press("6")
        await pilot.app.workers.wait_for_complete()
        screen = pilot.app.screen
        assert isinstance(screen, ChatScreen)
        screen.query_one("#empty-talk").display = False
        for role, text, note in (
            ("user", "你好 😀 What is 3 + 4?", ""),
            ("model", "<think>3 + 4 = 7</think>It is 7.", "9 tokens"),
        ):
            view = TurnView(role, "you" if role == "user" else "starter-sft")
            await screen.query_one("#talk").mount(view)
            view.show(text, note=note)
        await pilot.pause()

    assert snap_compare(MinimindApp(), terminal_size=(80, 24), run_before=before)
