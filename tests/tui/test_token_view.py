"""The token view and the pair view by keyboard, and what they paint."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.segment import Segment
from rich.style import Style
from textual.app import App, ComposeResult
from textual.widget import Widget

from engine.text.encode import Encoder, EncodeSettings
from engine.text.records import Message, Record
from engine.text.tokenizer import Tokenizer
from minimind_tui.core.sheets import LabelledSheet, PairSheets, pair_sheets, sample_sheets, with_values
from minimind_tui.core.tokens import TokenSheet
from minimind_tui.widgets.pair_view import PairView
from minimind_tui.widgets.token_view import TokenView

CSS = Path(__file__).parents[2] / "minimind_tui" / "app.tcss"
GUTTER = 3
TALK = (
    Message("system", "be 你好 😀"),
    Message("user", "1 <|im_end|>\te\u0301 \x1b[31mred\u202e"),
    Message(
        "assistant", "<think>\nwhy not?\n</think>\n\nThe quick brown fox jumps over the lazy dog. 从前有一只小狐狸"
    ),
    Message("user", "and?"),
    Message("assistant", "The dog sleeps in the sun."),
)


class OneWidget(App[None]):
    """One widget, and what it says."""

    CSS_PATH = CSS

    def __init__(self, widget: Widget) -> None:
        super().__init__()
        self.widget = widget
        self.moves: list[tuple[str, int]] = []
        self.copies: list[str] = []

    def compose(self) -> ComposeResult:
        yield self.widget

    def on_token_view_moved(self, event: TokenView.Moved) -> None:
        self.moves.append((event.view.id or "", event.index))

    def on_token_view_copy(self, event: TokenView.Copy) -> None:
        self.copies.append(event.text)


def talk_sheet(tokenizer: Tokenizer, messages: Sequence[Message] = TALK) -> LabelledSheet:
    record = Record(0, 1, "conversation", "openai", messages=(*messages,))
    return sample_sheets(record, Encoder(tokenizer, EncodeSettings(4096)))[0]


def pair_of(tokenizer: Tokenizer, chosen: str, rejected: str) -> PairSheets:
    sides = [(*TALK[:2], Message("assistant", text)) for text in (chosen, rejected)]
    record = Record(0, 1, "pair", "p", messages=sides[0], rejected=sides[1])
    return pair_sheets(record, Encoder(tokenizer, EncodeSettings(4096)))


def simple(*texts: str, **columns: Any) -> TokenSheet:
    count = len(texts)
    usual = {"roles": ["text"] * count, "weights": [1.0] * count, "special": [False] * count}
    return TokenSheet(texts, **{**usual, **columns})


def painted(view: TokenView) -> dict[int, list[Segment]]:
    """Every token's segments, found by the cells that the layout gives them, over all lines."""
    assert view._wrapped is not None and view.sheet is not None
    found: dict[int, list[Segment]] = {}
    for line in view._wrapped.lines:
        segments = list(view._paint(line, view.scrollable_content_region.width))
        cell, starts = 0, {}
        for segment in segments:
            starts[cell] = segment
            cell += segment.cell_length
        for token, _, column, cells in line.pieces:
            inside = [one for at, one in starts.items() if column <= at - GUTTER < column + cells]
            found.setdefault(token, []).extend(inside)
    return found


def attributes(style: Style | None) -> tuple[object, ...]:
    """What is left of a style where there are no colours."""
    assert style is not None
    return tuple(bool(getattr(style, name)) for name in ("bold", "dim", "italic", "underline", "reverse"))


def text_of(view: TokenView) -> str:
    return "\n".join(view.render_line(y).text.rstrip() for y in range(view.content_size.height))


@pytest.mark.parametrize("no_color", [False, True])
@pytest.mark.parametrize("train_on", ["assistant", "all"])
async def test_what_is_underlined_is_exactly_what_the_loss_reads(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, train_on: str, no_color: bool
) -> None:
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    encoder = Encoder(tokenizer, EncodeSettings(4096, train_on))
    sides = [(*TALK, Message("user", "so"), Message("assistant", answer)) for answer in ("one", "two")]
    records = [
        Record(0, 1, "conversation", "openai", messages=TALK),
        Record(1, 2, "text", "text", text="The fox\n\nsleeps. 从前有一只小狐狸 😀"),
        Record(2, 3, "pair", "p", messages=sides[0], rejected=sides[1]),
        Record(3, 4, "prompt", "p", messages=TALK[:2]),
    ]
    view = TokenView()
    async with OneWidget(view).run_test(size=(80, 24)):
        for record in records:
            for sample, labelled in zip(encoder.encode(record), sample_sheets(record, encoder), strict=True):
                view.show(labelled.sheet, cursor=len(sample) - 1)
                segments = painted(view)
                assert [*segments] == [*range(len(sample))]
                underlined = [{bool(each.style and each.style.underline) for each in one} for one in segments.values()]
                assert underlined == [{bool(weight > 0)} for weight in sample.loss_weights]


@pytest.mark.parametrize("no_color", [False, True])
async def test_everything_can_be_told_apart_without_colours(monkeypatch: pytest.MonkeyPatch, no_color: bool) -> None:
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    sheet = simple(
        "a", "b", "c", "d", "e", "f", "<s>", "</s>", "<t>", "x",
        weights=[0, 0, 1, 1, 10, 10, 0, 1, 10, 0], special=[False] * 6 + [True] * 3 + [False],
    )  # fmt: skip
    view = TokenView()
    async with OneWidget(view).run_test(size=(80, 24)):
        view.show(sheet, cursor=9)
        styles = [segments[0].style for segments in painted(view).values()]
        if no_color:
            for left, right in pairwise(styles):
                assert attributes(left) != attributes(right), "neighbours differ without colours"
            assert len({attributes(styles[i]) for i in (0, 2, 4, 6, 8)}) == 5
            assert attributes(styles[9]) not in {attributes(styles[i]) for i in (1, 3, 5)}, "the cursor is seen"
        else:
            assert len({attributes(styles[i]) for i in (0, 2, 4, 6, 7, 8)}) == 6
            assert all(left != right for left, right in pairwise(styles))


async def test_characters_that_cannot_be_seen_have_signs_and_hostile_ones_do_nothing(tokenizer: Tokenizer) -> None:
    view = TokenView()
    async with OneWidget(view).run_test(size=(80, 24)):
        view.show(talk_sheet(tokenizer).sheet)
        text = text_of(view)
        for seen in ("be·", "你", "┄😀", "⇥", "␛[31mred", "<U+202E>", "why·not?⏎", "◌\u0301", "S›<|im_start|>system⏎"):
            assert seen in text
        assert not {"\x1b", "\u202e", "\t"} & set(text)
        assert {view.render_line(y).cell_length for y in range(view.content_size.height)} == {
            view.scrollable_content_region.width
        }


async def test_walking_by_keys(tokenizer: Tokenizer) -> None:
    sheet = talk_sheet(tokenizer).sheet
    view = TokenView()
    app = OneWidget(view)
    async with app.run_test(size=(60, 12)) as pilot:
        view.focus()
        view.show(sheet)
        await pilot.pause()
        assert app.moves == [("", 0)]
        await pilot.press("right", "l", "right", "h", "left")
        assert view.cursor == 1 and app.moves[-1] == ("", 1)
        await pilot.press("G")
        assert view.cursor == len(sheet) - 1 and view.scroll_offset.y == view.max_scroll_y > 0
        await pilot.press("g")
        assert view.cursor == 0 and view.scroll_offset.y == 0
        await pilot.press("left")
        assert view.cursor == 0
        trained = [weight > 0 for weight in sheet.weights]
        borders = [index for index in range(1, len(sheet)) if trained[index] != trained[index - 1]]
        for border in borders:
            await pilot.press("right_square_bracket")
            assert view.cursor == border
        await pilot.press("right_square_bracket")
        assert view.cursor == borders[-1]
        await pilot.press("left_square_bracket", "left_square_bracket")
        assert view.cursor == borders[-3]
        await pilot.press("g", "ctrl+d")
        page = view.cursor
        assert page > 0
        await pilot.press("ctrl+u")
        assert view.cursor == 0
        await pilot.press("end")
        assert sheet.texts[view.cursor] == "\n"
        await pilot.press("home")
        assert view.cursor == 0


async def test_up_and_down_keep_the_column_also_over_short_lines_and_long_tokens() -> None:
    view = TokenView()
    async with OneWidget(view).run_test(size=(30, 12)) as pilot:
        view.focus()
        view.show(simple("aa", "bb", "cc", "dd\n", "e\n", "\n\n", "long " * 12 + "\n", "ff", "gg", "hh"), cursor=2)
        seen = []
        for _ in range(5):
            await pilot.press("j")
            seen.append(view.cursor)
        assert seen == [4, 5, 6, 9, 9]
        seen = []
        for key in ("up", "k", "up", "up", "up"):
            await pilot.press(key)
            seen.append(view.cursor)
        assert seen == [6, 5, 4, 2, 2]


async def test_a_click_sets_the_cursor_and_y_copies_the_text() -> None:
    view = TokenView()
    app = OneWidget(view)
    async with app.run_test(size=(40, 10)) as pilot:
        view.show(simple("one", " two", "\n", "", "", "😀", "\x1b[31m"))
        await pilot.click(view, offset=(1 + GUTTER + 4, 1))
        assert view.cursor == 1 and view.has_focus
        await pilot.press("y", "G", "y")
        await pilot.click(view, offset=(1 + GUTTER + 1, 2))
        assert view.cursor == 4
        await pilot.press("y")
        await pilot.pause()
        assert app.copies == [" two", "\x1b[31m", "😀"]
        await pilot.click(view, offset=(20, 8))
        assert view.cursor == 4


async def test_moving_the_cursor_wraps_nothing_again_and_repaints_its_lines_only(tokenizer: Tokenizer) -> None:
    view = TokenView()
    async with OneWidget(view).run_test(size=(60, 20)) as pilot:
        view.focus()
        view.show(talk_sheet(tokenizer).sheet)
        await pilot.pause()
        wrapped, before = view._wrapped, dict(view._strips)
        await pilot.press("down")
        assert view._wrapped is wrapped
        changed = {number for number, strip in view._strips.items() if before.get(number) is not strip}
        assert changed <= {0, 1}
        assert view.render_line(1).text.startswith(" │›") and view.render_line(0).text.startswith(" S ")


async def test_a_new_width_wraps_again_and_a_new_theme_paints_again(tokenizer: Tokenizer) -> None:
    view = TokenView()
    app = OneWidget(view)
    async with app.run_test(size=(60, 20)) as pilot:
        view.show(talk_sheet(tokenizer).sheet, cursor=40)
        await pilot.pause()
        lines, style = view.virtual_size.height, painted(view)[0][0].style
        await pilot.resize_terminal(30, 20)
        await pilot.pause()
        assert view.virtual_size.height > lines and view.cursor == 40
        assert {view.render_line(y).cell_length for y in range(5)} == {view.scrollable_content_region.width}
        line = view._wrapped.first_lines[40] if view._wrapped else -1
        assert 0 <= line - view.scroll_offset.y < view.content_size.height
        app.theme = "textual-light"
        await pilot.pause()
        assert painted(view)[0][0].style != style
        app.theme = "textual-ansi" if "textual-ansi" in app.available_themes else "ansi-dark"
        await pilot.pause()
        segments = painted(view)
        assert len({attributes(segments[i][0].style)[1] for i in (1, 2)}) == 2, (
            "without mixed colours neighbours are dim"
        )


async def test_packed_documents_pads_and_heat() -> None:
    view = TokenView()
    sheet = simple(
        "a", "b", "c", "", "", roles=["text"] * 3 + ["pad"] * 2, weights=[0, 1, 0, 0, 0], starts=(0, 2),
        heat=(None, 0.0, 1.0, None, None), heat_title="loss, 0 to 3 nats",
    )  # fmt: skip
    async with OneWidget(view).run_test(size=(60, 10)):
        view.show(sheet, cursor=4)
        assert [view.render_line(y).text.rstrip() for y in range(3)] == ["▸  ab", "▸  c", "  ›__"]
        backgrounds = [one[0].style.bgcolor for one in painted(view).values() if one[0].style]
        assert len({*backgrounds[:3]}) == 3
        view.show(simple("<s>", "<t>", special=[True] * 2, heat=(0.9, 0.2)))
        styles = [one[0].style for one in painted(view).values()]
        assert not any(style and style.reverse for style in styles) and styles[0] != styles[1]
        view.show(sheet)
        legend = view.legend().plain
        assert "loss, 0 to 3 nats" in legend and "▸ document" in legend and "_ empty" in legend


async def test_heat_without_colours_is_a_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    view = TokenView()
    async with OneWidget(view).run_test(size=(60, 10)):
        view.show(simple("a", "b", "c", heat=(0.0, 0.6, 1.0), heat_title="loss"))
        assert view.render_line(0).text.rstrip() == "  ›a▒b█c"
        assert "░▒▓█ loss" in view.legend().plain


async def test_nothing_to_show_says_so_and_survives_all_keys() -> None:
    view = TokenView(empty="no row yet")
    app = OneWidget(view)
    async with app.run_test(size=(40, 9)) as pilot:
        view.focus()
        for sheet in (None, simple()):
            view.show(sheet)
            await pilot.press(
                *"hjklgGy", "left_square_bracket", "right_square_bracket", "home", "end", "ctrl+d", "ctrl+u"
            )
            await pilot.click(view, offset=(5, 3))
            await pilot.pause()
            assert "no row yet" in text_of(view) and view.detail() == [] and view.legend().plain == ""
        assert app.moves == [] and app.copies == []
        view.show(simple("a"))
        view.show(None)
        await pilot.pause()
        assert "no row yet" in text_of(view)


async def test_details_are_those_of_the_cursor_and_clean(tokenizer: Tokenizer) -> None:
    view = TokenView()
    async with OneWidget(view).run_test(size=(60, 20)):
        sheet = talk_sheet(tokenizer).sheet
        view.show(sheet, cursor=len(sheet) - 2)
        assert "'<|im_end|>'" in view.detail()[1] and view.detail()[-1].endswith("so that it learns to stop")
        view.show(TokenSheet(["a"], ["text"], [0], [False], detail=lambda index: ["\x1b[2J\n"]))
        assert view.detail() == ["␛[2J␊"]


async def test_a_pair_is_walked_together_until_its_sides_part(tokenizer: Tokenizer) -> None:
    view = PairView()
    app = OneWidget(view)
    pair = pair_of(tokenizer, "The dog sleeps in the sun.", "The dog jumps.")
    async with app.run_test(size=(81, 24)) as pilot:
        view.show(pair, notes=("log p -3.2", "[red]\x1b"), margin="margin +1")
        view.current.focus()
        await pilot.pause()
        left, right = view.query_one("#chosen", TokenView), view.query_one("#rejected", TokenView)
        assert app.moves == [("chosen", pair.shared)]
        assert left.size.width == right.size.width and left.region.y == right.region.y
        assert left.cursor == right.cursor == pair.shared
        rows = [
            next(n for n, line in enumerate(one._wrapped.lines) if line.sign) for one in (left, right) if one._wrapped
        ]
        assert rows[0] == rows[1]
        assert "trained" in str(left.border_title) and "[red]␛" in str(right.border_subtitle)
        await pilot.press("left", "left")
        assert left.cursor == right.cursor == pair.shared - 2
        assert {view_id for view_id, _ in app.moves} == {"chosen"}
        await pilot.press("right", "right", "right")
        assert (left.cursor, right.cursor) == (pair.shared + 1, pair.shared - 1)
        await pilot.press("G", "right")
        await pilot.pause()
        assert right.has_focus and view.current is right and app.moves[-1] == ("rejected", pair.shared - 1)
        assert left.cursor == len(pair.chosen.sheet) - 1
        assert view.detail() == right.detail()
        await pilot.press("g")
        assert left.cursor == 0
        await pilot.press("left")
        assert left.has_focus
        await pilot.press("tab")
        assert right.has_focus
        view.show(None)
        await pilot.pause()
        assert "no pair to show" in text_of(left)


async def test_the_sides_of_a_pair_scroll_together_and_stand_above_each_other_where_it_is_narrow(
    tokenizer: Tokenizer,
) -> None:
    view = PairView()
    async with OneWidget(view).run_test(size=(80, 12)) as pilot:
        view.show(pair_of(tokenizer, "one\n" * 40, "one\n" * 30 + "two\n" * 4))
        await pilot.pause()
        left, right = view.query_one("#chosen", TokenView), view.query_one("#rejected", TokenView)
        assert left.scroll_offset.y == right.scroll_offset.y > 0
        left.focus()
        await pilot.press("g")
        assert left.scroll_offset.y == right.scroll_offset.y == 0
        await pilot.press("G")
        assert left.scroll_offset.y == left.max_scroll_y > right.max_scroll_y == right.scroll_offset.y
        await pilot.resize_terminal(60, 24)
        await pilot.pause()
        assert left.region.x == right.region.x and left.region.bottom == right.region.y
        assert left.outer_size.width == right.outer_size.width == 60


async def test_values_come_later_without_moving_the_cursor(tokenizer: Tokenizer) -> None:
    view = TokenView()
    async with OneWidget(view).run_test(size=(60, 20)):
        labelled = talk_sheet(tokenizer)
        view.show(labelled.sheet, cursor=30)
        values = [float(index) for index in range(len(labelled.sheet))]
        view.show(with_values(labelled, values).sheet, cursor=view.cursor)
        assert view.cursor == 30 and view.detail()[-2].startswith("loss 30 nats")
