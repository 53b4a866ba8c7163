"""What Home looks like; after a wanted change: pytest tests/tui/test_home_snapshots.py --snapshot-update."""

from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from minimind_tui.app import MinimindApp


@pytest.fixture(autouse=True)
def same_everywhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own figures left out."""
    monkeypatch.setattr("minimind_tui.screens.home.describe_machine", lambda device: "2 cores · 8.0 GiB of memory")
    monkeypatch.setattr(MinimindApp, "_load_torch", lambda app: None)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (60, 16), (59, 15)])
def test_home_on_a_first_start(snap_compare: Any, size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[None]) -> None:
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()

    assert snap_compare(MinimindApp(), terminal_size=size, run_before=before)
