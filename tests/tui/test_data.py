"""The Data screen by keyboard."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList, Select, Static

from engine.session import TrainRequest, train
from engine.text.tokenizer_training import train_tokenizer
from minimind_tui.app import MinimindApp
from minimind_tui.core.filters import Filter
from minimind_tui.screens.data import DataScreen
from minimind_tui.screens.dialogs import ErrorDialog
from minimind_tui.screens.start import StartDialog
from minimind_tui.widgets.data.audit_panel import AuditPanel
from minimind_tui.widgets.data.head import DataHead
from minimind_tui.widgets.data.list_dialog import ListDialog
from minimind_tui.widgets.data.row_list import RowList
from minimind_tui.widgets.data.row_pane import RowPane
from minimind_tui.widgets.data.text_view import TextView
from minimind_tui.widgets.file_dialog import FileDialog
from minimind_tui.widgets.pair_view import PairView
from minimind_tui.widgets.token_view import TokenView
from tests.tui.conftest import WORDS, until
from tests.tui.core.test_rows import talk, write

SIZE = (80, 24)


@pytest.fixture
def folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data, and a tokenizer that is found there; models are not loaded."""
    monkeypatch.setattr(MinimindApp, "_load_torch", lambda app: None)
    train_tokenizer([" ".join(WORDS)] * 3, 300).save(home / "data" / "starter-tokenizer")
    data = home / "my data"
    data.mkdir()
    system = [{"role": "system", "content": "Be brief."}]
    rows: list[Any] = [talk(f"question {row} about a cat?", f"answer {row} on the mat") for row in range(40)]
    rows[7] = talk("a trick \x1b[2J\x1b]0;x\x07 \u202egnp", "an old house " * 60)
    rows[11] = {"conversations": [*system, *talk("who?", "THE DOG")["conversations"]]}
    rows[13] = b"broken \x1b[2J line"
    rows[17] = {"conversations": [{"role": "user", "content": "nobody answers"}]}
    write(data / "talk.jsonl", *rows)
    pair = {side: talk("which?", f"the {said} one")["conversations"] for side, said in
            (("chosen", "good"), ("rejected", "bad"))}  # fmt: skip
    write(data / "pairs.jsonl", pair, pair)
    return data


@asynccontextmanager
async def opened(path: Path, *, row: int = 0, size: tuple[int, int] = SIZE) -> AsyncIterator[tuple[Any, Pilot[Any]]]:
    """The screen with a file open, its first row looked at."""
    app = MinimindApp(path)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: isinstance(app.screen, DataScreen) and bool(app.screen.query("#switches")))
        screen = app.screen
        await until(pilot, lambda: looked(screen) == row)
        await until(pilot, lambda: screen._rows.indexed)
        yield screen, pilot


def looked(screen: Any) -> int | None:
    """The row that is shown to the right."""
    look = screen.query_one(RowPane).look
    return look.row if look else None


def shown(screen: Any) -> str:
    """Everything on the screen, as text."""
    return "\n".join("".join(part.text for part in line) for line in screen._compositor.render_strips())


def listed(screen: Any) -> list[int]:
    return list(screen.query_one(RowList).rows)


def weighed(tokens: TokenView) -> int:
    """How many tokens are trained."""
    return sum(weight > 0 for weight in tokens.sheet.weights) if tokens.sheet else 0


async def choose(pilot: Pilot[Any], title: str) -> None:
    """Chooses an item of the list dialog in front, by its title."""
    await until(pilot, lambda: isinstance(pilot.app.screen, ListDialog))
    options = pilot.app.screen.query_one(OptionList)
    titles = [str(option.prompt) for option in options.options]
    place = next(index for index, text in enumerate(titles) if title in text)
    await pilot.press("g", *["j"] * place, "enter")


async def test_rows_and_why_a_token_is_trained(folder: Path) -> None:
    async with opened(folder / "talk.jsonl") as (screen, pilot):
        assert listed(screen) == list(range(39)) and screen.query_one(RowList).has_focus
        await until(pilot, lambda: "question 0 about" in shown(screen))
        await pilot.press("j", "j", "enter")
        await until(pilot, lambda: looked(screen) == 2)
        tokens = screen.query_one("#tokens", TokenView)
        assert tokens.has_focus and "tokens trained" in str(tokens.border_title)
        first = tokens.detail()
        await pilot.press("right_square_bracket")
        assert tokens.sheet is not None and tokens.sheet.weights[tokens.cursor] == 1
        assert tokens.detail() != first and any("trained" in line for line in tokens.detail())
        detail = str(screen.query_one("#token-detail", Static).content)
        assert tokens.detail()[-1] in detail
        await pilot.press("J")
        await until(pilot, lambda: looked(screen) == 3)
        await pilot.press("escape", "G")
        await until(pilot, lambda: looked(screen) == 38)
        await pilot.press("colon", *"17", "enter")
        await until(pilot, lambda: looked(screen) == 17)
        assert screen.query_one(RowList).has_focus


async def test_hostile_rows_are_shown_as_symbols(folder: Path) -> None:
    async with opened(folder / "talk.jsonl") as (screen, pilot):
        await pilot.press(*"j" * 7)
        for _ in range(3):
            await until(pilot, lambda: looked(screen) == 7 and screen._looking is None)
            await until(pilot, lambda: "trick" in shown(screen))
            assert not {"\x1b", "\x07", "\u202e"} & set(shown(screen))
            assert "␛" in shown(screen)
            await pilot.press("v")
            await until(pilot, lambda: screen._looking is None)


async def test_views_of_a_row(folder: Path) -> None:
    async with opened(folder / "talk.jsonl") as (screen, pilot):
        text = screen.query_one(TextView)
        for title, words in (("rendered", "<|im_start|>user"), ("raw", '"role": "assistant"')):
            await pilot.press("v")
            await until(pilot, lambda title=title: text.border_title == title and text.display)
            assert words in shown(screen)
        await pilot.press("v")
        await until(pilot, lambda: "packed row 1 of" in str(screen.query_one("#tokens", TokenView).border_title)
                    or "packed row" in str(screen.query_one("#tokens", TokenView).border_title))  # fmt: skip
        before = str(screen.query_one("#tokens", TokenView).border_title)
        await pilot.press("enter", "full_stop", "comma", "full_stop")
        if not before.startswith("packed row 1 of 1"):
            await until(pilot, lambda: str(screen.query_one("#tokens", TokenView).border_title) != before)
        await pilot.press("v")
        await until(pilot, lambda: str(screen.query_one("#tokens", TokenView).border_title).startswith("sample"))


async def test_search_jumps_from_hit_to_hit(folder: Path) -> None:
    async with opened(folder / "talk.jsonl") as (screen, pilot):
        await pilot.press("slash", *"The dog", "enter")
        await until(pilot, lambda: looked(screen) == 11)
        assert screen.query_one(RowList).has_focus and "1 hits" in str(screen.query_one(RowList).border_title)
        await pilot.press("slash", "ctrl+u", *"TION 1", "enter")
        await until(pilot, lambda: looked(screen) == 12)
        await pilot.press("n")
        await until(pilot, lambda: looked(screen) == 13)
        await pilot.press("N", "N")
        await until(pilot, lambda: looked(screen) == 10)
        await pilot.press("f")
        await choose(pilot, "hits of the search")
        await until(pilot, lambda: len(listed(screen)) == 8)
        await pilot.press("escape")
        assert len(listed(screen)) == 39 and "/TION 1" in str(screen.query_one(RowList).border_title)
        await pilot.press("escape")
        assert str(screen.query_one(RowList).border_title) == "Rows"
        await pilot.press("slash", *"nowhere", "escape")
        assert screen.query_one(RowList).has_focus and not screen._needle


async def test_filters_by_role_length_and_problem(folder: Path) -> None:
    async with opened(folder / "talk.jsonl") as (screen, pilot):
        await pilot.press("f")
        await choose(pilot, "system speaks")
        await until(pilot, lambda: listed(screen) == [11])
        await until(pilot, lambda: looked(screen) == 11)
        await pilot.press("f")
        await choose(pilot, "cannot be used")
        await until(pilot, lambda: listed(screen) == [~0])
        await until(pilot, lambda: "Line 14 cannot be used" in shown(screen))
        assert "62 72 6f 6b 65 6e" in shown(screen) and "\x1b" not in shown(screen)
        await pilot.press("f")
        await choose(pilot, "of a length")
        await pilot.press(*"200-", "enter")
        await until(pilot, lambda: listed(screen) == [7])
        await pilot.press("f")
        await choose(pilot, "nothing trained")
        await until(pilot, lambda: listed(screen) == [16])
        await pilot.press("escape")
        assert len(listed(screen)) == 39


async def test_the_audit_leads_to_the_rows_of_a_problem(folder: Path) -> None:
    async with opened(folder / "talk.jsonl") as (screen, pilot):
        await pilot.press("x", "ctrl+u", *"64", "enter", "a")
        panel = screen.query_one(AuditPanel)
        await until(pilot, lambda: screen._encoded is not None and panel.view.has_focus)
        await pilot.pause()
        text = shown(screen)
        for words in ("40, 39 usable", "rows cut to fit", "rows with nothing trained", "lines that cannot be used"):
            assert words in text
        assert "█" in text or "▌" in text, "the histogram"
        assert "tokens" in str(screen.query_one(DataHead).content)
        names = [problem.name for problem in screen._encoded.problems]
        await pilot.press("g", *["j"] * names.index("truncated"), "enter")
        await until(pilot, lambda: listed(screen) == [7])
        await until(pilot, lambda: looked(screen) == 7)
        assert not panel.display and screen.query_one(RowList).has_focus
        await pilot.press("a", "escape")
        assert not panel.display and listed(screen) == [7]
        await pilot.press("escape")
        assert len(listed(screen)) == 39


async def test_switches_change_how_rows_are_read_and_are_remembered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    template = folder / "loud.jinja"
    template.write_text(
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\nLOUD ' + message['content'] + "
        "'<|im_end|>\\n' }}{% endfor %}"
    )
    async with opened(folder / "talk.jsonl") as (screen, pilot):
        tokens = screen.query_one("#tokens", TokenView)
        trained = weighed(tokens)
        await pilot.press("t")
        await choose(pilot, "mid-train")
        await until(pilot, lambda: weighed(tokens) > trained)
        await pilot.press("x", "ctrl+u", *"3", "enter")
        await until(pilot, lambda: isinstance(screen.app.screen, ErrorDialog))
        await pilot.press("escape", "x", "ctrl+u", *"20", "enter")
        await until(pilot, lambda: tokens.sheet is not None and len(tokens.sheet) <= 20)
        await pilot.press("enter", "full_stop")
        assert "window 2 of" in str(tokens.border_title)
        await pilot.press("escape", "m")
        await choose(pilot, "a jinja file")
        await until(pilot, lambda: isinstance(screen.app.screen, FileDialog) and bool(screen.app.focused))
        await pilot.press(*"loud", "tab", "enter")
        pane = screen.query_one(RowPane)
        await until(pilot, lambda: "LOUD" in "".join(each.rendered for each in pane.look.sheets))
        await pilot.press("T")
        await choose(pilot, "the newest run's")
        await pilot.press("v", "v", "j", "z")
        assert not screen.query_one(RowList).display and screen.query_one(RowPane).has_focus_within
        await until(pilot, lambda: looked(screen) == 1)
        screen.mini.remember()
    again = MinimindApp()
    async with again.run_test(size=SIZE) as pilot:
        await pilot.press("2")
        screen = again.screen
        assert isinstance(screen, DataScreen)
        await until(pilot, lambda: looked(screen) == 1)
        assert (screen._reading.stage, screen._reading.max_seq_len, screen._mode) == ("mid-train", 20, "raw")
        assert screen._reading.template == str(template) and not screen.query_one(RowList).display
        await pilot.press("z")
        assert screen.query_one(RowList).has_focus


async def test_opening_files_by_dialog_folder_and_recents(folder: Path) -> None:
    async with opened(folder / "talk.jsonl") as (screen, pilot):
        app = screen.app

        def offered() -> list[str]:
            if not isinstance(app.screen, FileDialog) or not app.screen.query(OptionList):
                return []
            return [str(option.prompt).split("  ")[0] for option in app.screen.query_one(OptionList).options]

        await pilot.press("o")
        await until(pilot, lambda: "pairs.jsonl" in offered())
        await pilot.press(*"pai", "tab", "enter")
        await until(pilot, lambda: screen._rows.path.name == "pairs.jsonl" and looked(screen) == 0)
        assert screen.query_one(PairView).display and "Reward model" in shown(screen)
        await pilot.press("r")
        await until(pilot, lambda: len(offered()) > 3)
        await pilot.press("down", "enter")
        await until(pilot, lambda: screen._rows.path.name == "talk.jsonl")
        screen.open(folder)
        await until(pilot, lambda: offered()[1:] == ["pairs.jsonl", "talk.jsonl"])
        await pilot.press("escape", "r", *"starter:rl", "enter")
        await until(pilot, lambda: screen._rows.path.name == "rlaif.jsonl")
        (folder / "empty.jsonl").write_text("")
        for name, words in (("none.jsonl", "does not exist"), ("empty.jsonl", "empty")):
            screen.open(folder / name)
            await until(pilot, lambda: isinstance(app.screen, ErrorDialog))
            assert words in str(app.screen._message())
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is screen)
        assert screen._rows.path.name == "rlaif.jsonl", "what was open stays"


@pytest.mark.parametrize("typed", ["~nobody-of-this-name/x.jsonl", f"/{'x' * 300}"])
async def test_a_path_that_cannot_be_looked_up_is_said_and_forgotten(home: Path, typed: str) -> None:
    app = MinimindApp()
    app.state.keep("data.file", typed)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: any("not there any more" in toast.message for toast in app._notifications))
        assert app.state.get("data.file", "") == "", "it is not opened again"
        await pilot.press("r")
        await until(pilot, lambda: isinstance(app.screen, FileDialog) and bool(app.screen.query("#path")))
        dialog = app.screen
        dialog.query_one(Input).value = typed
        await pilot.press("tab")
        await until(pilot, lambda: bool(str(dialog.query_one("#said", Static).content)))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ErrorDialog))


async def test_without_a_file_the_screen_says_what_can_be_done(home: Path) -> None:
    app = MinimindApp()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: "o opens a file" in shown(app.screen))
        assert "starter world" in shown(app.screen).partition("o opens a file")[2]
        await pilot.press("z", "z", "enter", "escape")
        assert app.screen.query_one(RowList).has_focus


async def test_what_a_notice_quotes_is_cleaned_and_no_markup(folder: Path) -> None:
    async with opened(folder / "talk.jsonl") as (screen, pilot):
        screen._filter = Filter("problem: [/x]", "[/x] \x1b[2J")
        screen._take_filtered((), 1.0, True)
        await until(pilot, lambda: len(screen.app._notifications) > 0)
        toast = list(screen.app._notifications)[-1]
        assert toast.message == "No [/x] ␛[2J." and not toast.markup
        await pilot.pause()


async def test_progress_of_ended_encoding_is_dropped(folder: Path) -> None:
    async with opened(folder / "talk.jsonl") as (screen, pilot):
        stop = threading.Event()
        await asyncio.to_thread(screen._tell, stop, screen._note_encoding, 0.5)
        assert screen._encoding == 0.5
        screen.forget_encoded()
        stop.set()
        await asyncio.to_thread(screen._tell, stop, screen._note_encoding, 0.7)
        assert screen._encoding is None
        await pilot.press("a")
        await until(pilot, lambda: screen._encoded is not None)


async def test_a_pair_stands_side_by_side(folder: Path) -> None:
    async with opened(folder / "pairs.jsonl", size=(120, 40)) as (screen, pilot):
        pair = screen.query_one(PairView)
        await pilot.press("enter")
        assert pair.current.has_focus and pair.current.id == "chosen"
        await pilot.press("tab")
        assert pair.current.id == "rejected"
        await pilot.press("s")
        await until(pilot, lambda: isinstance(screen.app.screen, StartDialog))
        assert screen.app.screen.query_one("#stage", Select).value == "dpo"
        await pilot.press("escape", "escape")
        assert screen.query_one(RowList).has_focus


async def test_a_run_is_started_from_the_file_and_rows_are_copied(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    monkeypatch.setattr(MinimindApp, "copy", lambda app, text, what: copied.append(text))
    async with opened(folder / "talk.jsonl") as (_, pilot):
        await pilot.press("y")
        await until(pilot, lambda: len(copied) == 1)
        assert json.loads(copied[0]) == talk("question 0 about a cat?", "answer 0 on the mat")
        await pilot.press("enter", "y", "Y")
        await until(pilot, lambda: len(copied) == 3)
        assert copied[1:] == ["<|im_start|>", copied[0]]
        asked: list[dict[str, str]] = []
        monkeypatch.setattr(MinimindApp, "ask_for_run", lambda app, **wanted: asked.append(wanted))
        await pilot.press("s")
        assert asked == [{"stage": "sft", "data": str(folder / "talk.jsonl")}]


async def test_a_checkpoint_gives_heat_and_a_pair_its_margin(folder: Path) -> None:
    train(TrainRequest("tiny/tokenizer"))
    for name, steps in (("first", 1), ("second", 2)):
        train(TrainRequest("tiny/pretrain", name=name, assignments=(f"max_steps={steps}", "warmup_steps=0")))
    async with opened(folder / "talk.jsonl") as (screen, pilot):
        await pilot.press("c")
        await choose(pilot, "second@newest")
        tokens = screen.query_one("#tokens", TokenView)
        await until(pilot, lambda: tokens.sheet is not None and bool(tokens.sheet.heat))
        assert "nats a trained token" in str(screen.query_one("#row-head", Static).content)
        await pilot.press("enter", "right")
        assert any(line.startswith("loss ") for line in tokens.detail())
        screen.open(folder / "pairs.jsonl")
        pair = screen.query_one(PairView)
        await until(pilot, lambda: "log p" in str(pair.current.border_subtitle))
        await pilot.press("C")
        await choose(pilot, "first@newest")
        await until(pilot, lambda: "margin" in shown(screen))
        assert any("reference" in line and "difference" in line for line in pair.detail())
        await pilot.press("c")
        await choose(pilot, "none")
        await until(pilot, lambda: screen._looking is None and not pair.current.sheet.heat)


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (120, 40)])
async def test_everything_has_room(folder: Path, size: tuple[int, int]) -> None:
    async with opened(folder / "talk.jsonl", size=size) as (screen, pilot):
        await pilot.press("a")
        await until(pilot, lambda: screen._encoded is not None)
        await pilot.press("escape")
        for name in ("#tokens", "#token-detail", "#switches", "#rows", "#data-head"):
            region = screen.query_one(name).region
            assert region.height > 0 and region.right <= size[0] and region.bottom <= size[1] - 1, name
        assert screen.query_one("#tokens", TokenView).content_size.height >= 3
        keys = [active.binding for active in screen.active_bindings.values() if active.binding.show]
        assert len({binding.action for binding in keys}) <= 6
