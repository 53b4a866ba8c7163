"""The Compare screen by keyboard alone."""

import threading
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from engine.errors import EngineError
from engine.runs.events import Evaluated
from engine.runs.folder import RunFolder
from engine.runs.history import EventWriter
from minimind_tui.app import MinimindApp
from minimind_tui.core.compare import News
from minimind_tui.screens.compare import CompareScreen
from minimind_tui.screens.dialogs import ErrorDialog
from minimind_tui.widgets.curve import Curve
from minimind_tui.widgets.runs.compare_answers import CompareAnswers
from minimind_tui.widgets.runs.compare_curves import CompareCurves
from minimind_tui.widgets.runs.compare_table import CompareTable
from tests.tui.conftest import until
from tests.tui.made import make_run


@pytest.fixture
def two(home: Path) -> list[RunFolder]:
    return [
        make_run("one", losses=[0.5, 0.9], settings={"learning_rate": (1e-3, "profile p")}, answer="Blue."),
        make_run("two", losses=[0.6, 0.7], settings={"learning_rate": (5e-4, "user")}, answer="\x1b[31m绿色的海"),
    ]


async def _compare(app: MinimindApp, pilot: Pilot[str], runs: list[RunFolder]) -> CompareScreen:
    screen = CompareScreen(runs)
    await pilot.pause()
    await app.push_screen(screen)
    await until(pilot, lambda: screen._comparison is not None)
    await pilot.pause()
    return screen


def _painted(curve: Curve) -> str:
    return "\n".join(curve.render_line(y).text for y in range(curve.content_size.height))


async def test_curves_lie_over_each_other(app: MinimindApp, two: list[RunFolder]) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await _compare(app, pilot, two)
        shown = [curve for curve in screen.query(Curve) if curve.display]
        assert str(shown[0].border_title).startswith("validation loss") and len(shown) == 4
        await until(pilot, lambda: "A" in _painted(shown[0]) and "B" in _painted(shown[0]))
        assert "A 0.9" in str(shown[0].border_subtitle) and "B 0.7" in str(shown[0].border_subtitle)
        await pilot.press("y", "v")
        view = screen.query_one(CompareCurves).view
        assert view.log_y and not view.whole
        assert app.state.get("compare.log_y", False) and not app.state.get("compare.whole", True)
        await pilot.press("left")
        assert "step" in str(shown[0].border_subtitle)
        await pilot.press("x")
        assert screen.query_one(CompareCurves).view.smoothing == "light"
        await pilot.press("enter")
        assert len([curve for curve in screen.query(Curve) if curve.display]) == 1
        await pilot.press("m", "m", "M")
        assert str(shown[0].border_title).startswith("loss")
        await pilot.press("z")
        assert len([curve for curve in screen.query(Curve) if curve.display]) == 4
        await pilot.press("escape")
        assert app.screen is not screen


async def test_numbers_mark_the_better_one_with_a_star(app: MinimindApp, two: list[RunFolder]) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await _compare(app, pilot, two)
        await pilot.press("2")
        await pilot.pause()
        table = screen.query_one("#numbers", CompareTable)
        rows = {str(table.get_row_at(row)[0]).strip(): [str(cell) for cell in table.get_row_at(row)[1:]]
                for row in range(table.row_count)}  # fmt: skip
        assert rows["best val loss"] == ["★ 0.5", "  0.6"] and rows["last val loss"] == ["  0.9", "★ 0.7"]
        assert not {"more", "log_y"} & {active.binding.action for active in screen.active_bindings.values()}


async def test_settings_that_differ_are_explained_below(app: MinimindApp, two: list[RunFolder]) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await _compare(app, pilot, two)
        await pilot.press("right_square_bracket", "right_square_bracket")
        await pilot.pause()
        table = screen.query_one("#settings", CompareTable)
        assert [str(cell).strip() for cell in table.get_row_at(0)] == ["learning_rate", "P 0.001", "U 0.0005"]
        assert table.row_count == 1
        said = str(screen.query_one("#origins", Static).content)
        assert "A 0.001  profile p" in said and "B 0.0005  user" in said
        await pilot.press("left_square_bracket")
        await pilot.pause()
        assert screen.view == "numbers" and not screen.query_one("#origins").display


@pytest.mark.parametrize(("size", "beside"), [((80, 24), True), ((60, 16), False)])
async def test_samples_side_by_side(
    app: MinimindApp, two: list[RunFolder], size: tuple[int, int], beside: bool
) -> None:
    runs = two if beside else [*two, make_run("three", stage="tokenizer", steps=0)]
    async with app.run_test(size=size) as pilot:
        screen = await _compare(app, pilot, runs)
        await pilot.press("4")
        answers = screen.query_one(CompareAnswers)
        await until(pilot, lambda: len(answers.query(".answer")) == len(runs))
        await pilot.pause()
        first, second = list(answers.query(".answer"))[:2]
        assert (first.region.y == second.region.y) == beside
        assert "Blue." in str(first.content) and "绿色的海" in str(second.content)  # type: ignore[attr-defined]
        assert "\x1b" not in str(second.content)  # type: ignore[attr-defined]
        assert beside or "was not asked" in str(list(answers.query(".answer"))[2].content)  # type: ignore[attr-defined]


async def test_runs_that_go_on_are_followed(app: MinimindApp, two: list[RunFolder]) -> None:
    live = make_run("live", status="")
    with live.lock():
        async with app.run_test(size=(80, 24)) as pilot:
            screen = await _compare(app, pilot, [two[0], live])
            EventWriter(live)(Evaluated(step=21, metrics={"val_loss": 0.125}))
            screen._poll()
            await until(pilot, lambda: "B 0.125" in str(screen.query(Curve).first().border_subtitle))


async def test_one_reading_at_a_time(app: MinimindApp, two: list[RunFolder], monkeypatch: pytest.MonkeyPatch) -> None:
    live, begun, go_on = make_run("live", status=""), [], threading.Event()
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await _compare(app, pilot, [two[0], live])
        comparison = screen._comparison
        assert comparison is not None
        poll = comparison.poll

        def slow() -> list[News]:
            begun.append(1)
            go_on.wait(60)
            return poll()

        monkeypatch.setattr(comparison, "poll", slow)
        EventWriter(live)(Evaluated(step=21, metrics={"val_loss": 0.125}))
        screen._poll()
        await until(pilot, lambda: begun == [1])
        screen._poll()
        await pilot.pause(0.1)
        assert begun == [1]
        go_on.set()
        await until(pilot, lambda: "B 0.125" in str(screen.query(Curve).first().border_subtitle))
        screen._poll()
        await until(pilot, lambda: len(begun) > 1)


async def test_help_above_keeps_its_place_when_the_runs_cannot_be_read(
    app: MinimindApp, two: list[RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    two[1].resolved.write_text("{")
    go_on, refused = threading.Event(), list[EngineError]()
    monkeypatch.setattr("minimind_tui.core.plot.load", lambda: go_on.wait(60))
    refuse = CompareScreen._refuse

    def noted(screen: CompareScreen, error: EngineError) -> None:
        refuse(screen, error)
        refused.append(error)

    monkeypatch.setattr(CompareScreen, "_refuse", noted)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        home, screen = app.screen, CompareScreen(two)
        await app.push_screen(screen)
        await pilot.press("f1")
        above = app.screen
        assert above is not screen
        go_on.set()
        await until(pilot, lambda: bool(refused))
        await pilot.pause()
        assert app.screen is above
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog))
        await pilot.press("escape")
        assert app.screen is home


async def test_runs_that_cannot_be_read_end_in_a_dialog(app: MinimindApp, two: list[RunFolder]) -> None:
    two[1].resolved.write_text("{")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await app.push_screen(CompareScreen(two))
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog))
        await pilot.press("escape")
        assert not isinstance(app.screen, CompareScreen)


async def test_six_runs_fit(app: MinimindApp, home: Path) -> None:
    runs = [make_run(f"a-rather-long-name-{number}") for number in range(6)]
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await _compare(app, pilot, runs)
        assert all(f"a-rather-long-name-{number}" in str(screen.query_one("#legend", Static).content)
                   for number in range(6))  # fmt: skip
        await pilot.press("2")
        await pilot.pause()
        table = screen.query_one("#numbers", CompareTable)
        assert sum(column.width for column in table.columns.values()) <= table.size.width
        assert len(table.columns) == 7
