"""The chat by keyboard, with tiny real checkpoints."""

import json
from pathlib import Path
from typing import Any

import pytest
from textual.events import Paste
from textual.pilot import Pilot
from textual.widgets import Footer, Input, OptionList, Static, TextArea

from engine.references import checkpoint_folder
from engine.runs.folder import find_run
from engine.text.messages import Message
from engine.text.records import open_records
from minimind_tui.app import MinimindApp
from minimind_tui.core.transcript import STOPPED, Turn, conversations_file, preferences_file
from minimind_tui.screens.chat import ChatScreen
from minimind_tui.screens.data import DataScreen
from minimind_tui.screens.dialogs import ErrorDialog
from minimind_tui.screens.home import HomeScreen
from minimind_tui.state import State
from minimind_tui.widgets.chat.dialogs import CheckpointDialog, CutOffDialog
from minimind_tui.widgets.chat.pane import ChatPane
from minimind_tui.widgets.data.row_list import RowList
from minimind_tui.widgets.run_table import RunTable
from minimind_tui.widgets.token_view import TokenView
from minimind_tui.widgets.turn_view import TurnView
from tests.tui.chat_runs import put_chat_runs
from tests.tui.conftest import until

SIZE = (80, 24)


@pytest.fixture
def chat_app(home: Path) -> MinimindApp:
    """The app beside checkpoints to talk with; answers have five tokens and are always the same."""
    put_chat_runs(home)
    state = home / "state" / "tui.json"
    state.parent.mkdir()
    state.write_text(json.dumps({"chat.sampling": {"max_new_tokens": 5, "temperature": 1, "seed": 3}}))
    return MinimindApp()


async def _open(pilot: Pilot[Any], reference: str = "tiny-chat@newest") -> ChatPane:
    await pilot.pause()
    await pilot.press("6")
    pane = pilot.app.screen.query_one(ChatPane)
    await until(pilot, lambda: pane.reference == "tiny-chat@newest")
    if reference != pane.reference:
        pane.choose([reference])
        await until(pilot, lambda: pane.reference == reference)
    return pane


async def _ask(pilot: Pilot[Any], pane: ChatPane, *keys: str) -> Turn:
    """Types, sends and waits for the whole answer."""
    return await _press(pilot, pane, *keys, "enter")


async def _press(pilot: Pilot[Any], pane: ChatPane, *keys: str) -> Turn:
    """Presses keys that bring an answer, and waits for it."""
    before = pane.conversation.turns
    await pilot.press(*keys)
    await until(pilot, lambda: pane.conversation.turns is not before and not pane.busy, 20)
    return pane.conversation.turns[-1]


def _texts(pane: ChatPane) -> list[str]:
    return [turn.text for turn in pane.conversation.turns]


async def test_an_answer_streams_and_is_stopped_and_a_new_chat_begins(chat_app: MinimindApp) -> None:
    async with chat_app.run_test(size=SIZE) as pilot:
        pane = await _open(pilot, "tiny-pretrain@newest")
        turn = await _ask(pilot, pane, *"the cat")
        view = pane.query(TurnView).last()
        assert turn.count == 5 and turn.text == view.turn.text and turn.completes
        assert str(view.border_subtitle).startswith("5 tokens · ") and "cut at max tokens" in str(view.border_subtitle)
        assert str(view.content).startswith("the cat"), "what was continued stands before it"

        await pilot.press("ctrl+t", *["tab"] * 5, *"99999", "tab", "tab", "space", "escape")
        await pilot.press(*"and", "enter")
        await until(pilot, lambda: bool(pane.query(TurnView).last().turn.text))
        assert pane.busy and str(pane.query(TurnView).last().content).startswith("and")
        pane.prompt.put("next")
        await pilot.press("enter", "escape")  # each waits for a pause of the process, which works hard now
        await until(pilot, lambda: not pane.busy)
        turn, view = pane.conversation.turns[-1], pane.query(TurnView).last()
        assert turn.stop_reason == STOPPED and turn.text and str(view.content).endswith(" [stopped]")
        assert "stopped" in str(view.border_subtitle)
        assert pane.prompt.text == "next", "what was typed meanwhile is kept"

        await pilot.press(*["backspace"] * 4, *"/new", "enter")
        assert not pane.query(TurnView) and not pane.conversation.turns and pane.prompt.has_focus
        await pilot.press("escape", "u")
        assert len(pane.conversation.turns) == 4
        await pilot.press("1")
        assert isinstance(chat_app.screen, HomeScreen)


async def test_rungs_follow_each_other_and_end_in_a_chat(
    app: MinimindApp, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setattr("minimind_tui.core.climb.LADDER", ("tiny/tokenizer", "tiny/pretrain"))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, ChatScreen))
        await until(pilot, lambda: app.screen.query_one(ChatPane).reference == "tiny-pretrain@newest")
        assert {run: find_run(run).state() for run in ("tiny-tokenizer", "tiny-pretrain")} == {
            "tiny-tokenizer": "done", "tiny-pretrain": "done"}  # fmt: skip
        await pilot.press("escape", "1")
        await until(pilot, lambda: app.screen.query_one(RunTable).row_count == 2)


async def test_turns_are_edited_asked_again_and_brought_back(chat_app: MinimindApp) -> None:
    async with chat_app.run_test(size=SIZE) as pilot:
        pane = await _open(pilot)
        await _ask(pilot, pane, *"one")
        await _ask(pilot, pane, *"two")
        first = _texts(pane)
        assert [first[0], first[2]] == ["one", "two"] and len(pane.talk.blocks) == 4

        await pilot.press("up")
        assert pane.prompt.text == "two" and "editing a question" in str(pane.prompt.border_title)
        await pilot.press("escape")
        assert pane.prompt.text == "" and pane.prompt.has_focus, "escape ends the editing only"
        await pilot.press("ctrl+e")
        await _ask(pilot, pane, *"!")
        assert _texts(pane)[:3] == [*first[:2], "two!"] and len(pane.talk.blocks) == 4

        await pilot.press("escape", "k", "k", "k", "e")
        assert pane.prompt.text == "one", "k walks back to the first question"
        await pilot.press("escape", "escape", "j", "e")
        assert "editing an answer" in str(pane.prompt.border_title)
        edited = await _ask(pilot, pane, "home", *"So: ")
        assert edited.given == f"So: {first[1]}".rstrip() and edited.text.startswith(edited.given)
        assert len(pane.conversation.turns) == 2

        on = await _press(pilot, pane, "escape", "c")
        assert on.text.startswith(edited.text) and on.given == edited.given and on.count == edited.count + 5
        await _press(pilot, pane, "k", "r")
        assert _texts(pane) == first[:2], "with a fixed seed: the first answer again, asked for at its question"
        assert pane.conversation.versions == 4
        await pilot.press("u")
        assert pane.conversation.turns[-1] == on
        await pilot.press("u", "u", "u")
        assert _texts(pane) == first


async def test_probabilities_of_tokens(chat_app: MinimindApp) -> None:
    async with chat_app.run_test(size=SIZE) as pilot:
        pane = await _open(pilot)
        turn = await _ask(pilot, pane, *"one")
        await pilot.press("escape", "p")
        view = pane.query_one(TokenView)
        assert view.has_focus and view.sheet is not None and view.size.height >= 6
        assert [*view.sheet.heat] == [pytest.approx(1 - token.probability) for token in turn.tokens]
        said = {}
        for _ in turn.tokens:
            await pilot.pause()
            choices = str(pane.query_one("#choices", Static).content)
            said[view.cursor] = choices
            best = turn.tokens[view.cursor].choices[0]
            assert f"{best.probability:6.1%}" in choices.splitlines()[0] and "▶" in choices
            assert f"id {turn.tokens[view.cursor].id}" in str(pane.query_one("#facts", Static).content)
            await pilot.press("l")
        assert len(said) == len(turn.tokens)
        await pilot.press("escape")
        assert pane.talk.has_focus and pane.talk.display and pane.prompt.display
        await pilot.press("k", "p")
        assert view.has_focus and len(view.sheet.texts) == len(turn.tokens), "at the question: the answer below it"


async def test_two_checkpoints_and_a_vote(chat_app: MinimindApp, home: Path) -> None:
    async with chat_app.run_test(size=SIZE) as pilot:
        pane = await _open(pilot)
        await pilot.press("escape", "b")
        assert isinstance(chat_app.screen, CheckpointDialog)
        options = chat_app.screen.query_one(OptionList)
        await until(pilot, lambda: options.option_count == 2)
        await pilot.press("slash", *"pre", "enter")
        await until(pilot, lambda: " vs " in str(pane.query_one("#speaker", Static).content))
        await pilot.press("i")
        turn = await _ask(pilot, pane, *"where?")
        assert turn.pending and turn.rival is not None and turn.rival.completes and not turn.completes
        await until(pilot, lambda: pane.talk.has_focus)
        assert len(pane.query(TurnView)) == 3
        await pilot.press("i", "x", "enter", "backspace")
        assert len(pane.conversation.turns) == 2, "first the vote"
        await pilot.press("escape", "right_square_bracket")
        assert isinstance(chat_app.screen, CutOffDialog), "neither answer has ended by itself"
        await pilot.press("escape")
        assert pane.conversation.turns[-1].pending
        await pilot.press("right_square_bracket", "s")
        await until(pilot, preferences_file().is_file)
        assert State.load().get("chat.votes", {}) == {"tiny-chat@newest tiny-pretrain@newest": [0, 1, 0]}, "at once"
        voted = pane.conversation.turns[-1]
        assert (voted.text, voted.verdict) == (turn.rival.text, "right")
        assert "✓ better" in str(pane.query(TurnView).last().border_title)
        [pair] = open_records(preferences_file()).records()
        assert pair.shape == "pair"
        assert pair.messages == (Message("user", "where?"), Message("assistant", turn.rival.text))
        assert pair.rejected == (Message("user", "where?"), Message("assistant", turn.text))
        assert pair.extra == {"chosen_by": "tiny-pretrain@newest", "rejected_by": "tiny-chat@newest"}

        await _ask(pilot, pane, *"and?")
        await pilot.press("equals_sign")
        await pilot.pause()
        assert len([*open_records(preferences_file()).records()]) == 1, "a tie is counted only"
        assert chat_app.state.get("chat.votes", {}) == {"tiny-chat@newest tiny-pretrain@newest": [0, 1, 1]}
        await pilot.press("ctrl+t", *["tab"] * 8, "space", "escape")
        assert chat_app.state.get("chat.blind", False)
        turn = await _ask(pilot, pane, *"who?")
        assert [str(view.border_title) for view in pane.query(TurnView)][-3:] == ["you", "left", "right"]
        await pilot.press("equals_sign")
        titles = [str(view.border_title) for view in pane.query(TurnView)][-2:]
        assert titles == [f"{side.speaker} · a tie" for side in turn.sides], "the vote tells the names"
        await pilot.press("escape", "b")
        await until(pilot, lambda: " vs " not in str(pane.query_one("#speaker", Static).content))


async def test_a_transcript_is_saved_to_the_letter_and_opened(chat_app: MinimindApp, home: Path) -> None:
    question = "第一行 <|im_end|>\n\tthe <think>second</think> 😀 line"
    async with chat_app.run_test(size=SIZE) as pilot:
        pane = await _open(pilot)
        chat_app.post_message(Paste(question))
        await pilot.pause()
        assert pane.prompt.text == question and not pane.busy, "a paste keeps its lines and sends nothing"
        assert pane.prompt.size.height == 2
        await pilot.press("ctrl+t", *["tab"] * 9)
        assert pane.query_one("#system", TextArea).has_focus
        await pilot.press(*"Be 你.", "escape")
        answer = await _ask(pilot, pane)
        await pilot.press("escape", "w")
        assert isinstance(chat_app.screen, CutOffDialog)
        await pilot.press("c", "w", "s")
        await until(pilot, conversations_file().is_file)
        await pilot.pause(0.2)
        [row] = open_records(conversations_file()).records()
        said = (("system", "Be 你."), ("user", question), ("assistant", answer.text))
        assert row.messages == tuple(Message(*each) for each in said)
        with conversations_file().open("a") as file:
            file.write('\n{"no": "row"}\n')
        await pilot.press("w", "s")
        await until(pilot, lambda: len([*open_records(conversations_file()).records()]) == 2)
        await pilot.press("o")
        await until(pilot, lambda: isinstance(chat_app.screen, DataScreen)
                    and chat_app.screen.query_one(RowList).row == 1)  # fmt: skip
        assert chat_app.state.get("data.file", "") == str(conversations_file())


async def test_settings_are_checked_and_remembered(chat_app: MinimindApp) -> None:
    async with chat_app.run_test(size=SIZE) as pilot:
        pane = await _open(pilot)
        await pilot.press("ctrl+t")
        assert pane.query_one("#temperature", Input).has_focus and pane.talk.size.height >= 5
        await pilot.press(*"x9")
        assert "must be a number" in str(pane.query_one("#problem", Static).content)
        assert chat_app.state.get("chat.sampling", {})["temperature"] == 1
        await pilot.press("backspace", "backspace", "9", "tab", *"40", "tab", *"0.5", "escape")
        assert pane.prompt.has_focus and not pane.query_one("#sampling").display
        kept = chat_app.state.get("chat.sampling", {})
        assert (kept["temperature"], kept["top_k"], kept["top_p"], kept["seed"]) == (9, 40, 0.5, 3)


async def test_any_folder_can_be_talked_with_and_a_wrong_one_is_told(chat_app: MinimindApp, home: Path) -> None:
    folder = home / "model"
    folder.symlink_to(checkpoint_folder("tiny-chat"))
    async with chat_app.run_test(size=SIZE) as pilot:
        pane = await _open(pilot)
        await pilot.press("ctrl+o", "slash")
        chat_app.screen.query_one("#wanted", Input).value = str(home / "none")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(chat_app.screen, ErrorDialog))
        await pilot.press("escape")
        assert pane.reference == "tiny-chat@newest" and pane.prompt.has_focus
        await pilot.press("ctrl+o", "slash")
        chat_app.screen.query_one("#wanted", Input).value = str(folder)
        await pilot.press("enter")
        await until(pilot, lambda: pane.reference == str(folder))
        await _ask(pilot, pane, *"hi")
        folder.unlink()
        await pilot.press(*"who?", "enter")
        await until(pilot, lambda: isinstance(chat_app.screen, ErrorDialog))
        await pilot.press("escape")
        assert pane.prompt.text == "who?" and len(pane.conversation.turns) == 2, "the question is kept"
        pane.choose(["tiny-chat@newest"])
        await until(pilot, lambda: pane.reference == "tiny-chat@newest")
        pane.prompt.put("no " * 9000)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(chat_app.screen, ErrorDialog))
        assert "tokens" in str(chat_app.screen._message()), "too long for the context"  # type: ignore[attr-defined]
        assert pane.prompt.text.startswith("no no")


async def test_a_docked_pane_follows_a_run_and_lets_go(home: Path) -> None:
    put_chat_runs(home)
    host = MinimindApp()
    async with host.run_test(size=SIZE) as pilot:
        await pilot.pause()
        left: list[ChatPane.Left] = []

        class Dock(ChatPane):
            def on_chat_pane_left(self, event: ChatPane.Left) -> None:
                left.append(event)

        pane = Dock(docked=True)
        await host.screen.mount(pane)
        pane.follow_newest("not-yet")
        await pilot.pause(0.3)
        assert pane.reference == "" and not isinstance(host.screen, ErrorDialog)
        pane.follow_newest("tiny-chat")
        await until(pilot, lambda: pane.reference == "tiny-chat@newest")
        pane.action_type()
        await _ask(pilot, pane, *"hi")
        folder = checkpoint_folder("tiny-chat")
        folder.rename(folder.with_name("step-00000002"))
        pane.look()
        who = pane.query_one("#speaker", Static)
        await until(pilot, lambda: "step 2 · newer than the last answer's" in str(who.content))
        turn = await _ask(pilot, pane, *"hi")
        assert turn.speaker == "tiny-chat step 2"
        await pilot.press("escape")
        assert pane.talk.has_focus and not left
        await pilot.press("escape")
        assert left


async def test_what_is_chosen_by_hand_stays_until_another_run_is_followed(home: Path) -> None:
    put_chat_runs(home)
    by_hand = home / "model"
    by_hand.symlink_to(checkpoint_folder("tiny-chat"))
    host = MinimindApp()
    async with host.run_test(size=SIZE) as pilot:
        await pilot.pause()
        pane = ChatPane(docked=True)
        await host.screen.mount(pane)
        pane.follow_newest("tiny-chat")
        await until(pilot, lambda: pane.reference == "tiny-chat@newest")
        pane.conversation.add(Turn("user", "hi"))
        pane.action_choose()
        await pilot.pause()
        await pilot.press("slash")
        host.screen.query_one("#wanted", Input).value = str(by_hand)
        await pilot.press("enter")
        await until(pilot, lambda: pane.reference == str(by_hand))
        pane.follow_newest("tiny-chat")
        pane.look()
        await host.workers.wait_for_complete()
        await pilot.pause()
        assert pane.reference == str(by_hand) and _texts(pane) == ["hi"]
        pane.follow_newest("tiny-pretrain")
        await until(pilot, lambda: pane.reference == "tiny-pretrain@newest")


@pytest.mark.parametrize("size", [(80, 24), (60, 16)])
async def test_it_fits(chat_app: MinimindApp, size: tuple[int, int]) -> None:
    async with chat_app.run_test(size=size) as pilot:
        pane = await _open(pilot)
        await pilot.pause()
        assert pane.talk.size.height >= 10
        keys = [key.description for key in chat_app.screen.query_one(Footer).children]  # type: ignore[attr-defined]
        assert "Leave input" in keys and len(keys) <= 6
        await pilot.press("escape")
        await pilot.pause()
        await pilot.press("i", "ctrl+t")
        panel = pane.query_one("#sampling")
        assert panel.region.bottom <= pane.prompt.region.y and panel.size.height >= 4
        await pilot.press(*["tab"] * 9)
        assert pane.query_one("#system").has_focus and pane.query_one("#system").region.bottom <= panel.region.bottom


async def test_hostile_text_is_shown_as_symbols(app: MinimindApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("6")
        view = TurnView("model", "\x1b[31mname\u202e")
        await app.screen.query_one("#talk").mount(view)
        text = "a\x1b]52;c;aGk=\x07 <think>why\x9b</think> [bold]b[/]"
        view.show(Turn("assistant", text, stop_reason="stop"))
        for _ in range(2):
            await pilot.pause()
            shown = str(view.content)
            assert "\x1b" not in shown and "\x9b" not in shown and "[bold]b[/]" in shown
            view.fold()
        assert "why" not in str(view.content)
        assert "\x1b" not in str(view.border_title)


def test_nothing_of_the_chat_loads_torch() -> None:
    """Imported alone, in a process of its own."""
    import subprocess
    import sys

    script = "import sys, minimind_tui.widgets.chat.pane; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"
