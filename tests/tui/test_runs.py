"""The Runs screen by keyboard alone."""

from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Button, Static

from engine.runs.events import Finished
from engine.runs.folder import find_run, list_runs
from engine.runs.history import EventWriter
from engine.session import TrainRequest, begin, train
from minimind_tui.app import MinimindApp
from minimind_tui.screens.chat import ChatScreen
from minimind_tui.screens.compare import CompareScreen
from minimind_tui.screens.dialogs import HelpDialog
from minimind_tui.screens.runs import RunsScreen
from minimind_tui.screens.train import TrainScreen
from minimind_tui.widgets.run_table import RunTable
from minimind_tui.widgets.runs.details import DetailsPane
from minimind_tui.widgets.runs.dialogs import DeleteDialog, NarrowDialog
from tests.tui.conftest import until
from tests.tui.made import BEGAN, make_run

SIZE = (80, 24)


def _screen(app: MinimindApp) -> RunsScreen:
    assert isinstance(app.screen, RunsScreen)
    return app.screen


def _names(app: MinimindApp) -> list[str]:
    return [run.name for run in _screen(app).query_one(RunTable)._runs]


def _details(app: MinimindApp) -> str:
    return str(_screen(app).query_one(DetailsPane).query_one(Static).content)


def _actions(app: MinimindApp) -> set[str]:
    return {active.binding.action for active in app.screen.active_bindings.values()}


async def _open(app: MinimindApp, pilot: Pilot[str], runs: int) -> None:
    await pilot.press("5")
    await until(pilot, lambda: len(_names(app)) == runs)
    await until(pilot, lambda: not runs or bool(_details(app)))


@pytest.fixture
def three(home: Path) -> None:
    make_run("base", stage="pretrain", losses=[0.9, 0.8], at=BEGAN)
    start = {"from": (str(find_run("base").checkpoint(20)), "user"), "seed": (7, "user")}
    make_run("talker", losses=[0.5, 0.4], at=BEGAN + 100, settings=start)
    make_run("broken", status="failed", error="out of memory", at=BEGAN + 200, settings=start)


async def test_a_run_is_looked_into_and_shown(app: MinimindApp, three: None, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    monkeypatch.setattr(MinimindApp, "copy", lambda app, text, what: copied.append(text), raising=False)
    monkeypatch.setattr("minimind_tui.core.opening.sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    async with app.run_test(size=SIZE) as pilot:
        await _open(app, pilot, 3)
        assert _names(app) == ["broken", "talker", "base"]
        await until(pilot, lambda: "out of memory" in _details(app) and "log.txt" in _details(app))
        assert {"resume", "delete", "mark", "chat", "compare"} <= _actions(app)
        await pilot.press("j")
        await until(pilot, lambda: "base@20" in _details(app) and "seed 7" in _details(app))
        assert "What colour is the sea?" in _details(app) and "resume" not in _actions(app)
        await pilot.press("G")
        await until(pilot, lambda: "led to" in _details(app))
        assert "led to     broken, talker" in _details(app)
        await pilot.press("O")
        assert copied == [str(find_run("base").path)], "there is no desktop here"
        await pilot.press("tab")
        assert isinstance(app.focused, DetailsPane)
        await pilot.press("shift+tab", "enter")
        assert isinstance(app.screen, TrainScreen)
        await until(pilot, lambda: app.shown is not None and app.shown.name == "base")
        await pilot.press("5")
        assert _screen(app).chosen is not None and _screen(app).chosen.name == "base", "the place is kept"
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpDialog)


async def test_sorting_and_filtering(app: MinimindApp, three: None) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await _open(app, pilot, 3)
        table = _screen(app).query_one(RunTable)
        for _ in range(4):
            await pilot.press("s")
        assert app.state.get("runs.sort", "") == "stage"
        for _ in range(3):
            await pilot.press("s")
        assert _names(app) == ["talker", "base", "broken"], "by the best validation loss"
        assert "best ▴" in str(table.ordered_columns[5].label)
        await pilot.press("S")
        assert _names(app) == ["broken", "base", "talker"]

        await pilot.press("slash", *"sft", "q")
        assert _names(app) == [] and _screen(app).query_one("#no-runs").display
        await pilot.press("backspace", "enter")
        assert _names(app) == ["broken", "talker"] and app.focused is table
        await pilot.press("f", "j", "enter")
        assert _names(app) == ["broken"] and "1 of 3" in str(table.border_subtitle)
        await pilot.press("escape")
        assert _names(app) == ["broken"] and not _screen(app).query_one("#filter").display
        await pilot.press("escape")
        assert len(_names(app)) == 3 and "back" not in _actions(app)
        await pilot.press("f", "escape", "slash", *"[b]")
        assert "No run fits" in str(app.screen.query_one("#no-runs", Static).content)
        await pilot.press("escape")
        assert len(_names(app)) == 3 and app.focused is table


async def test_marked_runs_are_compared(app: MinimindApp, three: None) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await _open(app, pilot, 3)
        await pilot.press("m")
        assert isinstance(app.screen, RunsScreen), "nothing is marked yet"
        await pilot.press("space")
        assert "1 marked" in str(_screen(app).query_one(RunTable).border_subtitle)
        await pilot.press("m")
        assert isinstance(app.screen, CompareScreen), "the marked one with the one under the cursor"
        assert [run.name for run in app.screen._runs] == ["broken", "talker"]
        await pilot.press("escape")
        await pilot.press("space", "space", "m")
        assert isinstance(app.screen, CompareScreen)
        assert [run.name for run in app.screen._runs] == ["broken", "talker", "base"]
        await pilot.press("escape")
        _screen(app)
        await pilot.press("escape")
        assert not _screen(app)._list.marked


async def test_deleting_asks_and_names_what_goes(app: MinimindApp, three: None) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await _open(app, pilot, 3)
        await pilot.press("G", "x")
        await until(pilot, lambda: isinstance(app.screen, DeleteDialog))
        said = " ".join(str(static.content) for static in app.screen.query(Static))
        assert "2 checkpoints" in said and "not done: broken" in said and "of their own: talker" in said
        assert isinstance(app.focused, Button) and app.focused.id == "cancel", "enter does not delete"
        await pilot.press("enter")
        assert len(list_runs()) == 3
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, DeleteDialog))
        await pilot.press("d")
        await until(pilot, lambda: _names(app) == ["broken", "talker"])
        assert len(list_runs()) == 2
        await pilot.press("g", "space", "space", "x")
        await until(pilot, lambda: isinstance(app.screen, DeleteDialog))
        assert "2 runs" in str(app.screen.query_one(".dialog").border_title)
        await pilot.press("left", "enter")
        await until(pilot, lambda: list_runs() == [])
        await until(pilot, lambda: _screen(app).query_one("#no-runs").display)


async def test_a_running_one_is_not_deleted_and_its_end_is_noticed(app: MinimindApp, three: None) -> None:
    run = make_run("live", status="", at=BEGAN + 900)
    async with app.run_test(size=SIZE) as pilot:
        with run.lock():
            await _open(app, pilot, 4)
            screen = _screen(app)
            await until(pilot, lambda: "Carried by process" in _details(app))
            await pilot.press("x")
            await pilot.pause(0.2)
            assert app.screen is screen and run.path.exists()
            EventWriter(run)(Finished(time=BEGAN + 950, status="done", step=20))
        screen.read_runs()
        await until(pilot, lambda: screen.chosen is not None and screen.chosen.state == "done")
        await until(pilot, lambda: _details(app).startswith("✓ done"))


async def test_an_interrupted_run_goes_on_from_here(app: MinimindApp, home: Path) -> None:
    train(TrainRequest("tiny/tokenizer"))
    begin(TrainRequest("tiny/long"))  # and nobody carries it out
    async with app.run_test(size=SIZE) as pilot:
        await _open(app, pilot, 2)
        await until(pilot, lambda: "interrupted" in _details(app))
        assert "Its process is gone without a word" in _details(app) and "begins it again" in _details(app)
        await pilot.press("r")
        assert isinstance(app.screen, TrainScreen)
        await until(pilot, lambda: app.own is not None and app.own.history.step >= 12)
        await pilot.press("5")
        await until(pilot, lambda: _screen(app).chosen is not None and _screen(app).chosen.state == "running")
        await pilot.press("4", "s")
        await until(pilot, lambda: app.own is None)
        await pilot.press("5")
        await until(pilot, lambda: "from step" in _details(app) and "◐ stopped" in _details(app))
        await pilot.press("c")
        assert isinstance(app.screen, ChatScreen)


async def test_nothing_is_clipped(app: MinimindApp, three: None) -> None:
    make_run("x" * 100, status="", steps=1, total=1_000_000, at=BEGAN + 900)
    async with app.run_test(size=(60, 16)) as pilot:
        await _open(app, pilot, 4)
        table, details = _screen(app).query_one(RunTable), _screen(app).query_one(DetailsPane)
        for size in ((60, 16), (80, 24), (120, 40)):
            await pilot.resize_terminal(*size)
            await pilot.pause(0.1)
            assert sum(column.width for column in table.columns.values()) <= table.size.width
            heads = [str(column.label) for column in table.ordered_columns]
            assert {"name", "state", "step"} <= set(heads) and ("profile" in heads) == (size[0] >= 120)
            assert details.size.height >= 3
        await pilot.resize_terminal(60, 16)
        await pilot.press("slash", *"base")
        assert table.size.height >= 2


async def test_without_runs_it_says_where_to_begin(app: MinimindApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("5")
        await pilot.pause(0.3)
        assert "starter world" in str(app.screen.query_one("#no-runs", Static).content)
        await pilot.press("x", "m", "r", "slash", "f", "enter")
        assert isinstance(app.screen, RunsScreen)


async def test_hostile_names_stay_text(app: MinimindApp, home: Path) -> None:
    settings = {"note": ("\x1b[31m[b]red[/b]\x9b", "user")}
    make_run("one", status="failed", error="\x1b]0;title\x07 [bold]", settings=settings, answer="\x1b[2J")
    async with app.run_test(size=SIZE) as pilot:
        await _open(app, pilot, 1)
        await until(pilot, lambda: "[bold]" in _details(app))
        assert not {"\x1b", "\x9b", "\x07"} & set(_details(app)) and "[b]red[/b]" in _details(app)
        await pilot.press("f")
        assert isinstance(app.screen, NarrowDialog)
