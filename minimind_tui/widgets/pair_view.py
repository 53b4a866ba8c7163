"""The two sides of a pair beside each other: what they share is dimmed, and walked through together."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from textual import on
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.content import Content
from textual.events import DescendantFocus, Resize
from textual.widgets import Static

from engine.clean import clean
from minimind_tui.core.sheets import LabelledSheet, PairSheets
from minimind_tui.widgets.token_view import TokenView

_SIDES = ("chosen", "rejected")
_STACKED = 72
"""Below so many cells the sides stand one above the other."""


class PairView(Vertical):
    """Two token views whose scrolling is linked, and whose cursors are linked over what the sides share.

    Tab changes the side; so does going left of the right side's first token or right of the left side's last one.
    """

    HELP = TokenView.HELP + " What both sides share is dimmed; ≠ marks where they part. Tab changes the side."
    DEFAULT_CSS = """
    PairView {
        & > #sides { layout: horizontal; height: 1fr; width: 100%; }
        & > #sides > TokenView { height: 100%; width: 50%; }
        &.-stacked > #sides { layout: vertical; }
        &.-stacked > #sides > TokenView { height: 50%; width: 100%; }
        & > #margin { height: 1; padding: 0 1; color: $foreground 60%; text-wrap: nowrap; text-overflow: ellipsis; }
    }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._shared = 0
        self._current = _SIDES[0]
        self._linking = False

    def compose(self) -> ComposeResult:
        with Container(id="sides"):
            for side in _SIDES:
                yield TokenView(id=side, empty="no pair to show")
        yield Static("", id="margin")

    def on_mount(self) -> None:
        for side in _SIDES:
            self.watch(self._side(side), "scroll_y", partial(self._scrolled, side), init=False)
            self.watch(self._side(side), "cursor", partial(self._walked, side), init=False)

    def on_resize(self, event: Resize) -> None:
        self.set_class(event.size.width < _STACKED, "-stacked")
        # The same width on both sides: what they share wraps alike.
        half = event.size.width if event.size.width < _STACKED else event.size.width // 2
        for side in _SIDES:
            self._side(side).styles.width = half

    @property
    def current(self) -> TokenView:
        """The side that has, or last had, the focus."""
        return self._side(self._current)

    def show(self, pair: PairSheets | None, *, notes: tuple[str, str] = ("", ""), margin: str = "") -> None:
        """Shows another pair, or none.

        Args:
            pair: The sides.
            notes: What is known of each side beside its counts, such as `log p -34.2`.
            margin: What is known of both.
        """
        self._shared = pair.shared if pair else 0
        for side, note in zip(_SIDES, notes, strict=True):
            view, labelled = self._side(side), getattr(pair, side) if pair else None
            with self._link(), view.prevent(TokenView.Moved):
                view.show(labelled.sheet if labelled else None, cursor=self._shared)
            view.border_title = Content(_title(side, labelled))
            view.border_subtitle = Content(clean(note, newlines=False))
        self.query_one("#margin", Static).update(Content(_common(pair, margin)))
        if pair:
            self.current.announce()

    def detail(self) -> list[str]:
        """What there is to say about the token under the current side's cursor."""
        return self.current.detail()

    def legend(self) -> Content:
        """What the styles and signs mean, in a line."""
        return self.current.legend()

    def _side(self, side: str) -> TokenView:
        return self.query_one(f"#{side}", TokenView)

    def _other(self, side: str) -> TokenView:
        return self._side(_SIDES[1 - _SIDES.index(side)])

    def _scrolled(self, side: str, before: float, top: float) -> None:
        """The other side follows as far as it goes; it does not pull this one back."""
        if not self._linking:
            with self._link():
                self._other(side).scroll_to(y=top, animate=False, force=True)

    def _walked(self, side: str, before: int, cursor: int) -> None:
        """The other cursor comes along over what both sides share."""
        if not self._linking and cursor < self._shared:
            other = self._other(side)
            with self._link(), other.prevent(TokenView.Moved):
                other.go_to(cursor)

    @contextmanager
    def _link(self) -> Iterator[None]:
        self._linking = True
        yield
        self._linking = False

    @on(TokenView.Edge)
    def _edge(self, event: TokenView.Edge) -> None:
        if event.step == (1 if self._current == _SIDES[0] else -1):
            event.stop()
            self._other(self._current).focus()

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        if event.widget.id in _SIDES and event.widget.id != self._current:
            self._current = event.widget.id
            if self.current.sheet:
                self.current.announce()


def _title(side: str, labelled: LabelledSheet | None) -> str:
    if labelled is None:
        return side
    cut = f" · {labelled.truncated:,} cut" if labelled.truncated else ""
    return f"{side} · {labelled.trained:,} of {len(labelled.sheet):,} trained{cut}"


def _common(pair: PairSheets | None, margin: str) -> str:
    """The line under both sides."""
    if pair is None:
        return ""
    cut = dict.fromkeys(side.note for side in (pair.chosen, pair.rejected) if side.note)
    parts = [clean(margin, newlines=False), f"the first {pair.shared:,} tokens are the same", *cut]
    return " · ".join(part for part in parts if part)
