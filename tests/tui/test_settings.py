"""The settings by keyboard, and their files."""

from pathlib import Path

import pytest
from textual.widgets import Input, OptionList, Static

from minimind_tui.app import MinimindApp
from minimind_tui.screens.settings import KeyDialog, SettingsScreen, ThemeDialog
from minimind_tui.screens.train import TrainScreen
from minimind_tui.state import Preferences, config_folder, log_path, read_keymap
from minimind_tui.widgets.vim import VimTable
from tests.tui.conftest import until

SIZE = (80, 24)


def _said(app: MinimindApp) -> str:
    return str(app.screen.query_one("#said", Static).content)


def _row(app: MinimindApp) -> list[str]:
    table = app.screen.query_one(VimTable)
    return [str(cell) for cell in table.get_row_at(table.cursor_row)]


async def test_a_theme_is_previewed_taken_back_and_taken(app: MinimindApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        before = app.theme
        await pilot.press("f2")
        assert isinstance(app.screen, SettingsScreen) and _row(app)[0] == "theme"
        await pilot.press("enter", "j")
        assert isinstance(app.screen, ThemeDialog)
        await pilot.pause()
        assert app.theme != before, "it is shown at once"
        await pilot.press("escape")
        assert app.theme == before and isinstance(app.screen, SettingsScreen)
        await pilot.press("enter")
        await pilot.pause()
        themes = app.screen.query_one(OptionList)
        themes.highlighted = themes.get_option_index("gruvbox")
        await pilot.press("enter")
        assert app.theme == "gruvbox" and "gruvbox" in _row(app)[1]
        assert Preferences.load()[0].theme == "gruvbox"
    again = MinimindApp()
    async with again.run_test(size=SIZE) as pilot:
        await pilot.pause()
        assert again.theme == "gruvbox"


async def test_switches_numbers_and_defaults(app: MinimindApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("f2", "slash", *"bell", "enter", "enter")
        assert _row(app)[0] == "bell" and app.preferences.bell and "on" in _row(app)[1]
        await pilot.press("backspace")
        assert not app.preferences.bell
        await pilot.press("slash", *["backspace"] * 4, *"smoothing", "enter", "enter")
        field = app.screen.query_one(Input)
        assert field.value == "0"
        await pilot.press("backspace", *"1.5", "enter")
        assert "less than 1" in _said(app) and app.preferences.smoothing == 0
        await pilot.press("enter", "backspace", *"0.9", "enter")
        assert app.preferences.smoothing == 0.9 == Preferences.load()[0].smoothing
        await pilot.press("escape", "escape")
        assert not isinstance(app.screen, SettingsScreen)


async def test_a_key_is_changed_and_a_clash_is_refused_by_name(app: MinimindApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("f2", "slash", *"area.train", "enter", "enter")
        assert isinstance(app.screen, KeyDialog)
        await pilot.press("6")
        assert isinstance(app.screen, KeyDialog)
        assert "area.chat (Go to Chat)" in str(app.screen.query_one("#clash", Static).content)
        await pilot.press("f8")
        assert isinstance(app.screen, SettingsScreen) and "f8" in _row(app)[1]
        assert read_keymap()[0] == {"area.train": "f8"}
        await pilot.press("escape", "escape", "f8")
        assert isinstance(app.screen, TrainScreen)
        await pilot.press("1", "4")
        assert not isinstance(app.screen, TrainScreen), "the key from before is free"
        await pilot.press("f2", "slash", *"area.train", "enter", "backspace", "escape", "escape", "4")
        assert isinstance(app.screen, TrainScreen) and read_keymap()[0] == {}


@pytest.mark.parametrize("width", [80, 120])
async def test_all_of_it_is_within_the_screen(app: MinimindApp, width: int) -> None:
    async with app.run_test(size=(width, 24)) as pilot:
        await pilot.press("f2")
        await pilot.pause()
        region = app.screen.query_one(".dialog").region
        assert region.x >= 0 and region.right <= width and region.bottom <= 24
        assert app.screen.query_one("#said").region.bottom < region.bottom


def test_preferences_survive_and_bad_values_leave_the_default(home: Path) -> None:
    found, problems = Preferences.load()
    assert found.model_dump() == Preferences().model_dump() and problems == []
    path = config_folder() / "settings.toml"
    path.write_text('bell = true\nsmoothing = 3\nlanguage = "xx"\ntehme = "nord"\n')
    found, problems = Preferences.load()
    assert found.bell and found.smoothing == 0 and found.language == "en"
    assert len(problems) == 3 and "smoothing = 3" in problems[0] and "no setting 'tehme'" in problems[2]
    found.log_y = True
    found.save()
    assert "tehme" in path.with_name("settings.toml.old").read_text(), "what was not understood is not lost"
    again, problems = Preferences.load()
    assert again.bell and again.log_y and problems == []


def test_a_file_that_is_no_toml_is_named_and_kept(home: Path) -> None:
    path = config_folder() / "settings.toml"
    path.write_bytes(b"bell = \xff")
    found, problems = Preferences.load()
    assert found.model_dump() == Preferences().model_dump() and str(path) in problems[0]
    found.save()
    assert path.with_name("settings.toml.old").read_bytes() == b"bell = \xff"


async def test_what_is_wrong_with_the_files_is_said_at_the_start(home: Path) -> None:
    (home / "keymap.toml").write_text('train.puase = "x"\ntrain.stop = "p"\n')
    (home / "settings.toml").write_text("bell = 3\n")
    app = MinimindApp()
    async with app.run_test(size=SIZE) as pilot:

        def said() -> str:
            return " ".join(toast.message for toast in app._notifications)

        await until(pilot, lambda: "train.puase" in said() and "train.stop" in said())
        assert "bell = 3" in said()
    assert "train.puase" in log_path().read_text() and "bell = 3" in log_path().read_text()
