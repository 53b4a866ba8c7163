"""Memory in the app by keyboard: the plan while one types, and what is asked when it does not suffice."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from engine.memory.kills import oom_kills
from engine.runs.events import Progress
from engine.runs.folder import RunFolder, find_run
from engine.runs.history import EventWriter
from engine.session import TrainRequest, begin, train
from minimind_tui.app import MinimindApp
from minimind_tui.core.choice import Choice
from minimind_tui.core.crash import note_carried
from minimind_tui.screens.home import HomeScreen
from minimind_tui.screens.profiles import ProfilesScreen
from minimind_tui.screens.runs import RunsScreen
from minimind_tui.screens.shortage import ShortageDialog
from minimind_tui.screens.train import TrainScreen
from minimind_tui.widgets.memory.fit_dialog import FitDialog
from minimind_tui.widgets.memory.suggestions import Suggestions
from minimind_tui.widgets.memory.target_dialog import TargetDialog
from minimind_tui.widgets.profiles.setting_lines import SettingLines
from minimind_tui.widgets.run_table import RunTable
from minimind_tui.widgets.runs.details import DetailsPane
from minimind_tui.widgets.train.alert_line import AlertLine
from minimind_tui.widgets.train.end_panel import EndPanel
from tests.tui.conftest import until
from tests.tui.made import BEGAN, make_run, starve

SIZE = (80, 24)
ADJUSTED = "adjusted after OOM"


def _text(app: MinimindApp, selector: str) -> str:
    return str(app.screen.query_one(selector, Static).content)


def _actions(app: MinimindApp) -> set[str]:
    return {active.binding.action for active in app.screen.active_bindings.values() if active.enabled}


async def _profile(pilot: Pilot[None], app: MinimindApp, device: str) -> ProfilesScreen:
    """The profile cpu/pretrain in its form, planned for a device."""
    app.state.keep("profiles.device", device)
    app.open_profile("cpu/pretrain")
    await until(pilot, lambda: isinstance(app.screen, ProfilesScreen) and app.screen.planned.memory is not None)
    screen = app.screen
    assert isinstance(screen, ProfilesScreen)
    await until(pilot, lambda: screen.query_one(SettingLines).has_focus)
    return screen


async def _type(pilot: Pilot[None], setting: str, *keys: str) -> None:
    await pilot.press("slash", "ctrl+u", *setting, "enter", "enter", "ctrl+u", *keys)


@pytest.mark.parametrize("size", [(60, 16), SIZE, (120, 40)])
async def test_the_gauge_moves_as_one_types(app: MinimindApp, size: tuple[int, int]) -> None:
    async with app.run_test(size=size) as pilot:
        screen = await _profile(pilot, app, "rtx3050")
        gauge = "#gauge" if size[0] >= 116 else "#gauge-line"
        await until(pilot, lambda: "✓ fits" in _text(app, gauge))
        await _type(pilot, "batch_s", "4", "0", "0")
        await until(pilot, lambda: "✗ does not fit" in _text(app, gauge))
        assert "┃" in _text(app, gauge) and screen.query_one(gauge).region
        await pilot.press("backspace", "backspace")
        await until(pilot, lambda: "✓ fits" in _text(app, gauge))
        await pilot.press("x")
        await until(pilot, lambda: screen.draft is not None and bool(screen.draft.problem("batch_size")))
        assert "✓ fits" in _text(app, gauge), "what cannot be used changes nothing"


async def test_a_change_is_chosen_by_its_number_or_with_enter(app: MinimindApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await _profile(pilot, app, "rtx3050")
        await _type(pilot, "batch_s", "6", "0", "enter")
        changes = screen.query_one(Suggestions)
        await until(pilot, lambda: "fit" in _actions(app) and changes.option_count > 1)
        assert "save_memory" not in _actions(app)
        await pilot.press("F")
        assert changes.has_focus and screen.planned.memory is not None
        titles = [change.title for change in screen.planned.memory.changes]
        place = titles.index("gradient_checkpointing=true")
        await pilot.press(str(place + 1))
        draft = screen.draft
        assert draft is not None and draft.value("gradient_checkpointing") is True
        assert draft.origin("gradient_checkpointing") == "user"
        await until(pilot, lambda: "✓ fits" in _text(app, "#gauge"))
        await until(pilot, lambda: {"save_memory"} <= _actions(app) and not {"fit"} & _actions(app))
        await pilot.press("9")
        assert isinstance(app.screen, ProfilesScreen), "a number without a change is none of an area"
        first = screen.planned.memory
        await pilot.press("home", "enter")
        await until(pilot, lambda: draft.unsaved > 2 or draft.value("batch_size") != 60)
        assert first is not None and all(
            draft.text(name) == str(value) for name, value in first.changes[0].values.items()
        )
        await pilot.press("escape")
        assert screen.query_one(SettingLines).has_focus


async def test_the_table_shows_the_border_and_sets_what_is_chosen(app: MinimindApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        screen = await _profile(pilot, app, "cuda:3GiB")
        await pilot.press("b")
        assert isinstance(app.screen, FitDialog)
        dialog, table = app.screen, app.screen.query_one(DataTable)
        await until(pilot, lambda: table.row_count > 3)
        rows = {str(cells[0]): [str(cell).strip() for cell in cells[1:]]
                for cells in map(table.get_row_at, range(table.row_count))}  # fmt: skip
        assert "[✓]" in rows["4"] and rows["1"][0] == "✓" and rows[list(rows)[-2]][-1] == "✗"
        most = rows["most"]
        assert dialog._table is not None and most[0] == f"{dialog._table.most[0]:,}"
        await pilot.press("down", "right", *["j"] * 20, "h", "enter")
        await until(pilot, lambda: app.screen is screen)
        draft = screen.draft
        assert draft is not None and draft.value("max_seq_len") == 512
        assert draft.value("batch_size") == dialog._table.most[dialog._table.lengths.index(512)]
        await until(pilot, lambda: "✓ fits" in _text(app, "#gauge-line"))
        await pilot.press("b", "escape")
        assert app.screen is screen


async def test_another_device_is_planned_for(app: MinimindApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await _profile(pilot, app, "")
        await until(pilot, lambda: "on cpu" in _text(app, "#gauge"))
        await pilot.press("t")
        assert isinstance(app.screen, TargetDialog)
        await pilot.press(*"rtx30", "enter")
        await until(pilot, lambda: "on rtx3050" in _text(app, "#gauge") and "of 7.8 GiB" in _text(app, "#gauge"))
        await pilot.press("t", *"cuda:lots", "enter")
        assert isinstance(app.screen, TargetDialog) and "no size that can be read" in _text(app, "#said")
        await pilot.press("ctrl+u", *"cpu", "enter")
        await until(pilot, lambda: "on cpu  t:" in _text(app, "#gauge") and screen.target == "cpu")
        await pilot.press("t", *"cpu:1GiB", "enter")
        await until(pilot, lambda: "of 1.0 GiB" in _text(app, "#gauge"))
        assert screen.target == "cpu:1GiB" and app.state.get("profiles.device", "") == "cpu:1GiB"
        await pilot.press("t", "enter")
        await until(pilot, lambda: "on cpu  t:" in _text(app, "#gauge"))
        app.open_profile("minimind2/sft")
        await until(pilot, lambda: screen.draft is not None and screen.draft.reference == "minimind2/sft"
                    and screen.planned.memory is not None)  # fmt: skip
        app.device_kind = "mps"
        app.plan_anew()
        await until(pilot, lambda: "no plan of its memory: there is no mps here" in _text(app, "#gauge"))
        assert "fit_table" not in _actions(app) and "target" in _actions(app)


# When it does not suffice


def _starving(monkeypatch: pytest.MonkeyPatch, *, after: int) -> None:
    """The allocator refuses once, before the micro-batch of this number."""
    count = 0

    def look(memory: Any) -> None:
        nonlocal count
        count += 1
        if count == after:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 123456789 bytes.")

    monkeypatch.setattr("engine.session.memory.RunMemory.look", look)


def _dialog(app: MinimindApp) -> Callable[[], bool]:
    """Whether the dialog is there, and has said what it has to say."""
    return lambda: (
        isinstance(app.screen, ShortageDialog)
        and any(str(each.content) for each in app.screen.query("#story Static").results(Static))
    )


def _origin(run: RunFolder, name: str) -> tuple[Any, str]:
    entry = json.loads(run.resolved.read_text())["settings"][name]
    return entry["value"], entry["origin"]


async def test_a_run_that_ran_out_goes_on_with_what_was_chosen(
    app: MinimindApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(TrainRequest("tiny/tokenizer"))
    _starving(monkeypatch, after=15)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        app.begin_run(Choice("tiny/pretrain", name="hungry"))
        await until(pilot, _dialog(app))
        dialog = app.screen
        assert isinstance(dialog, ShortageDialog)
        await until(pilot, lambda: "in training, step 1" in _text(app, "#story Static"))
        assert "118 MiB more" in _text(app, "#story Static") and "up to step 10" in _text(app, "#story Static")
        changes = dialog.shortage.plan.changes  # type: ignore[union-attr]
        place = next(change.number for change in changes if "batch_size" in change.values)
        await pilot.press(str(place))
        run = find_run("hungry")
        await until(pilot, lambda: app.shown is not None and app.shown.state == "done")
        await until(pilot, lambda: app.own is None)
        values = changes[place - 1].values
        assert all(_origin(run, name) == (value, ADJUSTED) for name, value in values.items())
        assert values["batch_size"] * values["accumulation_steps"] == 4, "the effective batch is the old one"
        screen = app.screen
        assert isinstance(screen, TrainScreen)
        await until(pilot, lambda: "out of memory" not in str(screen.query_one(AlertLine).content))
        await pilot.press("5")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen)
                    and ADJUSTED in str(app.screen.query_one(DetailsPane).query_one(Static).content))  # fmt: skip


async def test_a_run_that_will_not_fit_is_begun_with_what_was_chosen_or_all_the_same(
    app: MinimindApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(TrainRequest("tiny/tokenizer"))
    monkeypatch.setattr("engine.session.memory.device_limit", lambda target: 1 << 20)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        app.begin_run(Choice("tiny/pretrain", assignments=("max_steps=3",), name="large"))
        await until(pilot, _dialog(app))
        await until(pilot, lambda: "not expected to fit" in _text(app, "#story Static"))
        await pilot.press("escape")
        screen = app.screen
        assert isinstance(screen, TrainScreen) and not (app.shown and app.shown.run and app.shown.run.path.exists())
        await until(pilot, lambda: "not expected to fit" in str(screen.query_one(AlertLine).content))
        assert "fit" in _actions(app) and "resume" not in _actions(app)
        await pilot.press("F")
        await until(pilot, _dialog(app))
        first = app.screen
        assert isinstance(first, ShortageDialog) and first.shortage.plan is not None
        change = first.shortage.plan.changes[0]
        await pilot.press("enter")
        await until(pilot, lambda: _dialog(app)() and app.screen is not first)
        assert app.shown is not None and app.shown.request is not None
        assert app.shown.request.assignments == ("max_steps=3", *(
            f"{name}={str(value).lower()}" for name, value in change.values.items()
        ))  # fmt: skip
        await pilot.press("s")
        await until(pilot, lambda: app.shown is not None and app.shown.state == "done")
        assert find_run("large").checkpoint_steps() == [3]
        assert all(_origin(find_run("large"), name) == (value, "user") for name, value in change.values.items())


async def test_a_run_to_go_on_with_that_will_not_fit_any_more(
    app: MinimindApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(TrainRequest("tiny/tokenizer"))
    _starving(monkeypatch, after=15)
    with pytest.raises(Exception, match="out of memory"):
        train(TrainRequest("tiny/pretrain", name="large"))
    run = find_run("large")
    monkeypatch.setattr("engine.session.memory.device_limit", lambda target: 1 << 20)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        app.resume_run(run)
        await until(pilot, _dialog(app))
        dialog = app.screen
        assert isinstance(dialog, ShortageDialog) and dialog.shortage.saved == 10
        barred = {change.title for change in dialog.shortage.plan.changes  # type: ignore[union-attr]
                  if change.number in dialog.shortage.barred}  # fmt: skip
        assert any(title.startswith("max_seq_len") for title in barred)
        place = next(change.number for change in dialog.shortage.plan.changes  # type: ignore[union-attr]
                     if "batch_size" in change.values)  # fmt: skip
        await pilot.press(str(place))
        await until(pilot, lambda: _dialog(app)() and app.screen is not dialog)
        assert _origin(run, "batch_size")[1] == ADJUSTED
        await pilot.press("s")
        await until(pilot, lambda: app.shown is not None and app.shown.state == "done")
        assert run.checkpoint_steps()[-1] == 30


async def test_a_run_of_another_process_is_talked_of_while_it_is_watched(app: MinimindApp) -> None:
    run = make_run("other", status="")
    async with app.run_test(size=SIZE) as pilot:
        with run.lock():
            app.show_run(run)
            await until(pilot, lambda: app.shown is not None and app.shown.state == "running")
            starve(run, at=9e9)
            await pilot.pause(0.6)
            assert isinstance(app.screen, TrainScreen), "its process has not ended yet"
        await until(pilot, _dialog(app))
        await pilot.press("escape")
        await until(pilot, lambda: "F: what would fit" in str(app.screen.query_one(AlertLine).content))
        await pilot.pause(0.6)
        assert isinstance(app.screen, TrainScreen), "it is said once"
        assert "out of memory" in str(app.screen.query_one(EndPanel).query_one(Static).content)


def _killed(name: str) -> RunFolder:
    """A run whose process is gone, as the kernel's count has risen since it began."""
    run = begin(TrainRequest("tiny/pretrain", name=name))
    kills = oom_kills()
    if kills.machine is None:
        pytest.skip("the kernel keeps no count")
    record = {"kills": {**kills.to_json(), "machine": kills.machine - 1}, "device": "cpu", "high_bytes": 600 << 20}
    (run.path / "memory.json").write_text(json.dumps(record))
    return run


async def test_a_run_that_was_killed_with_the_app_is_talked_of_at_the_next_start(app: MinimindApp) -> None:
    train(TrainRequest("tiny/tokenizer"))
    run = _killed("taken")
    note_carried(run)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, _dialog(app))
        dialog = app.screen
        assert isinstance(dialog, ShortageDialog) and dialog.shortage.plan is not None
        await until(pilot, lambda: "the kernel" in _text(app, "#story Static"))
        assert "its process was ended from outside" in _text(app, "#story Static") and run.state() == "failed"


async def test_a_watched_run_whose_process_is_killed_is_looked_into(app: MinimindApp) -> None:
    train(TrainRequest("tiny/tokenizer"))
    run = _killed("taken")
    async with app.run_test(size=SIZE) as pilot:
        with run.lock():
            app.show_run(run)
            await until(pilot, lambda: app.shown is not None and app.shown.alive)
        await until(pilot, _dialog(app))
        await pilot.press("escape")
        await pilot.pause(0.6)
        assert isinstance(app.screen, TrainScreen) and app.shown is not None and app.shown.state == "failed"


async def test_home_and_runs_show_what_an_earlier_start_left(app: MinimindApp) -> None:
    run = make_run("hungry", status="")
    make_run("broken", status="failed", error="rows 7", at=BEGAN - 500)
    starve(run)

    def said(table: DataTable[Any]) -> list[str]:
        return [" ".join(map(str, table.get_row_at(row))) for row in range(table.row_count)]

    async with app.run_test(size=SIZE) as pilot:
        assert isinstance(app.screen, HomeScreen)
        await until(pilot, lambda: "hungry ran out of memory" in _text(app, "#next-step"))
        await until(pilot, lambda: app.screen.query_one(RunTable).row_count > 0)
        await pilot.press("tab")
        await until(pilot, lambda: "fit" in _actions(app))
        assert "✗ out of memory" in said(app.screen.query_one(RunTable))[0]
        await pilot.press("F")
        await until(pilot, _dialog(app))
        await pilot.press("escape", "5")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen) and app.screen.query_one(RunTable).row_count == 2)
        await until(pilot, lambda: "F shows what would fit" in
                    str(app.screen.query_one(DetailsPane).query_one(Static).content))  # fmt: skip
        await pilot.press("j")
        await until(pilot, lambda: "fit" not in _actions(app))
        assert ["✗ out of memory" in row for row in said(app.screen.query_one(RunTable))] == [True, False]
        await pilot.resize_terminal(120, 40)
        await pilot.press("k", "F")
        await until(pilot, _dialog(app))
        await pilot.press("escape")
        await until(pilot, lambda: "✗ failed: out of memory" in said(app.screen.query_one(RunTable))[0])
        write = EventWriter(run)
        write(Progress(what="encoding the data", done=0.0))
        write.close()
        await until(pilot, lambda: not any("memory" in row for row in said(app.screen.query_one(RunTable))))
