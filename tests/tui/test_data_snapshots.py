"""What the Data screen looks like; after a wanted change: pytest tests/tui/test_data_snapshots.py --snapshot-update."""

import json
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.runs.folder import RunFolder
from engine.text.tokenizer_training import train_tokenizer
from minimind_tui.app import MinimindApp
from minimind_tui.screens.data import DataScreen
from minimind_tui.widgets.data.row_list import RowList
from minimind_tui.widgets.data.row_pane import RowPane
from tests.tui.conftest import WORDS, until
from tests.tui.core.test_rows import talk, write


@pytest.fixture(autouse=True)
def same_everywhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tokenizer that is found; nothing blinks, and no model is loaded."""
    monkeypatch.setattr("textual.widgets.Input.cursor_blink", False)
    monkeypatch.setattr(MinimindApp, "_load_torch", lambda app: None)
    train_tokenizer([" ".join(WORDS), "你好，猫坐在红色的垫子上。"] * 4, 320).save(home / "data" / "starter-tokenizer")


async def _ready(pilot: Pilot[Any]) -> Any:
    """The screen, with its first row looked at and its list painted."""
    app = pilot.app
    await until(pilot, lambda: isinstance(app.screen, DataScreen) and bool(app.screen.query("#switches")))
    screen: Any = app.screen
    await until(pilot, lambda: screen.query_one(RowPane).look is not None)
    await until(pilot, lambda: screen._rows.indexed and 0 in screen.query_one(RowList)._previews)
    screen._tick()
    return screen


def _file(home: Path) -> Path:
    system = {"role": "system", "content": "Answer briefly. 请简短回答。"}
    spoken = talk("Where did the cat sit? 猫在哪里？😀", "<think>\nthe mat\n</think>\nOn a red mat. 在红色的垫子上。")
    rows: list[Any] = [
        {"conversations": [system, *spoken["conversations"]]},
        talk("escape \x1b[31m and bidi \u202egnp", "an old house"),
        b"broken line",
        *(talk(f"question {row}", "the cat sat on a red mat " * row) for row in range(1, 40)),
    ]
    return write(home / "talk.jsonl", *rows)


def test_tokens_of_a_row(snap_compare: Any, home: Path) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await _ready(pilot)
        await pilot.press("enter", "right_square_bracket")
        await pilot.pause()

    assert snap_compare(MinimindApp(_file(home)), terminal_size=(80, 24), run_before=before)


def test_a_pair_without_colours(snap_compare: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    sides = {"chosen": "on a red mat", "rejected": "on an old house"}
    pair = {side: talk("Where did the cat sit?", said)["conversations"] for side, said in sides.items()}

    async def before(pilot: Pilot[Any]) -> None:
        await _ready(pilot)
        await pilot.press("enter")
        await pilot.pause()

    app = MinimindApp(write(home / "pairs.jsonl", pair, pair))
    assert snap_compare(app, terminal_size=(120, 40), run_before=before)


def test_audit(snap_compare: Any, home: Path) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        screen = await _ready(pilot)
        await pilot.press("a")
        await until(pilot, lambda: screen._encoded is not None)
        await pilot.pause()

    assert snap_compare(MinimindApp(_file(home)), terminal_size=(120, 40), run_before=before)


def _rollouts(home: Path) -> Path:
    """A run's answers: a group of four, of which the second and the last are right."""
    run = RunFolder(home / "runs" / "talk")
    tokenizer = train_tokenizer([" ".join(WORDS), "你好，猫坐在红色的垫子上。"] * 4, 320)
    tokenizer.save(run.tokenizer)
    values = {"max_seq_len": 64, "temperature": 1.0, "rollout_top_k": 0, "truncated": "mask"}
    settings = {name: {"value": value} for name, value in values.items()}
    run.resolved.write_text(json.dumps({"stage": "grpo", "settings": settings}))
    rows: list[Any] = []
    for number, said in enumerate(("one dog 😀", "the cat 猫", "an old house and one red dog", "the cat")):
        right = number % 2
        ids = [*tokenizer.tokenize(said).ids, *([min(tokenizer.stop_ids)] if number != 2 else [])]
        chances = [round(-0.1 - 8 * (place * 7 % 11) / 11, 3) for place in range(len(ids))]
        worth = {"reward": 1.1 * right, "rewards": {"answer": right, "format": 0.1}, "advantage": 2.0 * right - 1}
        named = {"round": 12, "group": "12-7", "row": 7, "expected": "the cat"}
        ended = {"stop_reason": "stop" if number != 2 else "length", "answer_ids": ids, "log_probs": chances}
        rows.append(talk("Who sat on the mat?", said) | named | worth | ended)
    return write(run.rollouts, *rows)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_the_group_of_a_rollout(snap_compare: Any, home: Path, size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        screen = await _ready(pilot)
        await pilot.press("enter", "full_stop")
        await until(pilot, lambda: screen.query_one(RowPane).look.row == 1)
        await pilot.pause()

    assert snap_compare(MinimindApp(_rollouts(home)), terminal_size=size, run_before=before)
