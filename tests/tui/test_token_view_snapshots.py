"""What tokens look like; after a wanted change: pytest tests/tui/test_token_view_snapshots.py --snapshot-update."""

from typing import Any

import pytest
from textual.app import ComposeResult
from textual.content import Content
from textual.pilot import Pilot
from textual.widgets import Static

from engine.text.tokenizer import Tokenizer
from minimind_tui.core.sheets import LabelledSheet, with_values
from minimind_tui.core.tokens import TokenSheet
from minimind_tui.widgets.pair_view import PairView
from minimind_tui.widgets.token_view import TokenView
from tests.tui.test_token_view import OneWidget, pair_of, talk_sheet

ANSWER = "The quick brown fox jumps over the lazy dog, and the dog sleeps"


class WithLegend(OneWidget):
    """A view with its legend and what it says about the cursor's token."""

    CSS = "TokenView, PairView { height: 1fr; } #detail { height: 6; }"

    def compose(self) -> ComposeResult:
        yield from super().compose()
        yield Static(id="legend")
        yield Static(id="detail")

    def on_token_view_moved(self, event: TokenView.Moved) -> None:
        view = self.widget
        assert isinstance(view, TokenView | PairView)
        self.query_one("#legend", Static).update(view.legend())
        self.query_one("#detail", Static).update(Content("\n".join(view.detail())))


def test_tokens(snap_compare: Any, tokenizer: Tokenizer) -> None:
    async def before(pilot: Pilot[None]) -> None:
        view = pilot.app.query_one(TokenView)
        view.focus()
        view.show(talk_sheet(tokenizer).sheet)
        await pilot.press("right_square_bracket", "left")

    assert snap_compare(WithLegend(TokenView()), terminal_size=(80, 24), run_before=before)


def test_a_packed_row_with_weights_and_heat(snap_compare: Any, tokenizer: Tokenizer) -> None:
    async def before(pilot: Pilot[None]) -> None:
        talk = talk_sheet(tokenizer).sheet
        count, empty = len(talk), 24
        tags = [weight * (10 if special else 1) for weight, special in zip(talk.weights, talk.special, strict=True)]
        sheet = TokenSheet(
            texts=[*talk.texts, *talk.texts, *[""] * empty],
            roles=[*talk.roles, *talk.roles, *["pad"] * empty],
            weights=[*tags, *talk.weights, *[0.0] * empty],
            special=[*talk.special, *talk.special, *[False] * empty],
            starts=(0, count),
        )
        heat = [index % 29 / 4 if index > count and sheet.weights[index] else None for index in range(len(sheet))]
        pilot.app.query_one(TokenView).show(with_values(LabelledSheet("packed row", sheet), heat).sheet, cursor=count)
        await pilot.pause()

    assert snap_compare(WithLegend(TokenView()), terminal_size=(120, 40), run_before=before)


def test_a_pair_without_colours(snap_compare: Any, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def before(pilot: Pilot[None]) -> None:
        view = pilot.app.query_one(PairView)
        view.current.focus()
        pair = pair_of(tokenizer, f"{ANSWER} in the sun. 😀", f"{ANSWER}. 从前有一只小狐狸")
        view.show(pair, notes=("log p -34.2", "log p -40.1"), margin="margin +5.9")
        await pilot.press("left")

    assert snap_compare(WithLegend(PairView()), terminal_size=(80, 24), run_before=before)
