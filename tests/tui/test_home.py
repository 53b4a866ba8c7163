"""The Home screen by keyboard alone."""

from pathlib import Path

import pytest
from textual.widgets import Static

from minimind_tui.app import MinimindApp
from minimind_tui.core.machine import describe_machine
from minimind_tui.screens.home import HomeScreen
from minimind_tui.screens.runs import RunsScreen
from minimind_tui.screens.start import StartDialog
from minimind_tui.screens.train import TrainScreen
from minimind_tui.widgets.file_dialog import FileDialog
from minimind_tui.widgets.ladder import Ladder
from minimind_tui.widgets.run_table import RunTable
from tests.tui.conftest import until
from tests.tui.made import BEGAN, make_run


def _next(app: MinimindApp) -> str:
    return str(app.screen.query_one("#next-step", Static).content)


def _rungs(app: MinimindApp) -> dict[str, list[str]]:
    table = app.screen.query_one(Ladder)
    rows = ([str(cell).strip() for cell in table.get_row_at(row)] for row in range(table.row_count))
    return {row[1]: row for row in rows}


async def test_a_first_start_offers_the_starter_world(app: MinimindApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "No runs yet" in _next(app))
        assert "s" in {active.binding.key for active in app.screen.active_bindings.values()}
        assert app.screen.query_one("#no-runs").display
        assert _rungs(app)["tokenizer"][:3] == ["→", "tokenizer", "next"]
        await pilot.press("enter")
        assert isinstance(app.screen, StartDialog)


async def test_the_ladder_shows_what_each_stage_has(app: MinimindApp) -> None:
    make_run("words", stage="tokenizer", steps=0)
    make_run("base", stage="pretrain", losses=[0.9, 0.8], at=BEGAN + 100)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: _rungs(app)["pretrain"][0] == "✓")
        assert _rungs(app)["pretrain"][2:6] == ["base", "done", "0.8 val loss", "talk.jsonl"]
        assert _rungs(app)["sft"][:3] == ["→", "sft", "next"]
        ladder = app.screen.query_one(Ladder)
        assert ladder.selected is not None and ladder.selected.stage.name == "sft"
        await until(pilot, lambda: "only the assistant's words" in str(ladder.border_subtitle))
    wide = MinimindApp()
    async with wide.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "Supervised fine-tuning" in _rungs(wide))


async def test_a_low_terminal_shows_the_newest_runs_only(app: MinimindApp) -> None:
    for number in range(12):
        make_run(f"run-{number:02}", steps=1, at=BEGAN + 100 * number)
    async with app.run_test(size=(80, 24)) as pilot:
        table = app.screen.query_one(RunTable)
        await until(pilot, lambda: "of 12 · 5 shows all" in str(table.border_subtitle))
        assert table.row_count < 12 and str(table.get_row_at(0)[1]) == "run-11"
        assert table.virtual_size.height <= table.size.height, "nothing to scroll"
        await pilot.resize_terminal(80, 50)
        await until(pilot, lambda: table.row_count == 12)
        await pilot.press("5")
        assert isinstance(app.screen, RunsScreen)


async def test_an_interrupted_run_is_offered_to_go_on(app: MinimindApp) -> None:
    make_run("old")
    make_run("cut", status="", at=BEGAN + 500)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "cut was interrupted" in _next(app))
        await pilot.press("tab")
        assert "resume" in {active.binding.action for active in app.screen.active_bindings.values()}
        await pilot.press("enter")
        assert isinstance(app.screen, TrainScreen)
        await until(pilot, lambda: app.shown is not None and app.shown.name == "cut")


async def test_a_run_carried_elsewhere_is_named(app: MinimindApp) -> None:
    run = make_run("live", status="", at=BEGAN + 500)
    with run.lock():
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "process of its own" in _next(app))


async def test_a_data_file_is_asked_for(app: MinimindApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("o")
        assert isinstance(app.screen, FileDialog)
        await pilot.press("escape")
        assert isinstance(app.screen, HomeScreen)


def test_the_machine_and_its_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home.parent))
    has, place = describe_machine("cpu").split("\n")
    assert "core" in has and "memory free" in has and "disk free" in has and has.endswith("cpu")
    assert place == f"~/{home.name}"
    monkeypatch.setenv("HOME", "/nowhere")
    assert describe_machine("cpu").endswith(f"\n{home}")
