"""Every stage in the app by keyboard: started, shown, resumed; its rollouts, adapters and figures."""

import json
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Input, OptionList, Select, Static

from engine.references import checkpoint_folder
from engine.runs.folder import RunFolder, find_run
from engine.settings.registry import STAGES
from minimind_tui.app import MinimindApp
from minimind_tui.core.charts import charts
from minimind_tui.screens.data import DataScreen
from minimind_tui.screens.dialogs import ErrorDialog
from minimind_tui.screens.evaluate import EvaluateDialog
from minimind_tui.screens.home import HomeScreen
from minimind_tui.screens.start import StartDialog
from minimind_tui.screens.train import TrainScreen
from minimind_tui.widgets.chat.dialogs import CheckpointDialog
from minimind_tui.widgets.chat.pane import ChatPane
from minimind_tui.widgets.curve import Curve
from minimind_tui.widgets.data.group_view import GroupView
from minimind_tui.widgets.data.list_dialog import ListDialog
from minimind_tui.widgets.data.row_list import RowList
from minimind_tui.widgets.data.row_pane import RowPane
from minimind_tui.widgets.ladder import Ladder
from minimind_tui.widgets.token_view import TokenView
from tests.stages.started import world, world_and_start
from tests.training.tiny import OF_STAGE, TRAINING, World
from tests.tui.conftest import until

__all__ = ["world", "world_and_start"]

SIZE = (80, 24)


def _profile(world: World, home: Path, stage: str, **changes: Any) -> str:
    """A profile of the tiny world, the only one that ends the list of its stage."""
    values = {**TRAINING, **OF_STAGE[stage], "data": str(world.data(stage)), "from": "start", **changes}
    folder = home / "profiles" / "tiny"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{name} = {_toml(value)}\n" for name, value in values.items() if value is not None]
    (folder / f"{stage}.toml").write_text(f'stage = "{stage}"\n' + "".join(lines))
    return f"tiny/{stage}"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {weight}" for name, weight in value.items()) + " }"
    return json.dumps(value)


@pytest.fixture
def place(world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home that the start run is in."""
    return find_run("start").path.parent.parent


async def _ask_for(pilot: Pilot[Any], stage: str) -> StartDialog:
    """From the ladder into the start dialog, with the last profile of the stage chosen."""
    app = pilot.app
    await until(pilot, lambda: isinstance(app.screen, HomeScreen) and app.screen.query_one(Ladder).row_count > 0)
    app.screen.query_one(Ladder).focus()
    await pilot.press("g", *["j"] * list(STAGES).index(stage), "enter")
    dialog = app.screen
    assert isinstance(dialog, StartDialog) and dialog.query_one("#stage", Select).value == stage
    await until(pilot, lambda: bool(dialog._profiles))
    await pilot.press("end")
    await until(pilot, lambda: dialog._highlighted == f"tiny/{stage}")
    return dialog


@pytest.mark.parametrize("stage", OF_STAGE)
async def test_a_stage_is_started_and_shown(world: World, place: Path, stage: str) -> None:
    _profile(world, place, stage)
    app = MinimindApp()
    async with app.run_test(size=SIZE) as pilot:
        await _ask_for(pilot, stage)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: app.shown is not None and app.own is None and not app.shown.alive)
        live, screen = app.shown, app.screen
        assert live is not None and live.state == "done" and isinstance(screen, TrainScreen)
        await until(pilot, lambda: any(curve.display and "┤" in _drawn(curve) for curve in screen.query(Curve)))
        found = charts(live.history)
        drawn = {id(trace.series) for chart in found for trace in chart.curves}
        assert drawn >= {id(series) for series in live.history.curves.values()}, "every metric has its chart"
        assert not any("_" in chart.title for chart in found)
        assert live.history.leading(), "something says what was learnt"


def _drawn(curve: Curve) -> str:
    return "\n".join(curve.render_line(y).text for y in range(curve.content_size.height))


async def test_what_a_stage_needs_besides_is_a_field_of_its_own(world: World, place: Path) -> None:
    _profile(world, place, "distill", teacher=None)
    app = MinimindApp()
    async with app.run_test(size=SIZE) as pilot:
        dialog = await _ask_for(pilot, "distill")
        assert not dialog.query_one("#reward_model-row").display and not dialog.query_one("#critic_from-row").display
        await pilot.press("ctrl+r")
        problem, entry = dialog.query_one("#problem", Static), dialog.query_one("#teacher", Input)
        await until(pilot, lambda: "no teacher is named" in str(problem.content))
        assert "name one under teacher" in str(problem.content) and entry.has_focus
        await pilot.press(*"nobody", "enter")
        await until(pilot, lambda: "teacher: there is no run 'nobody'" in str(problem.content))
        assert entry.has_focus and app.screen is dialog
        await pilot.press("ctrl+u", "down")
        assert entry.value == "start"
        await until(pilot, lambda: "--set teacher=start" in str(dialog.query_one("#command", Static).content))
        await pilot.press("ctrl+r")
        await until(pilot, lambda: app.shown is not None and app.shown.state == "done")
        again = StartDialog.again(app.state.get("start.choice", {}))
        app.push_screen(again)
        await until(pilot, lambda: again.is_mounted and bool(again._profiles))
        assert again.query_one("#teacher", Input).value == "start" and not again._assignments


@pytest.fixture
def learnt(world: World) -> RunFolder:
    """A finished run of groups of four, with a judged pair of answers in each."""
    return world.trained("grpo", rewards={"length": 1.0, "repetition": 0.5, "tags": 0.25})


async def test_a_stopped_run_of_answers_goes_on(world: World, place: Path) -> None:
    _profile(world, place, "grpo", max_steps=100_000)
    app = MinimindApp()
    async with app.run_test(size=SIZE) as pilot:
        await _ask_for(pilot, "grpo")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: app.own is not None and app.own.history.step > 4)
        await pilot.press("s")
        await until(pilot, lambda: app.own is None)
        assert app.shown is not None and app.shown.state == "stopped"
        step, size = app.shown.history.step, app.shown.run.rollouts.stat().st_size  # type: ignore[union-attr]
        await until(pilot, lambda: "resume" in {key.binding.action for key in app.screen.active_bindings.values()})
        await pilot.press("r")
        await until(pilot, lambda: app.own is not None and app.own.history.step > step)
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, DataScreen) and _row(app.screen) is not None)
        assert app.screen._rows.size >= size  # type: ignore[attr-defined]
        await pilot.press("4", "s")
        await until(pilot, lambda: app.own is None)


def _row(screen: Any) -> int | None:
    look = screen.query_one(RowPane).look
    return look.row if look else None


@pytest.mark.parametrize("size", [SIZE, (120, 40)])
async def test_the_group_of_a_rollout(learnt: RunFolder, size: tuple[int, int]) -> None:
    app = MinimindApp(learnt.path)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: isinstance(app.screen, TrainScreen) and app.shown is not None)
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, DataScreen) and bool(app.screen.query("#switches")))
        screen: Any = app.screen
        await until(pilot, lambda: _row(screen) is not None and screen._rows.indexed)
        last = screen._rows.known - 1
        await until(pilot, lambda: _row(screen) == last)
        pane, view = screen.query_one(RowPane), screen.query_one(GroupView)
        tokens = screen.query_one("#tokens", TokenView)
        group = pane.look.group
        assert {each.round for each in group} == {3} and len({each.row for each in group}) == len(group) > 1
        assert screen._reading.stage == "grpo" and screen._reading.tokenizer == str(learnt.path)
        shown = str(view.content)
        assert f"round 3 · answer {len(group)} of {len(group)}" in shown and "advantage" in shown
        assert ("tags" in shown) == (size != SIZE), "reward by part, as far as there is room"
        assert tokens.cursor == pane.labelled.begin and "sampled with log p" in tokens.detail()[0]
        assert tokens.size.height >= 3 and view.region.bottom <= tokens.region.y
        await pilot.press("enter", "comma")
        await until(pilot, lambda: _row(screen) == last - 1)
        assert tokens.has_focus and screen.query_one(RowList).row == last - 1
        await pilot.press("full_stop")
        await until(pilot, lambda: _row(screen) == last)
        await pilot.press("full_stop")
        await until(pilot, lambda: _row(screen) == group[0].row)

        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, ListDialog))
        await until(pilot, lambda: app.screen.query_one(OptionList).highlighted is not None)
        await pilot.press("enter")
        await until(pilot, lambda: "ratio" in " ".join(tokens.detail()))
        assert screen._judge_names[0] == f"{learnt.name}@newest", "its own run is offered first"
        assert "moved since" in str(tokens.legend()) and "now" in pane.look.notes[0]

        screen.open(learnt.path.parent.parent / "none.jsonl")
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog))
        await pilot.press("escape")
        usual = learnt.path / "usual.jsonl"
        usual.write_text('{"text": "running text"}\n' * 3)
        screen.open(usual)
        await until(pilot, lambda: screen._rows.path == usual and _row(screen) == 0)
        assert not view.display and screen._reading.tokenizer == "" and screen._reading.max_seq_len > 24


async def test_adapters_are_switched_in_the_chat(world: World, place: Path) -> None:
    for name, seed in (("one", 1), ("two", 2)):
        world.trained("lora", name, seed=seed, learning_rate=0.5)
    state = place / "state" / "tui.json"
    state.parent.mkdir(exist_ok=True)
    kept = {"chat.sampling": {"max_new_tokens": 4, "seed": 3}, "chat.reference": "start@newest"}
    state.write_text(json.dumps(kept))
    app = MinimindApp()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        await pilot.press("6")
        pane = app.screen.query_one(ChatPane)
        await until(pilot, lambda: pane.reference == "start@newest")
        await pilot.press(*"hi", "enter")
        await until(pilot, lambda: len(pane.conversation.turns) == 2 and not pane.busy)
        first = next(iter(pane._partners._kept.values()))
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(app.screen, CheckpointDialog) and bool(app.screen._offers))
        offers = app.screen._offers  # type: ignore[attr-defined]
        assert {offer.reference for offer in offers if "same model" in offer.note} == {
            "start@newest", "one@newest", "two@newest"}  # fmt: skip
        await pilot.press("slash", *"two@", "enter")
        await until(pilot, lambda: pane.reference == "two@newest")
        await pilot.press(*"hi", "enter")
        await until(pilot, lambda: len(pane.conversation.turns) == 4 and not pane.busy)
        assert [*pane._partners._kept.values()] == [first], "the model was not loaded again"
        assert first.adapter is not None and first.adapter.folder == checkpoint_folder("two")
        assert pane.conversation.turns[-1].speaker == "two step 8"


async def test_figures_of_questions_and_of_pairs(world: World, place: Path) -> None:
    world.trained("reward")
    rows = place / "asked.jsonl"
    rows.write_text('{"prompt": "0: who gives?", "answer": "Ann", "kind": "who"}\n' * 4)
    app = MinimindApp()
    cases = {("start", str(rows)): ("exact match", "pass at 1", "format rate", "distinct 1", "pass at 1 by kind"),
             ("start", str(world.pairs)): ("pair accuracy", "pair accuracy per token", "pairs"),
             ("reward", str(world.pairs)): ("pair accuracy", "margin", "calibration error")}  # fmt: skip
    async with app.run_test(size=SIZE) as pilot:
        for (checkpoint, data), names in cases.items():
            dialog = EvaluateDialog(checkpoint, data)
            app.push_screen(dialog)
            await until(pilot, lambda dialog=dialog: dialog.is_mounted)
            dialog.query_one("#tokens", Input).value = "4"
            await pilot.press("ctrl+r")
            await until(pilot, lambda dialog=dialog: dialog.query_one("#found").display)
            figures = str(dialog.query_one("#figures").query_one(Static).content)
            for name in names:
                assert name in figures, (name, figures)
            assert "%" in figures.splitlines()[0], "what is right comes first"
            assert dialog.query_one("#asked").display == (data == str(rows))
            if data == str(rows):
                table = dialog.query_one("#questions", DataTable)
                assert {str(table.get_row_at(row)[0]) for row in range(4)} <= {"✗", "✓"}
            await pilot.press("escape")
