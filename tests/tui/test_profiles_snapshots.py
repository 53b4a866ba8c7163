"""What the Profiles screen looks like; after a wanted change: pytest … --snapshot-update."""

from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.settings.writing import save_profile
from minimind_tui.app import MinimindApp
from minimind_tui.core.memory import read_plan
from minimind_tui.screens.profiles import ProfilesScreen
from minimind_tui.widgets.memory.suggestions import Suggestions
from tests.tui.conftest import until
from tests.tui.made import plan_json

_MINE = """\
stage = "pretrain"
title = "我的第一个 26 M 模型 😀"
extends = "cpu/pretrain"

[model]
vocab_size = 6400

[training]
max_steps = 600
epochs = 2
"""


@pytest.fixture(autouse=True)
def same_everywhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the built-in profiles and one of the user's; nothing blinks, and every plan is the same."""
    for path in (home / "profiles").rglob("*.toml"):
        path.unlink()
    save_profile("我的", _MINE)
    for plan in ("quick_plan", "full_plan"):
        monkeypatch.setattr(f"minimind_tui.screens.profile_outlook.{plan}", lambda drafted: read_plan(plan_json()))
    monkeypatch.setattr("textual.widgets.Input.cursor_blink", False)
    monkeypatch.setattr(MinimindApp, "_load_torch", lambda app: None)


async def _settle(pilot: Pilot[None]) -> ProfilesScreen:
    screen = pilot.app.screen
    assert isinstance(screen, ProfilesScreen)
    await until(pilot, lambda: screen.draft is not None)
    await pilot.app.workers.wait_for_complete()
    await until(pilot, lambda: screen.draft is not None and (
        "training" not in screen.draft.stage.sections or screen.query_one(Suggestions).option_count > 0
    ))  # fmt: skip
    await pilot.pause()
    return screen


def test_a_value_that_cannot_be_used(snap_compare: Any) -> None:
    async def before(pilot: Pilot[None]) -> None:
        await pilot.press("3")
        await _settle(pilot)
        await pilot.press("j", "enter", "slash", *"learning", "enter", "enter", "ctrl+u", *"fast")
        await _settle(pilot)

    assert snap_compare(MinimindApp(), terminal_size=(80, 24), run_before=before)


def test_list_form_and_outlook_side_by_side(snap_compare: Any) -> None:
    async def before(pilot: Pilot[None]) -> None:
        await pilot.press("3")
        await _settle(pilot)
        await pilot.press("G", "enter", "slash", *"heads", "enter", "enter", "ctrl+u", "4", "enter", "j")
        await _settle(pilot)

    assert snap_compare(MinimindApp(), terminal_size=(120, 40), run_before=before)
