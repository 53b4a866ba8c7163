"""What the talk about memory looks like; after a wanted change: pytest … --snapshot-update."""

from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from minimind_tui.app import MinimindApp
from minimind_tui.core.last_words import ran_out
from minimind_tui.core.shortage import suffered
from minimind_tui.screens.shortage import ShortageDialog
from minimind_tui.screens.train import TrainScreen
from tests.tui.conftest import until
from tests.tui.made import make_run, starve


def test_a_run_that_ran_out_without_colours(snap_compare: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(MinimindApp, "_load_torch", lambda app: None)
    run = make_run("hungry", status="")
    starve(run)
    event = ran_out(run)
    assert event is not None
    dialog = ShortageDialog(suffered(run, event))

    async def before(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: isinstance(pilot.app.screen, TrainScreen) and pilot.app.screen.has_class("-over"))
        pilot.app.push_screen(dialog)
        await until(pilot, lambda: bool(dialog.query("#story Static")) and
                    "weights" in str(dialog.query_one("#story Static", Static).content))  # fmt: skip
        await pilot.press("j")
        await pilot.pause()

    assert snap_compare(MinimindApp(run.path), terminal_size=(80, 24), run_before=before)
