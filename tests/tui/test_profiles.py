"""The Profiles screen by keyboard alone."""

import json
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import tomli
from textual.pilot import Pilot
from textual.widgets import Input, Select, Static

from engine.runs.folder import create_run
from engine.settings.places import user_profiles
from engine.settings.profile import load_profile, resolve
from engine.settings.writing import save_profile, write_profile
from minimind_tui.app import MinimindApp
from minimind_tui.screens.dialogs import ErrorDialog
from minimind_tui.screens.home import HomeScreen
from minimind_tui.screens.profiles import ProfilesScreen
from minimind_tui.widgets.profiles.answers import Answers
from minimind_tui.widgets.profiles.dialogs import ChoiceDialog, NameDialog
from minimind_tui.widgets.profiles.diff import DiffDialog
from minimind_tui.widgets.profiles.outlook import Outlook
from minimind_tui.widgets.profiles.profile_list import ProfileList
from minimind_tui.widgets.profiles.setting_lines import SettingLines
from minimind_tui.widgets.vim import VimTable
from tests.tui.conftest import until

SIZE = (80, 24)


async def _screen(pilot: Pilot[None], app: MinimindApp) -> ProfilesScreen:
    """Goes to the Profiles screen and waits for its profiles."""
    await pilot.press("3")
    screen = app.screen
    assert isinstance(screen, ProfilesScreen)
    await until(pilot, lambda: screen.draft is not None or screen.broken is not None)
    await pilot.pause()
    return screen


async def _edit(pilot: Pilot[None], setting: str, *keys: str) -> None:
    """Searches a setting in the form and types a value over its own."""
    await pilot.press("slash", "ctrl+u", *setting, "enter", "enter", "ctrl+u", *keys)


def _text(screen: ProfilesScreen, pane: type[Any]) -> str:
    widget = screen.query_one(pane)
    return "\n".join(str(each.content) for each in widget.query(Static))


def _line(screen: ProfilesScreen, setting: str) -> str:
    return screen.query_one(SettingLines).text_of(setting)


async def test_a_built_in_profile_is_changed_and_saved_as_one_s_own(app: MinimindApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        screen = await _screen(pilot, app)
        await pilot.press("slash", *"3050 sf", "enter")
        assert screen.query_one(ProfileList).selected == "rtx3050-8g/sft"
        await pilot.press("enter")
        assert screen.query_one(SettingLines).has_focus and screen.draft is not None
        await _edit(pilot, "batch", *"no")
        assert "● " not in _line(screen, "batch_size") and "must be a valid integer" in _line(screen, "batch_size")
        await pilot.press("enter")
        assert isinstance(app.focused, Input), "a value that cannot be used stays open"
        await pilot.press("ctrl+u", "4", "enter")
        assert screen.query_one(SettingLines).has_focus
        assert _line(screen, "batch_size").startswith("● batch_size") and "not saved" in _line(screen, "batch_size")
        assert "too high" in _text(screen, Answers) and "Out of memory" in _text(screen, Answers)
        await pilot.press("w")
        assert isinstance(app.screen, NameDialog)
        assert app.screen.query_one("#name", Input).value == "rtx3050-8g-sft"
        await pilot.press("ctrl+u", *"cpu/sft", "enter")
        assert isinstance(app.screen, NameDialog), "never over a built-in one"
        await pilot.press("ctrl+u", *"s8", "tab", "ctrl+u", *"It", "enter")
        await until(pilot, lambda: screen.draft is not None and screen.draft.reference == "s8")
        assert not screen.unsaved
    text = (user_profiles() / "s8.toml").read_text(encoding="utf-8")
    assert tomli.loads(text) == {
        "stage": "sft", "title": "It", "extends": "rtx3050-8g/sft", "training": {"batch_size": 4}}  # fmt: skip


async def test_choices_turn_and_changes_are_undone(app: MinimindApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        screen = await _screen(pilot, app)
        await pilot.press("slash", *"cpu sf", "enter", "enter")
        await pilot.press("slash", *"lr s", "enter", "space")
        assert screen.draft is not None and screen.draft.value("lr_schedule") == "linear"
        await pilot.press("left", "left")
        assert screen.draft.value("lr_schedule") == "constant"
        await pilot.press("u")
        assert screen.draft.value("lr_schedule") == "cosine" and not screen.unsaved
        await pilot.press("g", "slash", *"packi", "enter", "enter")
        assert screen.draft.value("packing") is False
        await _edit(pilot, "epo", "5", "escape")
        assert screen.draft.value("epochs") == 2 and screen.draft.unsaved == 1, "escape leaves the value as it was"
        assert screen.query_one(SettingLines).has_focus
        await pilot.press("U")
        assert not screen.unsaved
        await pilot.press("escape")
        assert screen.query_one(ProfileList).has_focus and screen.query_one("#shelf").display
        await pilot.press("escape")
        assert len(screen.query_one(ProfileList).options) > 20, "the filter goes last"


async def test_one_s_own_profile_is_saved_in_place_and_deleted(app: MinimindApp) -> None:
    save_profile("mine", '# kept\nstage = "sft"\nextends = "cpu/sft"\n[training]\nepochs = 3  # enough\n')
    async with app.run_test(size=SIZE) as pilot:
        app.open_profile("mine")
        await until(pilot, lambda: isinstance(app.screen, ProfilesScreen) and app.screen.draft is not None
                    and app.screen.draft.reference == "mine")  # fmt: skip
        screen = app.screen
        assert isinstance(screen, ProfilesScreen)
        await pilot.pause()
        await _edit(pilot, "epo", "4", "enter")
        await pilot.press("w")
        path = user_profiles() / "mine.toml"
        await until(pilot, lambda: "epochs = 4  # enough" in path.read_text())
        assert path.read_text().startswith("# kept")
        await until(pilot, lambda: screen.draft is not None and screen.draft.profile.source == path.read_text())
        await _edit(pilot, "epo", "5", "enter")
        path.write_text('stage = "sft"\n')
        await pilot.press("w")
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog))
        await pilot.press("escape")
        assert path.read_text() == 'stage = "sft"\n', "what another program wrote is not lost"
        assert screen.unsaved, "nor what was typed here"
        await pilot.press("x")
        assert isinstance(app.screen, ChoiceDialog)
        await pilot.press("escape", "x", "y")
        await until(pilot, lambda: not path.exists())
        await until(pilot, lambda: screen.draft is not None and screen.draft.reference != "mine")
        await pilot.press("x")
        assert not isinstance(app.screen, ChoiceDialog), "a built-in one cannot be deleted"


async def test_what_is_changed_while_it_is_saved_is_not_lost(app: MinimindApp, monkeypatch: pytest.MonkeyPatch) -> None:
    save_profile("mine", 'stage = "sft"\nextends = "cpu/sft"\n')
    path, slow = user_profiles() / "mine.toml", threading.Event()

    def write_slowly(path: Path, text: str) -> None:
        assert slow.wait(30)
        write_profile(path, text)

    monkeypatch.setattr("minimind_tui.screens.profile_files.write_profile", write_slowly)
    async with app.run_test(size=SIZE) as pilot:
        app.open_profile("mine")
        await until(pilot, lambda: isinstance(app.screen, ProfilesScreen) and app.screen.draft is not None
                    and app.screen.draft.reference == "mine")  # fmt: skip
        screen = app.screen
        assert isinstance(screen, ProfilesScreen)
        await pilot.pause()
        await _edit(pilot, "epo", "4", "enter")
        await pilot.press("w")
        await _edit(pilot, "epo", "5", "enter")
        await _edit(pilot, "seed", "7")
        slow.set()
        await until(pilot, lambda: screen.draft is not None and screen.draft.profile.source == path.read_text()
                    and "epochs = 4" in path.read_text())  # fmt: skip
        assert screen.draft is not None and "seed" not in path.read_text()
        assert (screen.draft.value("epochs"), screen.draft.value("seed"), screen.draft.unsaved) == (5, 7, 2)
        assert isinstance(app.focused, Input), "one goes on typing"
        await pilot.press("8", "enter", "w")
        await until(pilot, lambda: not screen.unsaved)
    assert tomli.loads(path.read_text())["training"] == {"epochs": 5, "seed": 78}


async def test_who_extends_it_is_named_before_it_is_deleted(app: MinimindApp) -> None:
    save_profile("mine", 'stage = "sft"\n')
    save_profile("heir", 'extends = "mine"\n')
    async with app.run_test(size=SIZE) as pilot:
        screen = await _screen(pilot, app)
        await pilot.press("slash", *"mine", "enter", "x")
        assert isinstance(app.screen, ChoiceDialog)
        assert "cannot be read without it: heir." in str(app.screen.query_one(Static).content)
        await pilot.press("escape")
        assert screen.draft is not None and screen.draft.reference == "mine"


async def test_an_editor_that_cannot_be_run_is_told(app: MinimindApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal of the tests cannot be suspended, as a browser's cannot."""
    monkeypatch.delenv("VISUAL", raising=False)
    save_profile("mine", 'stage = "sft"\n')
    async with app.run_test(size=SIZE) as pilot:
        await _screen(pilot, app)
        await pilot.press("slash", *"mine", "enter")
        for editor, said in (("vim '", "cannot be read"), ("true", "cannot be run here")):
            monkeypatch.setenv("EDITOR", editor)
            await pilot.press("e")
            await until(pilot, lambda: isinstance(app.screen, ErrorDialog))
            assert said in str(app.screen._message())  # type: ignore[attr-defined]
            await pilot.press("escape")
            await pilot.pause()


async def test_changes_are_asked_about_and_stay_while_one_is_elsewhere(app: MinimindApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await _screen(pilot, app)
        await pilot.press("slash", *"cpu", "enter", "j", "enter")
        await _edit(pilot, "seed", "7", "enter")
        await pilot.press("1")
        assert isinstance(app.screen, HomeScreen)
        await _screen(pilot, app)
        assert screen.unsaved and screen.draft is not None and screen.draft.value("seed") == 7
        await pilot.press("escape", "j", "j")
        assert screen.draft.reference == "cpu/pretrain", "looking around keeps the changes"
        await pilot.press("enter")
        assert isinstance(app.screen, ChoiceDialog)
        await pilot.press("escape")
        assert screen.draft.reference == "cpu/pretrain" and screen.unsaved
        await pilot.press("enter", "d")
        await until(pilot, lambda: screen.draft is not None and screen.draft.reference == "cpu/sft")
        assert not screen.unsaved


async def test_differences_from_parent_defaults_profiles_and_runs(app: MinimindApp) -> None:
    run = create_run("earlier")
    run.resolved.write_text(json.dumps(resolve(load_profile("cpu/sft")).replace({"seed": 1}, "user").to_json()))

    def rows() -> set[str]:
        table = app.screen.query_one(VimTable)
        return {str(table.get_row_at(row)[0]) for row in range(table.row_count)}

    async with app.run_test(size=SIZE) as pilot:
        await _screen(pilot, app)
        await pilot.press("slash", *"cpu sf", "enter", "d")
        assert isinstance(app.screen, DiffDialog)
        await until(pilot, lambda: rows() == {"learning_rate", "warmup_steps", "epochs"})
        await pilot.press("right")
        await until(pilot, lambda: "batch_size" in rows() and "stage" not in rows())
        await until(pilot, lambda: len(app.screen._partners) > 20)  # type: ignore[attr-defined]
        await pilot.press("left", "left")
        assert isinstance(app.screen.query_one("#partner", Select).value, int)
        await until(pilot, lambda: rows() == {"seed"})
        assert "42" in str(app.screen.query_one("#difference", Static).content)
        await pilot.press("escape")
        assert isinstance(app.screen, ProfilesScreen)


async def test_the_outlook_counts_and_the_command_follows(app: MinimindApp, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(MinimindApp, "ask_for_run", lambda self, **wish: asked.append(wish))
    monkeypatch.setattr(MinimindApp, "copy", lambda self, text, what: asked.append(text), raising=False)
    async with app.run_test(size=SIZE) as pilot:
        screen = await _screen(pilot, app)
        await pilot.press("slash", *"sft-1", "enter", "enter")
        await _edit(pilot, "accu", "4", "enter")
        await pilot.press("v")
        assert screen.query_one(Outlook).has_focus
        await until(pilot, lambda: "104M parameters" in _text(screen, Outlook))
        assert "21,760 tokens a step" in _text(screen, Outlook)
        await pilot.press("y", "s")
        assert asked == [
            "engine train minimind2/sft-104m --set accumulation_steps=4",
            {"profile": "minimind2/sft-104m", "assignments": ("accumulation_steps=4",)},
        ]
        await pilot.press("v")
        assert screen.query_one(SettingLines).has_focus
        await _edit(pilot, "num_key", "3", "enter")
        assert "not a multiple" in str(screen.query_one("#notice", Static).content)
        await pilot.press("s", "w")
        assert len(asked) == 2 and isinstance(app.screen, ProfilesScreen), "impossible: neither started nor saved"


async def test_a_new_profile_from_a_stage_s_defaults(app: MinimindApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        screen = await _screen(pilot, app)
        await pilot.press("c", "j", "enter")
        assert screen.draft is not None and screen.draft.is_new and screen.draft.stage.name == "pretrain"
        await pilot.press("w", "ctrl+u", *"o/f", "enter")
        await until(pilot, lambda: screen.draft is not None and screen.draft.reference == "o/f")
    assert tomli.loads((user_profiles() / "o/f.toml").read_text()) == {"stage": "pretrain"}


async def test_the_editor_and_a_profile_that_cannot_be_read(
    app: MinimindApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MinimindApp, "suspend", lambda self: nullcontext())
    monkeypatch.delenv("VISUAL", raising=False)
    save_profile("mine", 'stage = "sft"\nepoch = 3\n')
    async with app.run_test(size=SIZE) as pilot:
        screen = await _screen(pilot, app)
        await pilot.press("slash", *"mine", "enter", "enter")
        assert screen.broken is not None and screen.draft is None
        assert "unknown setting 'epoch'" in str(screen.query_one("#broken Static", Static).content)
        await pilot.press("escape")
        assert screen.query_one(ProfileList).has_focus
        await pilot.press("enter")
        monkeypatch.delenv("EDITOR", raising=False)
        await pilot.press("e")
        assert screen.broken is not None
        monkeypatch.setenv("EDITOR", "sed -i s/epoch/epochs/")
        await pilot.press("e")
        await until(pilot, lambda: screen.draft is not None and screen.draft.value("epochs") == 3)
        monkeypatch.setenv("EDITOR", str(tmp_path / "no-such-editor"))
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog))


async def test_a_file_elsewhere_is_opened_and_the_place_is_remembered(app: MinimindApp, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.toml"
    elsewhere.write_text('stage = "sft"\ntitle = "\x1b[31m[bold]red[/]"\nseed = 3\n'.replace("\x1b", "\\u001b"))
    async with app.run_test(size=SIZE) as pilot:
        app.open_profile(str(elsewhere))
        await until(pilot, lambda: isinstance(app.screen, ProfilesScreen) and app.screen.draft is not None
                    and app.screen.draft.value("seed") == 3)  # fmt: skip
        screen = app.screen
        assert isinstance(screen, ProfilesScreen)
        assert "\x1b" not in str(screen.query_one("#form").border_title)
        await _edit(pilot, "seed", "4", "enter")
        await pilot.press("w")
        await until(pilot, lambda: "seed = 4" in elsewhere.read_text())
        await pilot.press("escape", "slash", *"cpu sf", "enter")
        assert screen.draft is not None and screen.draft.reference == "cpu/sft"
        await pilot.press("enter", "slash", *"batch", "enter")
        app.state.save()
    again = MinimindApp()
    async with again.run_test(size=SIZE) as pilot:
        screen = await _screen(pilot, again)
        assert screen.draft is not None and screen.draft.reference == "cpu/sft"
        assert screen.query_one(SettingLines).setting == "batch_size"


async def test_a_missing_profile_says_so(app: MinimindApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        app.open_profile("nothing/here")
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog))
