"""The Train screen by keyboard, with tiny real runs and with runs' folders as the engine writes them."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Input, OptionList, Static, TextArea

from engine.runs.events import CheckpointSaved, Evaluated, Finished, NonFiniteStep, RunStarted, Sampled, Step, Warned
from engine.runs.folder import RunFolder, create_run, find_run
from engine.runs.history import EventWriter
from engine.session import TrainRequest, train
from minimind_tui.app import MinimindApp
from minimind_tui.core.choice import DATA, NAME, SETTINGS, Choice
from minimind_tui.core.live import begin_thread
from minimind_tui.screens.evaluate import EvaluateDialog
from minimind_tui.screens.start import StartDialog
from minimind_tui.screens.train import TrainScreen
from minimind_tui.screens.train_dialogs import CompareDialog, LogFileDialog, LogIntervalDialog, StopNowDialog
from minimind_tui.widgets.chat.pane import ChatPane
from minimind_tui.widgets.curve import Curve
from minimind_tui.widgets.curve_grid import CurveGrid
from minimind_tui.widgets.panes import LogPane, SamplesPane
from minimind_tui.widgets.progress_panel import ProgressPanel
from minimind_tui.widgets.train.alert_line import AlertLine
from minimind_tui.widgets.train.end_panel import EndPanel
from tests.tui.conftest import until

SIZE = (80, 24)


def told(name: str, *, steps: int = 40, shift: float = 0.0, status: str = "done", warned: bool = False) -> RunFolder:
    """The folder of a run that has said all this."""
    run = create_run(name)
    run.resolved.write_text(json.dumps({"stage": "sft", "profile": "tiny/sft"}))
    run.log.write_text("the log file of " + name + "\n")
    write = EventWriter(run)
    write(RunStarted(time=1e9, stage="sft", total_steps=steps, parameters=2_066_368, trainable_parameters=2_066_368,
                     device="cpu", dtype="float32", threads=2))  # fmt: skip
    for step in range(1, steps + 1):
        metrics = {"loss": 6 * math.exp(-step / 20) + 0.3 + shift + 0.1 * math.sin(step), "learning_rate": 1e-3,
                   "grad_norm": 1.0, "tokens_per_second": 5e3, "trained_share": 0.4, "memory_bytes": 5e8}  # fmt: skip
        write(Step(time=1e9 + step, step=step, epoch=step / steps, tokens=step * 600, metrics=metrics))
        if step % 10 == 0:
            write(Evaluated(time=1e9 + step, step=step, metrics={"val_loss": metrics["loss"] + 0.2}))
            for prompt in ("Where does Mona live?", "莫娜住在哪里？"):
                said = f"{prompt} at {step}"
                write(Sampled(time=1e9 + step, step=step, prompt=prompt, text=said, stop_reason="stop"))
            write(CheckpointSaved(time=1e9 + step, step=step, path="x", best=step == 30, seconds=0.1))
    if warned:
        write(NonFiniteStep(time=1e9 + steps, step=steps, what="loss", rows=[7]))
        write(Warned(time=1e9 + steps, name="grad_norm_exploding", message="40 times its median", step=steps))
    if status:
        write(Finished(time=1e9 + steps, status=status, step=steps, error="rows 7" if status == "failed" else ""))
    write.close()
    return run


async def _shown(pilot: Pilot[Any], app: MinimindApp, run: RunFolder) -> TrainScreen:
    app.show_run(run)
    await until(pilot, lambda: app.shown is not None and app.shown.run == run)
    screen = app.screen
    assert isinstance(screen, TrainScreen)
    await until(pilot, lambda: any(drawn(curve) for curve in screen.query(Curve)))
    return screen


def drawn(curve: Curve) -> str:
    """A chart's cells, empty while there is no drawing."""
    text = "\n".join(curve.render_line(y).text for y in range(curve.content_size.height)) if curve.display else ""
    return text if "┤" in text else ""


def _keys(app: MinimindApp) -> set[str]:
    return {active.binding.action for active in app.screen.active_bindings.values() if active.enabled}


def _text(screen: TrainScreen, kind: type[Any]) -> str:
    found = screen.query_one(kind)
    return str((found if isinstance(found, Static) else found.query_one(Static)).content)


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (100, 30), (120, 40), (200, 60)])
async def test_nothing_is_clipped_at_any_size(app: MinimindApp, size: tuple[int, int]) -> None:
    run = told("one", warned=True)
    async with app.run_test(size=size) as pilot:
        screen = await _shown(pilot, app, run)
        for widget in screen.query("ProgressPanel, AlertLine, Curve, LogPane, SamplesPane, EndPanel, Footer"):
            if widget.region and widget.display:
                assert screen.region.contains_region(widget.region), (widget, widget.region)
        footer = [active for active in screen.active_bindings.values() if active.binding.show and active.enabled]
        assert len({active.binding.action for active in footer}) <= 6


async def test_views_of_the_curves_by_keyboard(app: MinimindApp) -> None:
    run = told("one", steps=400)
    async with app.run_test(size=SIZE) as pilot:
        screen = await _shown(pilot, app, run)
        grid, curve = screen.query_one(CurveGrid), screen.query(Curve).first()
        whole = drawn(curve)
        await pilot.press("v")
        await until(pilot, lambda: drawn(curve) != whole)
        await pilot.press("g")
        assert curve.cross_step is not None and curve.cross_step > 300
        await pilot.press("escape", "v", "y")
        assert "log y" in str(screen.query_one(ProgressPanel).border_subtitle)
        assert drawn(curve) != whole
        await pilot.press("x")
        assert grid.view.smoothing == "light"
        await pilot.press("x", "x", "y")
        assert (grid.view.smoothing, drawn(curve)) == ("off", whole)
        title = str(curve.border_title)
        await pilot.press("m")
        assert grid.page == 1 and str(curve.border_title) != title
        await pilot.press("M")
        assert grid.page == 0 and app.state.get("train.whole", False) is True


async def test_a_crosshair_reads_values_and_escape_backs_out_one_level_at_a_time(app: MinimindApp) -> None:
    run = told("one", steps=40)
    async with app.run_test(size=SIZE) as pilot:
        screen = await _shown(pilot, app, run)
        first, second = list(screen.query(Curve))[:2]
        first.focus()
        await pilot.press("left")
        assert str(first.border_subtitle).startswith("step 40: ") and "validation" in str(first.border_subtitle)
        await pilot.press("g")
        step, values = str(first.border_subtitle).split(": ")
        expected = screen.mini.shown.history.curves["loss"].values[0]  # type: ignore[union-attr]
        assert step == "step 1" and float(values.split(" · ")[0]) == pytest.approx(expected, rel=1e-3)
        await pilot.press("tab", "enter")
        assert screen.query_one(CurveGrid).alone and str(screen.focused.border_title).startswith("learning")  # type: ignore[union-attr]
        assert not screen.query_one(LogPane).region
        await pilot.press("right", "escape")
        assert screen.query_one(CurveGrid).alone, "the crosshair goes first"
        await pilot.press("escape")
        assert not screen.query_one(CurveGrid).alone and screen.focused is second
        await pilot.press("z", "z")
        assert not screen.query_one(CurveGrid).alone


async def test_the_mouse_reads_values_too(app: MinimindApp) -> None:
    run = told("one")
    async with app.run_test(size=SIZE) as pilot:
        screen = await _shown(pilot, app, run)
        curve = screen.query(Curve).first()
        await pilot.hover(Curve, offset=(20, 3))
        assert str(curve.border_subtitle).startswith("step ")
        assert "┊" in drawn(curve)
        await pilot.hover(LogPane)
        assert not str(curve.border_subtitle).startswith("step ")


async def test_other_runs_are_drawn_beside_it_and_taken_away(app: MinimindApp) -> None:
    one, _ = told("one"), [told(f"other-{number}", shift=number) for number in range(3)]
    async with app.run_test(size=SIZE) as pilot:
        screen = await _shown(pilot, app, one)
        alone = drawn(screen.query(Curve).first())
        await pilot.press("o")
        dialog = app.screen
        assert isinstance(dialog, CompareDialog)
        await until(pilot, lambda: dialog.query_one(OptionList).option_count == 3)
        await pilot.press("space", "j", "space", "enter")
        grid = screen.query_one(CurveGrid)
        await until(pilot, lambda: len(grid.others) == 2)
        names = [other.name for other in grid.others]
        legend = str(screen.query_one("#legend", Static).content)
        assert all(f"{letter} {name}" in legend for letter, name in zip("ab", names, strict=True))
        beside = drawn(screen.query(Curve).first())
        assert "a" in beside and "b" in beside and beside != alone
        await pilot.press("o")
        await until(pilot, lambda: app.screen.query_one(OptionList).option_count == 3)
        place = next(number for number in range(3) if f"[x] {names[0]}" in str(
            app.screen.query_one(OptionList).get_option_at_index(number).prompt))  # fmt: skip
        await pilot.press(*["j"] * place, "space", "enter")
        await until(pilot, lambda: [other.letter for other in grid.others] == ["b"])
        await pilot.press("o", "c")
        await until(pilot, lambda: not grid.others)
        assert drawn(screen.query(Curve).first()) == alone


async def test_warnings_stay_until_they_are_seen(app: MinimindApp) -> None:
    run = told("one", status="", warned=True)
    async with app.run_test(size=SIZE) as pilot:
        with run.lock():
            screen = await _shown(pilot, app, run)
            line = screen.query_one(AlertLine)
            assert line.display and "grad_norm_exploding (+1 more), step 40" in str(line.content)
            await pilot.press("a")
            assert not line.display and "seen" not in _keys(app)
        await until(pilot, lambda: line.display)
        assert "interrupted" in str(line.content) and "r: go on from step 40" in str(line.content)
        assert "resume" in _keys(app) and "pause" not in _keys(app)
        await until(pilot, lambda: "grad_norm_exploding ×1" in _text(screen, EndPanel))


async def test_log_levels_and_the_log_file(app: MinimindApp) -> None:
    run = told("one", warned=True)
    async with app.run_test(size=SIZE) as pilot:
        screen = await _shown(pilot, app, run)
        await pilot.press("t")
        assert "checkpoint saved" in _text(screen, LogPane) and screen.query_one(LogPane).region
        await pilot.press("L")
        assert "checkpoint saved" not in _text(screen, LogPane)
        assert "grad norm exploding" in _text(screen, LogPane) and "not finite" in _text(screen, LogPane)
        await pilot.press("L")
        assert "grad_norm_exploding" not in _text(screen, LogPane)
        await pilot.press("L", "f")
        assert isinstance(app.screen, LogFileDialog)
        await until(pilot, lambda: "the log file of one" in str(app.screen.query_one(Static).content))
        await pilot.press("escape")
        assert app.screen is screen


async def test_samples_by_step_and_by_prompt(app: MinimindApp) -> None:
    run = told("one")
    async with app.run_test(size=SIZE) as pilot:
        screen = await _shown(pilot, app, run)
        await pilot.press("comma")
        pane, text = screen.query_one(SamplesPane), _text(screen, SamplesPane)
        assert pane.region and "step 30 · 3 of 4" in str(pane.border_title)
        assert "Where does Mona live? at 30" in text and "莫娜住在哪里？ at 30" in text
        await pilot.press("right_square_bracket", "comma")
        assert "step 20 · 2 of 4 · prompt 1 of 2" in str(screen.query_one(SamplesPane).border_title)
        assert "莫娜" not in _text(screen, SamplesPane)
        await pilot.press("full_stop", "full_stop", "full_stop", "left_square_bracket")
        assert "at 40" in _text(screen, SamplesPane) and "莫娜" in _text(screen, SamplesPane)


async def test_the_result_says_what_was_learnt(app: MinimindApp) -> None:
    run = told("one")
    async with app.run_test(size=SIZE) as pilot:
        screen = await _shown(pilot, app, run)
        curves = screen.mini.shown.history.curves  # type: ignore[union-attr]
        text = _text(screen, EndPanel)
        assert screen.query_one(EndPanel).region and "✓ done after 40 steps" in text
        first, last = (f"{curves['loss'].values[place]:.4g}" for place in (0, -1))
        assert first in text and last in text and "val loss" in text
        assert "newest at step 40 · best at step 30" in text and "c chat with it" in text
        footer = {active.binding.action for active in screen.active_bindings.values() if active.binding.show}
        assert {"chat", "measure", "new_run"} <= footer and not {"pause", "stop", "resume"} & _keys(app)


async def test_a_failed_run_says_why(app: MinimindApp) -> None:
    run = told("one", status="failed")
    async with app.run_test(size=SIZE) as pilot:
        screen = await _shown(pilot, app, run)
        assert "✗ failed: rows 7" in str(screen.query_one(AlertLine).content)
        assert "rows 7" in _text(screen, EndPanel) and "resume" in _keys(app)


async def test_a_live_run_is_told_what_to_do(app: MinimindApp, home: Path) -> None:
    train(TrainRequest("tiny/tokenizer"))
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        app._begin(begin_thread("tiny/long"))
        await until(pilot, lambda: app.shown is not None and app.shown.history.step >= 3)
        live = app.shown
        assert live is not None and live.run is not None

        def said(text: str) -> Callable[[], bool]:
            return lambda: any(text in line.text for line in live.history.log)

        await pilot.press("p")
        await until(pilot, lambda: live.state == "paused")
        await pilot.press("i")
        assert isinstance(app.screen, LogIntervalDialog)
        await pilot.press("0", "enter")
        assert isinstance(app.screen, LogIntervalDialog), "0 is no interval"
        await pilot.press("backspace", "5", "enter")
        await until(pilot, said("set log interval"))
        await pilot.press("w")
        await until(pilot, said("checkpoint saved"))
        await pilot.press("e")
        await until(pilot, said(": evaluate"))
        told, steps = len(live.history.curves["loss"]), live.history.curves["loss"].steps
        await pilot.press("p")
        await until(pilot, lambda: len(steps) >= told + 3)
        await pilot.press("S")
        assert isinstance(app.screen, StopNowDialog)
        await pilot.press("escape")
        assert live.alive
        await pilot.press("S", "S")
        await until(pilot, lambda: app.own is None)
        assert [step % 5 for step in steps[told : told + 3]] == [0, 0, 0]
        assert live.state == "stopped" and live.run.checkpoint_steps()[-1] == live.history.step


async def test_a_chat_beside_the_curves(app: MinimindApp, home: Path) -> None:
    run = told("one", status="")
    async with app.run_test(size=(120, 40)) as pilot:
        with run.lock():
            screen = await _shown(pilot, app, run)
            await pilot.press("K")
            chat = screen.query_one(ChatPane)
            await pilot.pause()
            assert chat.region and screen.query_one(CurveGrid).region.right <= chat.region.x
            assert screen.focused is not None and chat in screen.focused.ancestors
            await pilot.press("k")
            assert chat.display, "typed, not taken for a key"
            await pilot.resize_terminal(80, 24)
            await pilot.pause(0.2)
            assert chat.region and not screen.query_one(CurveGrid).region
            await pilot.press("escape", "escape")
            await until(pilot, lambda: not chat.display)
            await until(pilot, lambda: bool(screen.query_one(CurveGrid).region))
            assert isinstance(screen.focused, Curve)


async def test_a_tokenizer_run_has_no_curves_but_a_summary_and_a_next_stage(app: MinimindApp, home: Path) -> None:
    train(TrainRequest("tiny/tokenizer"))
    async with app.run_test(size=SIZE) as pilot:
        app.show_run(find_run("tiny-tokenizer"))
        await until(pilot, lambda: app.shown is not None)
        screen = app.screen
        assert isinstance(screen, TrainScreen)
        await until(pilot, lambda: "characters per token" in _text(screen, EndPanel))
        assert not screen.query_one(CurveGrid).region and "vocab size" in _text(screen, EndPanel)
        await pilot.press("N")
        dialog = app.screen
        assert isinstance(dialog, StartDialog)
        await until(pilot, lambda: dialog.query_one("#profiles", OptionList).option_count > 0)
        assert dialog.query_one("#tokenizer", Input).value == "tiny-tokenizer"
        assert "--tokenizer tiny-tokenizer" in str(dialog.query_one("#command", Static).content)


# The start dialog


async def _dialog(pilot: Pilot[Any], dialog: StartDialog, then: Callable[[Choice | None], None]) -> None:
    pilot.app.push_screen(dialog, then)
    await until(pilot, lambda: dialog.is_mounted and bool(dialog._profiles))


async def test_the_start_dialog_shows_its_command_and_keeps_what_it_refuses(app: MinimindApp, home: Path) -> None:
    chosen: list[Choice | None] = []
    async with app.run_test(size=SIZE) as pilot:
        dialog = StartDialog("tokenizer", "tiny/tokenizer", str(home / "none.jsonl"), ["vocab_size=280"])
        await _dialog(pilot, dialog, chosen.append)
        await pilot.pause()
        for field in ("#stage", "#profiles", "#data", "#name", "#sets", "#problem", "#command"):
            assert dialog.query_one(field).region.bottom <= 23, field
        assert not dialog.query_one("#start-from-row").display, "a tokenizer starts from nothing"
        command = dialog.query_one("#command", Static)
        await until(pilot, lambda: "--set vocab_size=280" in str(command.content))
        problem = dialog.query_one("#problem", Static)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "does not exist" in str(problem.content))
        assert dialog.focused is dialog.query_one(f"#{DATA}")
        dialog.query_one(f"#{DATA}", Input).value = ""
        await pilot.press("tab", *"a b", "ctrl+r")
        await until(pilot, lambda: "is no run name" in str(problem.content))
        assert dialog.focused is dialog.query_one(f"#{NAME}")
        await pilot.press("backspace", "backspace", "tab")
        dialog.query_one(f"#{SETTINGS}", TextArea).text = "vocab_size=280\nnonsense=1"
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "nonsense" in str(problem.content))
        dialog.query_one(f"#{SETTINGS}", TextArea).text = "--set vocab_size=280"
        await pilot.press("ctrl+r")
        await until(pilot, lambda: bool(chosen))
    assert chosen == [Choice("tiny/tokenizer", assignments=("vocab_size=280",), name="a")]


async def test_fields_offer_what_there_is_and_a_choice_can_be_made_again(app: MinimindApp, home: Path) -> None:
    train(TrainRequest("tiny/tokenizer"))
    train(TrainRequest("tiny/pretrain", assignments=("max_steps=2", "warmup_steps=0")))
    chosen: list[Choice | None] = []
    async with app.run_test(size=SIZE) as pilot:
        dialog = StartDialog("pretrain", "tiny/pretrain")
        await _dialog(pilot, dialog, chosen.append)
        await pilot.press("tab", "down")
        assert dialog.query_one("#data", Input).value == "starter:pretrain.jsonl"
        await pilot.press("up", "tab", "down")
        assert dialog.query_one("#start-from", Input).value == "tiny-pretrain"
        await pilot.press("ctrl+r")
        await until(pilot, lambda: bool(chosen))
        assert chosen == [Choice("tiny/pretrain", start_from="tiny-pretrain")]
        again = StartDialog.again(app.state.get("start.choice", {}))
        await _dialog(pilot, again, chosen.append)
        assert again._choice() == chosen[0]
        assert StartDialog.again({"profile": 3, "assignments": "x"})._profile == ""


# Evaluation


async def test_a_checkpoint_is_measured_and_the_questions_listed(app: MinimindApp, home: Path) -> None:
    train(TrainRequest("tiny/tokenizer"))
    train(TrainRequest("tiny/pretrain", assignments=("max_steps=2", "warmup_steps=0", "max_position_embeddings=512")))
    rows = home / "asked.jsonl"
    turns = [{"role": "user", "content": "the \x1b[2J cat"}, {"role": "assistant", "content": "sat"}]
    rows.write_text((json.dumps({"conversations": turns}) + "\n") * 4)
    async with app.run_test(size=SIZE) as pilot:
        dialog = EvaluateDialog("tiny-pretrain")
        app.push_screen(dialog)
        await until(pilot, lambda: dialog.is_mounted and dialog.query_one("#data", Input).value != "")
        assert dialog.query_one("#data", Input).value.endswith("tiny.jsonl"), "what the run was trained on"
        dialog.query_one("#data", Input).value = str(home / "none.jsonl")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "does not exist" in str(dialog.query_one("#progress", Static).content))
        dialog.query_one("#data", Input).value = str(rows)
        dialog.query_one("#tokens", Input).value = "4"
        await pilot.press("enter")
        table = dialog.query_one("#questions", DataTable)
        await until(pilot, lambda: table.row_count == 4 and bool(table.region))
        figures = str(dialog.query_one("#figures").query_one(Static).content)
        assert "exact match" in figures and "loss" in figures
        await pilot.press("j")
        said = str(dialog.query_one("#answer", Static).content)
        assert "expected sat" in said and "\x1b" not in said
        for part in ("#figures", "#questions", "#answer"):
            assert dialog.query_one(part).region.bottom <= 23
        opened = list[tuple[Path | str, int]]()
        app.open_data = lambda path, row=0: opened.append((path, row))  # type: ignore[method-assign]
        dialog.query_one("#data", Input).value = str(home / "none.jsonl")
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is not dialog)
        assert opened == [(rows, 1)], "what was measured, not what is named by now"


async def test_what_is_no_number_of_rows_is_refused_in_the_dialog(app: MinimindApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        dialog = EvaluateDialog("none", "none.jsonl")
        app.push_screen(dialog)
        await until(pilot, lambda: dialog.is_mounted)

        async def told(id: str, text: str) -> str:
            entry = dialog.query_one(f"#{id}", Input)
            entry.value = ""
            entry.focus()
            await pilot.press(*text, "enter")
            assert app.screen is dialog and entry.value == text
            said = str(dialog.query_one("#progress", Static).content)
            entry.value = "1"
            return said

        for id in ("rows", "tokens"):
            for text in ("-", "+", "1_"):
                assert await told(id, text) == f"{id}: {text!r} is not a whole number"
        assert await told("rows", "-5") == "rows: -5 is less than 0"
        assert await told("tokens", "0") == "tokens: 0 is less than 1"


async def test_a_measurement_can_be_given_up(app: MinimindApp, home: Path) -> None:
    train(TrainRequest("tiny/tokenizer"))
    train(TrainRequest("tiny/pretrain", assignments=("max_steps=2", "warmup_steps=0")))
    rows = home / "asked.jsonl"
    turns = [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "sat"}]
    rows.write_text((json.dumps({"conversations": turns}) + "\n") * 20_000)
    async with app.run_test(size=SIZE) as pilot:
        dialog = EvaluateDialog("tiny-pretrain", str(rows))
        app.push_screen(dialog)
        await pilot.pause()
        dialog.query_one("#tokens", Input).value, dialog.query_one("#rows", Input).value = "400", "0"
        await pilot.press("ctrl+r", "escape")
        assert app.screen is dialog, "the first escape gives up the measurement"
        await until(pilot, lambda: "cancelled" in str(dialog.query_one("#progress", Static).content))
        assert not dialog.query_one("#found").display
        await pilot.press("escape")
        assert app.screen is not dialog
