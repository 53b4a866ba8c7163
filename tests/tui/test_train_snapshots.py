"""What the Train screen looks like; wanted changes: pytest tests/tui/test_train_snapshots.py --snapshot-update."""

from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from minimind_tui.app import MinimindApp
from minimind_tui.screens.start import StartDialog
from minimind_tui.screens.train import TrainScreen
from minimind_tui.screens.train_dialogs import RunChoice
from minimind_tui.widgets.curve import Curve
from minimind_tui.widgets.curve_grid import CurveGrid
from tests.tui.conftest import until
from tests.tui.test_train import drawn, told


@pytest.fixture(autouse=True)
def same_everywhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing blinks, and nothing depends on the machine."""
    monkeypatch.setattr("textual.widgets.Input.cursor_blink", False)
    monkeypatch.setattr(MinimindApp, "_load_torch", lambda app: None)
    monkeypatch.setattr("minimind_tui.core.notices.Notices.due", lambda *arguments: None)  # toasts come and go


async def _drawn(pilot: Pilot[None]) -> TrainScreen:
    await until(pilot, lambda: isinstance(pilot.app.screen, TrainScreen) and pilot.app.screen.is_mounted)
    screen = pilot.app.screen
    assert isinstance(screen, TrainScreen)
    await until(pilot, lambda: any(drawn(curve) for curve in screen.query(Curve)))
    return screen


def test_an_interrupted_run_without_colours(snap_compare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    run = told("killed", status="", warned=True)

    async def before(pilot: Pilot[None]) -> None:
        screen = await _drawn(pilot)
        await until(pilot, lambda: screen.has_class("-over"))
        await pilot.press("left", "left", "left", "left", "left")

    assert snap_compare(MinimindApp(run.path), terminal_size=(80, 24), run_before=before)


def test_curves_of_two_runs_smoothed(snap_compare: Any, home: Path) -> None:
    told("other", steps=300, shift=0.5)
    run = told("one", steps=240)
    moved = run.path.rename(home / "跑步 😀 [b]")

    async def before(pilot: Pilot[None]) -> None:
        screen = await _drawn(pilot)
        await pilot.press("y", "x", "o")
        await until(pilot, lambda: any(choice.option_count for choice in pilot.app.screen.query(RunChoice)))
        await pilot.press("space", "enter")
        await until(pilot, lambda: len(screen.query_one(CurveGrid).others) == 1)
        await pilot.pause()

    assert snap_compare(MinimindApp(moved), terminal_size=(120, 40), run_before=before)


def test_the_start_dialog_with_what_is_wrong(snap_compare: Any, home: Path) -> None:
    dialog = StartDialog("pretrain", "tiny/pretrain", assignments=["max_steps=5", "learning_rat=1"])

    async def before(pilot: Pilot[None]) -> None:
        await _drawn(pilot)
        pilot.app.push_screen(dialog)
        await until(pilot, lambda: dialog.is_mounted and bool(dialog._profiles))
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "learning_rat" in str(dialog.query_one("#problem", Static).content))
        await pilot.pause()

    assert snap_compare(MinimindApp(told("one").path), terminal_size=(80, 24), run_before=before)
