"""The log pane, errors that nobody expected, and the start after a crash."""

from textual.widgets import Static

from engine.runs.folder import create_run
from engine.session import TrainRequest, train
from minimind_tui.__main__ import rescue
from minimind_tui.app import MinimindApp
from minimind_tui.core.applog import note
from minimind_tui.core.crash import Crash
from minimind_tui.core.live import begin_thread
from minimind_tui.screens.dialogs import CrashDialog, ErrorDialog
from minimind_tui.screens.log import LogScreen
from minimind_tui.state import log_path
from minimind_tui.widgets.log_lines import LogLines
from tests.tui.conftest import until

SIZE = (80, 24)


def _shown(lines: LogLines) -> str:
    return "\n".join(lines.render_line(y).text for y in range(lines.size.height))


async def test_the_log_follows_holds_and_is_cleaned(app: MinimindApp) -> None:
    note("\n".join(f"line {number}" for number in range(100)))
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("ctrl+l")
        assert isinstance(app.screen, LogScreen)
        lines = app.screen.query_one(LogLines)
        await until(pilot, lambda: "line 99" in _shown(lines))
        note("\x1b[2Jhostile 你好 \u202e")
        await until(pilot, lambda: "␛[2Jhostile 你好 <U+202E>" in _shown(lines))
        await pilot.press("g")
        await until(pilot, lambda: "line 1\n" in _shown(lines).replace(" \n", "\n") or "line 1 " in _shown(lines))
        note("unseen")
        app.screen.look()
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert "unseen" not in _shown(lines), "scrolled up, it stays where it is"
        await pilot.press("G")
        await until(pilot, lambda: "unseen" in _shown(lines))
        await pilot.press("y")
        await until(pilot, lambda: app.clipboard == str(log_path()))
        await pilot.press("escape")
        assert not isinstance(app.screen, LogScreen)


async def test_a_line_that_is_too_long_is_reached_by_scrolling(app: MinimindApp) -> None:
    note("x" * 200 + " its end")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("ctrl+l")
        lines = app.screen.query_one(LogLines)
        await until(pilot, lambda: "xxx" in _shown(lines))
        assert "its end" not in _shown(lines)
        lines.scroll_to(x=500, animate=False)
        await until(pilot, lambda: "its end" in _shown(lines))


async def test_a_workers_error_ends_in_a_dialog_with_the_logs_path_and_the_app_lives(app: MinimindApp) -> None:
    def fail() -> None:
        raise ValueError("a shape [b]nobody[/b] expected")

    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        app.run_worker(fail, thread=True, exit_on_error=False)
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog), 20)
        said = str(app.screen._message())  # type: ignore[attr-defined]
        assert "ValueError: a shape [b]nobody[/b] expected" in said and "tui.log" in said
        await pilot.press("escape", "6")
        assert app.is_running
    assert "Traceback" in log_path().read_text()


async def test_a_screens_workers_error_ends_there_too(app: MinimindApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        app.screen.run_worker(lambda: 1 / 0, thread=True, exit_on_error=False)
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog), 20)
        assert "ZeroDivisionError" in str(app.screen._message())  # type: ignore[attr-defined]


async def test_the_run_of_an_app_that_ended_by_an_error_is_saved(app: MinimindApp) -> None:
    train(TrainRequest("tiny/tokenizer"))
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        app._begin(begin_thread("tiny/long"))
        await until(pilot, lambda: app.own is not None and app.own.history.step >= 3)
    assert app.own is not None and app.own.alive
    said = rescue(app.own)
    assert "is saved at step" in said and not app.own.alive
    assert app.own.run is not None and app.own.run.state() == "stopped"
    assert rescue(app.own) == "" == rescue(None)


async def test_a_crash_is_told_with_what_is_saved_and_what_is_known(app: MinimindApp) -> None:
    answers: list[str | None] = []
    crash = Crash(create_run("left-behind"), 1200, ("The machine was started again after that.",))
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        for key in ("r", "o", "escape", "enter"):
            app.push_screen(CrashDialog(crash), answers.append)
            await pilot.pause()
            said = " ".join(str(text.content) for text in app.screen.query(Static))
            assert "left-behind" in said and "up to step 1,200" in said and "started again" in said
            region = app.screen.query_one(".dialog").region
            assert region.bottom <= 24 and app.screen.query_one("#later").region.right < region.right
            await pilot.press(key)
    assert answers == ["resume", "look", "", "resume"]
