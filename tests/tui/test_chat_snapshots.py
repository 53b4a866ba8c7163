"""What the chat looks like; after a wanted change: pytest tests/tui/test_chat_snapshots.py --snapshot-update."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.generation.chat import Choice, Token
from engine.generation.scoring import Score
from minimind_tui.app import MinimindApp
from minimind_tui.core.talk import Speaker
from minimind_tui.core.transcript import Turn
from minimind_tui.widgets.chat.pane import ChatPane

PIECES = [
    ("<think>", 0.99), ("3", 0.9), (" + ", 0.97), ("4", 0.95), (" = ", 0.8), ("7", 0.42), ("</think>", 0.99),
    ("", 0.6), ("是", 0.7), (" 7", 0.08), (" 😀", 0.01), (".", 0.5),
]  # fmt: skip


@pytest.fixture(autouse=True)
def same_everywhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only blinking things left out."""
    monkeypatch.setattr("textual.widgets.TextArea.cursor_blink", False)
    monkeypatch.setattr("textual.widgets.Input.cursor_blink", False)
    monkeypatch.setattr(MinimindApp, "_load_torch", lambda app: None)


def _token(place: int, text: str, probability: float) -> Token:
    choices = [Choice(9, " two", 0.61, 0.7), Choice(10 + place, text, probability, probability / 2),
               Choice(7, "\n", 0.05, 0.0), Choice(8, "\\xe6", 0.01, 0.0)]  # fmt: skip
    choices.sort(key=lambda choice: -choice.probability)
    score = Score(math.log(probability), 0.9, 1, probability / 2, ())
    return Token(10 + place, text, text or "\\xe6", text.endswith("think>"), score, tuple(choices))


ANSWER = Turn(
    "assistant", "".join(text for text, _ in PIECES), "starter-sft step 900", "starter-sft@newest",
    tokens=tuple(_token(place, *piece) for place, piece in enumerate(PIECES)), stop_reason="stop", count=12, speed=1234,
    seed=77,
)  # fmt: skip
STOPPED = replace(ANSWER, text="It was going to say that", tokens=(), stop_reason="stopped", count=9)
QUESTION = Turn("user", "你好 😀 What is 3 + 4?")
SPEAKERS = [Speaker(f"starter-{name}@newest", Path("none"), f"starter-{name}", 900, False) for name in ("sft", "dpo")]


async def _talk(pilot: Pilot[Any], *turns: Turn, speakers: int = 1) -> ChatPane:
    await pilot.press("6")
    await pilot.app.workers.wait_for_complete()
    pane = pilot.app.screen.query_one(ChatPane)
    pane._speakers = SPEAKERS[:speakers]
    for turn in turns:
        pane.conversation.add(turn)
    pane.talk.fill(pane.conversation)
    pane.introduce()
    await pilot.pause()
    return pane


def test_chat_without_colours(snap_compare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def before(pilot: Pilot[Any]) -> None:
        await _talk(pilot, QUESTION, ANSWER, QUESTION, STOPPED)
        await pilot.press("escape", "k", "k", "t")

    assert snap_compare(MinimindApp(), terminal_size=(80, 24), run_before=before)


@pytest.mark.parametrize("plain", [False, True])
def test_probabilities(snap_compare: Any, monkeypatch: pytest.MonkeyPatch, plain: bool) -> None:
    if plain:
        monkeypatch.setenv("NO_COLOR", "1")

    async def before(pilot: Pilot[Any]) -> None:
        await _talk(pilot, QUESTION, ANSWER)
        await pilot.press("escape", "p", *"llllllllll")

    assert snap_compare(MinimindApp(), terminal_size=(80, 24), run_before=before)


def test_two_beside_each_other_and_the_settings(snap_compare: Any) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await _talk(pilot, QUESTION, replace(ANSWER, rival=STOPPED), speakers=2)
        await pilot.press("ctrl+t")

    assert snap_compare(MinimindApp(), terminal_size=(120, 40), run_before=before)
