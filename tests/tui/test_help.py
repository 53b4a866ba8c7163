"""The help: made from the bindings that work where one is."""

from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.command import CommandList
from textual.screen import Screen
from textual.widgets import Input, Static

from minimind_tui.active_keys import help_paragraphs, sections
from minimind_tui.app import MinimindApp
from minimind_tui.palette import Palette
from minimind_tui.screens.area import Area
from minimind_tui.screens.dialogs import ErrorDialog, HelpDialog
from minimind_tui.widgets.area_bar import AREAS
from minimind_tui.widgets.vim import VimScroll

SIZE = (80, 24)


class _Pane(VimScroll):
    HELP = "What the pane says of itself."
    BINDINGS: ClassVar[list[BindingType]] = [Binding("x", "cut", "Cut", tooltip="Cut it off", id="pane.cut")]


class _Screen(Screen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("s,space", "save", "Save", id="some.save")]

    def compose(self) -> ComposeResult:
        yield _Pane(Static("text"))
        yield Input(id="search")


class _App(App[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("f9", "nine", "Nine", id="nine")]

    def on_mount(self) -> None:
        self.push_screen(_Screen())


async def test_actions_stand_by_place_with_all_their_keys() -> None:
    async with _App().run_test(size=SIZE) as pilot:
        screen = pilot.app.screen
        screen.query_one(_Pane).focus()
        await pilot.pause()
        pane, here, everywhere = sections(screen)
        assert (pane.title, here.title, everywhere.title) == ("In this pane", "On this screen", "Everywhere")
        assert ("x", "Cut it off", "pane.cut") in [(row.keys, row.text, row.id) for row in pane.rows]
        assert {row.keys for row in pane.rows} >= {"j ↓"}, "the arrow stands beside its letter"
        assert [(row.keys, row.id) for row in here.rows] == [("s space", "some.save")]
        assert everywhere.rows[0].id == "nine" and "tab" in {row.keys for row in everywhere.rows}
        assert help_paragraphs(screen) == ["What the pane says of itself."]


async def test_what_an_input_takes_for_text_is_no_key() -> None:
    async with _App().run_test(size=SIZE) as pilot:
        screen = pilot.app.screen
        screen.query_one(Input).focus()
        await pilot.pause()
        assert not {row.id for section in sections(screen) for row in section.rows} & {"some.save", "pane.cut"}
        assert help_paragraphs(screen) == []


async def test_every_area_has_help_and_escape_leaves_it(app: MinimindApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        for number in range(1, len(AREAS) + 1):
            app.action_area(list(AREAS)[number - 1])
            await pilot.pause()
            area = app.screen
            assert isinstance(area, Area)
            await pilot.press("f1")
            assert isinstance(app.screen, HelpDialog)
            assert len(str(app.screen.query(".paragraph").first(Static).content)) > 40, "it says what the area is for"
            assert "Everywhere" in str(app.screen.query_one("#keys", Static).content)
            await pilot.press("escape")
            assert app.screen is area


async def test_help_in_a_dialog_and_while_typing(app: MinimindApp) -> None:
    from engine.errors import EngineError

    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        app.show_error(EngineError("odd"))
        await pilot.pause()
        await pilot.press("f1")
        assert isinstance(app.screen, HelpDialog)
        assert "Close" in str(app.screen.query_one("#keys", Static).content)
        await pilot.press("f1")
        assert isinstance(app.screen, ErrorDialog)


async def test_a_search_shows_what_it_hits_and_escape_goes_back_one_step(app: MinimindApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        await pilot.press("question_mark", "slash", *"go train")
        assert isinstance(app.screen, HelpDialog)
        shown = str(app.screen.query_one("#keys", Static).content)
        assert "Go to Train" in shown and "Go to Home" not in shown
        await pilot.press(*"zzz")
        assert "no key does that" in str(app.screen.query_one("#keys", Static).content)
        await pilot.press("escape")
        assert isinstance(app.screen, HelpDialog) and "Go to Home" in str(app.screen.query_one("#keys", Static).content)
        await pilot.press("escape")
        assert not isinstance(app.screen, HelpDialog)


async def test_a_page_turned_in_a_palette_that_is_not_laid_out_yet(app: MinimindApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("ctrl+p")
        await pilot.pause()
        palette = app.screen
        assert isinstance(palette, Palette)
        palette.query_one(CommandList)._index_to_line.clear()
        palette._action_command_list("page_down")
        assert app.is_running and app.screen is palette
