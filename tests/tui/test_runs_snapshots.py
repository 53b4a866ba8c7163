"""What Runs and Compare look like; after a wanted change: pytest tests/tui/test_runs_snapshots.py --snapshot-update."""

from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from minimind_tui.app import MinimindApp
from minimind_tui.screens.compare import CompareScreen
from minimind_tui.screens.runs import RunsScreen
from tests.tui.conftest import until
from tests.tui.made import BEGAN, make_run


@pytest.fixture(autouse=True)
def same_everywhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ages, folders and what is measured are the same on every machine."""
    monkeypatch.setattr("minimind_tui.core.run_list.time.time", lambda: BEGAN + 7200)
    monkeypatch.setattr("minimind_tui.core.library.disk_use", lambda run: 24_000_000)
    monkeypatch.setattr("textual.widgets.Input.cursor_blink", False)
    monkeypatch.setattr(MinimindApp, "_load_torch", lambda app: None)
    base = make_run("starter-pretrain", stage="pretrain", losses=[1.9, 1.4, 1.2], steps=30, at=BEGAN)
    start = {"from": (str(base.checkpoint(30)), "profile tiny/sft")}
    make_run(
        "starter-sft", losses=[0.9, 0.6, 0.4, 0.2], steps=40, at=BEGAN + 600, settings=start, answer="大海是蓝色的。"
    )
    make_run("sft-higher-rate", losses=[0.8, 0.3], steps=20, status="", total=40, at=BEGAN + 3600,
             settings={**start, "learning_rate": (2e-3, "user"), "seed": (7, "user")})  # fmt: skip
    make_run("sft-broken", losses=[0.9], steps=12, status="failed", total=40, at=BEGAN + 1800, settings=start,
             error="run sft-broken: out of memory\n  → halve batch_size")  # fmt: skip


async def _runs(pilot: Pilot[None]) -> RunsScreen:
    await pilot.press("5")
    screen = pilot.app.screen
    assert isinstance(screen, RunsScreen)
    await until(pilot, lambda: bool(screen._sizes))
    return screen


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_runs(snap_compare: Any, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minimind_tui.core.run_details._facts", lambda summary, runs: [("data", "/data/talk.jsonl")])

    async def before(pilot: Pilot[None]) -> None:
        await _runs(pilot)
        await pilot.press("space", "j", "space", "k")
        await pilot.pause(0.3)
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()

    assert snap_compare(MinimindApp(), terminal_size=size, run_before=before)


def test_compare(snap_compare: Any) -> None:
    async def before(pilot: Pilot[None]) -> None:
        await _runs(pilot)
        await pilot.press("space", "j", "space", "m")
        screen = pilot.app.screen
        assert isinstance(screen, CompareScreen)
        await until(pilot, lambda: screen._comparison is not None)
        await pilot.pause(0.2)

    assert snap_compare(MinimindApp(), terminal_size=(80, 24), run_before=before)
