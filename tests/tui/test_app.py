"""The app by keyboard, with tiny real runs."""

import os
import signal
from pathlib import Path

from textual.widgets import OptionList, Static

from engine.runner import start_process
from engine.runs.folder import find_run
from engine.session import TrainRequest, begin, train
from minimind_tui.app import MinimindApp
from minimind_tui.core.live import begin_thread
from minimind_tui.screens.chat import ChatScreen
from minimind_tui.screens.data import DataScreen
from minimind_tui.screens.dialogs import ErrorDialog, HelpDialog, QuitDialog
from minimind_tui.screens.home import HomeScreen
from minimind_tui.screens.profiles import ProfilesScreen
from minimind_tui.screens.start import StartDialog
from minimind_tui.screens.train import TrainScreen
from minimind_tui.widgets.curve import Curve
from minimind_tui.widgets.curve_grid import CurveGrid
from tests.tui.conftest import until

SIZE = (80, 24)


def _tokenizer() -> None:
    train(TrainRequest("tiny/tokenizer"))


async def test_the_areas_and_their_help_by_keyboard(app: MinimindApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        for key, screen in (("4", TrainScreen), ("6", ChatScreen)):
            await pilot.press(key)
            assert isinstance(app.screen, screen)
        await pilot.press("escape", "1")
        assert isinstance(app.screen, HomeScreen)
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpDialog)
        await pilot.press("escape")
        assert isinstance(app.screen, HomeScreen)
        titles = [command.title for command in app.get_system_commands(app.screen)]
        assert {"New run", "Starter ladder", "Go to Home", "Go to Train", "Go to Chat", "Quit", "Theme"} <= set(titles)
        assert len(titles) == len(set(titles)) and "Down" not in titles


async def test_a_run_from_the_dialog_to_its_curves_and_a_stop_that_saves(app: MinimindApp, home: Path) -> None:
    _tokenizer()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("n")
        assert isinstance(app.screen, StartDialog)
        profiles = app.screen.query_one("#profiles", OptionList)
        await until(pilot, lambda: profiles.option_count > 0)
        profiles.highlighted = profiles.get_option_index("tiny/long")
        await pilot.press(*["tab"] * 5)
        await pilot.press(*"learning_rat=1", "ctrl+r")
        assert isinstance(app.screen, StartDialog), "an unknown setting keeps the dialog"
        await pilot.press(*["backspace"] * 14, *"seed=7", "ctrl+r")
        await until(pilot, lambda: app.shown is not None and app.shown.history.step >= 12)
        assert isinstance(app.screen, TrainScreen)
        live = app.shown
        assert live is not None and live.run is not None
        assert len(live.history.curves["loss"]) >= 12 and "val_loss" in live.history.curves
        assert live.history.samples
        curve = app.screen.query(Curve).first()
        await until(pilot, lambda: "┤" in "".join(curve.render_line(y).text for y in range(curve.content_size.height)))

        await pilot.press("p")
        await until(pilot, lambda: live.state == "paused")
        await pilot.press("p")
        await until(pilot, lambda: live.state == "running")
        await pilot.press("s")
        await until(pilot, lambda: app.own is None)
        assert live.run.state() == live.state == "stopped"
        assert live.run.checkpoint_steps()[-1] == live.history.step
        assert live.run.read_json(live.run.resolved)["settings"]["seed"]["value"] == 7

        stopped_at = live.history.step
        await pilot.press("r")
        await until(pilot, lambda: app.shown is not live and app.shown is not None
                    and app.shown.history.step > stopped_at)  # fmt: skip
        await pilot.press("ctrl+q")
        assert isinstance(app.screen, QuitDialog)
        await pilot.press("escape")
        assert app.own is not None and app.own.alive
        await pilot.press("ctrl+q", "s")
        await until(pilot, lambda: not app.is_running)
    assert live.run.state() == "stopped"
    assert live.run.checkpoint_steps()[-1] > stopped_at

    again = MinimindApp()
    async with again.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: again.shown is not None)
        assert isinstance(again.screen, TrainScreen)
        assert again.shown is not None and again.shown.run == live.run and again.shown.state == "stopped"


async def test_a_failure_ends_in_a_dialog_and_the_app_lives(app: MinimindApp, home: Path) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        app._begin(begin_thread("tiny/pretrain"))
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog))
        assert isinstance(app.screen, ErrorDialog)
        assert "tiny-tokenizer" in str(app.screen._message())
        await pilot.press("escape")
        assert isinstance(app.screen, TrainScreen)
        assert app.own is None
        await pilot.pause(1.2)
        assert "resume" not in {active.binding.action for active in app.screen.active_bindings.values()}


async def test_a_run_carried_elsewhere_is_watched_and_stopped(app: MinimindApp, home: Path) -> None:
    _tokenizer()
    run = begin(TrainRequest("tiny/long"))
    start_process(run)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, run.is_running)
        app.show_run(run)
        await until(pilot, lambda: app.shown is not None and app.shown.history.step >= 5)
        assert app.own is None
        await pilot.press("s")
        await until(pilot, lambda: app.shown is not None and app.shown.state == "stopped")
    assert run.checkpoint_steps()


async def test_leaving_detached_hands_the_run_to_a_process_of_its_own(app: MinimindApp, home: Path) -> None:
    _tokenizer()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        app._begin(begin_thread("tiny/long"))
        await until(pilot, lambda: app.shown is not None and app.shown.history.step >= 3)
        assert app.shown is not None and app.shown.run is not None
        run = app.shown.run
        await pilot.press("ctrl+q", "d")
        assert app.shown.state == "detaching"
        await pilot.press("r", "s", "ctrl+q")
        assert isinstance(app.screen, TrainScreen), "nothing can be asked of it meanwhile"
        await until(pilot, lambda: not app.is_running)
    assert "goes on without this terminal" in str(app.return_value)
    assert run.is_running()

    again = MinimindApp()
    async with again.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: again.shown is not None and again.shown.state == "running")
        assert again.own is None
        await pilot.press("s")
        await until(pilot, lambda: again.shown is not None and again.shown.state == "stopped")
    assert not run.is_running()


async def test_a_closed_terminal_saves_the_run(app: MinimindApp, home: Path) -> None:
    _tokenizer()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        app._begin(begin_thread("tiny/long"))
        await until(pilot, lambda: app.own is not None and app.own.history.step >= 3)
        assert app.own is not None and app.own.run is not None
        run = app.own.run
        os.kill(os.getpid(), signal.SIGHUP)
        await until(pilot, lambda: not app.is_running)
    assert run.state() == "stopped" and run.checkpoint_steps()


async def test_what_the_start_dialog_can_refuse_keeps_it_open(app: MinimindApp, home: Path) -> None:
    async with app.run_test(size=SIZE) as pilot:
        app.ask_for_run(profile="tiny/pretrain", data=str(home / "none.jsonl"))
        await pilot.pause()
        dialog = app.screen
        assert isinstance(dialog, StartDialog)
        await until(pilot, lambda: dialog.query_one("#profiles", OptionList).option_count > 0)
        await pilot.press("ctrl+r")
        assert app.screen is dialog
        assert "does not exist" in str(dialog.query_one("#problem", Static).content)


async def test_keys_follow_the_run(app: MinimindApp, home: Path) -> None:
    _tokenizer()

    def keys() -> set[str]:
        return {active.binding.action for active in app.screen.active_bindings.values()}

    async with app.run_test(size=SIZE) as pilot:
        app.show_run(find_run("tiny-tokenizer"))
        await until(pilot, lambda: app.shown is not None)
        await pilot.pause(1.2)
        assert not app.screen.query_one(CurveGrid).display, "it has no curves: the log has the room"
        assert {"new_run", "pane"} <= keys() and not {"pause", "stop", "resume", "more", "log_y"} & keys()
        app._begin(begin_thread("tiny/long"))
        await until(pilot, lambda: app.own is not None and app.own.history.step >= 3)
        await pilot.pause(1.2)
        assert app.screen.query_one(CurveGrid).display
        assert {"pause", "stop", "detach", "more"} <= keys() and not {"go_on", "resume", "new_run"} & keys()
        await pilot.press("p")
        await until(pilot, lambda: app.own is not None and app.own.state == "paused")
        await pilot.pause(1.2)
        assert "go_on" in keys() and "pause" not in keys()
        await pilot.press("s")
        await until(pilot, lambda: app.own is None)
        await pilot.pause(1.2)
        assert {"resume", "new_run"} <= keys() and "stop" not in keys()


async def test_paths_open_on_their_screens(home: Path) -> None:
    _tokenizer()
    for path, kind in ((find_run("tiny-tokenizer").path, TrainScreen), (home / "tiny.jsonl", DataScreen),
                       (home / "profiles/tiny/long.toml", ProfilesScreen), (home, DataScreen)):  # fmt: skip
        app = MinimindApp(path)
        async with app.run_test(size=SIZE) as pilot:
            await until(pilot, lambda app=app, kind=kind: any(isinstance(each, kind) for each in app.screen_stack))
            await pilot.pause(0.2)


async def test_a_small_terminal_says_so(app: MinimindApp) -> None:
    async with app.run_test(size=(50, 12)) as pilot:
        await pilot.pause()
        said = app.screen.query_one("#too-small")
        assert said.display and said.region == app.screen.region, "nothing else is seen"
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert not said.display and app.screen.query_one("#ladder").has_focus
