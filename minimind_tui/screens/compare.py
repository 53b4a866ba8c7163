"""Compare: two to six runs beside each other."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.events import Click
from textual.screen import Screen
from textual.widgets import ContentSwitcher, DataTable, Footer, Static

from engine.clean import clean
from engine.errors import CheckpointError, EngineError
from engine.runs.folder import RunFolder
from minimind_tui.core import plot
from minimind_tui.core.charts import SMOOTHING, View
from minimind_tui.core.compare import Comparison, News
from minimind_tui.widgets.curve import Curve
from minimind_tui.widgets.runs.compare_answers import CompareAnswers
from minimind_tui.widgets.runs.compare_curves import CompareCurves
from minimind_tui.widgets.runs.compare_table import ORIGINS, CompareTable
from minimind_tui.widgets.states import MUTED

if TYPE_CHECKING:
    from minimind_tui.app import MinimindApp

_POLL_SECONDS = 2.0
VIEWS = {"curves": "Curves", "numbers": "Numbers", "settings": "Settings", "answers": "Samples"}
"""The views by id, in the order of their number keys."""


class ViewTab(Static):
    """A view's name; a click shows it."""

    def __init__(self, view: str) -> None:
        super().__init__(Content.assemble((f"{list(VIEWS).index(view) + 1} ", MUTED), VIEWS[view]), id=f"tab-{view}")
        self._view = view

    async def on_click(self, event: Click) -> None:
        event.stop()
        await self.screen.run_action(f"view('{self._view}')")


class CompareScreen(Screen[None]):
    """Curves over each other, numbers and settings in tables, samples side by side.

    Args:
        runs: Two to six runs; they have the letters A to F in this order.
    """

    HELP = (
        "Runs beside each other, each with a letter. Curves lie over each other, a chart a metric; Numbers mark the "
        "better value of a row with a star; Settings show only what differs, with where each value comes from; "
        "Samples are the newest answers to the same prompts. Escape leads back."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        *[
            Binding(str(number), f"view('{view}')", title, show=False, tooltip=f"Show {title.lower()}",
                    id=f"compare.{view}")
            for number, (view, title) in enumerate(VIEWS.items(), start=1)
        ],
        Binding("escape", "dismiss", "Back", tooltip="Back to the runs", id="compare.back"),
        Binding("right_square_bracket", "turn(1)", "Next view", key_display="]", tooltip="The next of the four views",
                id="compare.next"),
        Binding("left_square_bracket", "turn(-1)", "View before", show=False, key_display="[", id="compare.previous"),
        Binding("m", "more(1)", "More", tooltip="The next page of curves", id="compare.more"),
        Binding("M", "more(-1)", "Curves before", show=False, tooltip="The page before", id="compare.before"),
        Binding("v", "whole", "Newest", tooltip="Whole runs, or their newest steps", id="compare.whole"),
        Binding("y", "log_y", "Log y", tooltip="A logarithmic or a linear y axis", id="compare.log_y"),
        Binding("x", "smooth", "Smoothing: off, light, strong", show=False, id="compare.smooth"),
        Binding("z", "enlarge", "One chart alone, or all", show=False, id="compare.enlarge"),
    ]  # fmt: skip

    def __init__(self, runs: Sequence[RunFolder]) -> None:
        super().__init__()
        self._runs = list(runs)
        self._comparison: Comparison | None = None
        self._polling = False
        self._refused: EngineError | None = None

    @property
    def mini(self) -> "MinimindApp":
        """The app, with its type."""
        return cast("MinimindApp", self.app)

    def compose(self) -> ComposeResult:
        with Horizontal(id="views"):
            yield Static("compare", id="brand")
            for view in VIEWS:
                yield ViewTab(view)
        yield Static("reading the runs …", id="legend")
        with ContentSwitcher(id="switcher", initial=None):
            yield CompareCurves(id="curves")
            yield CompareTable(id="numbers")
            yield CompareTable(id="settings")
            yield CompareAnswers(id="answers")
        yield Static("", id="origins")
        yield Footer(show_command_palette=False)

    async def on_mount(self) -> None:
        curves = self.query_one(CompareCurves)
        curves.view = View(
            self.mini.state.get("compare.whole", True),
            self.mini.state.get("compare.log_y", self.mini.preferences.log_y),
        )
        numbers, settings = self.query_one("#numbers"), self.query_one("#settings")
        numbers.border_title, numbers.border_subtitle = "Numbers", "★ the better one"
        settings.border_subtitle = ORIGINS
        await self.action_view(self.mini.state.get("compare.view", "curves"))
        self._load()
        self.set_interval(_POLL_SECONDS, self._poll)

    @work(thread=True, exclusive=True, group="compare", exit_on_error=False)
    def _load(self) -> None:
        plot.load()
        try:
            comparison = Comparison(self._runs)
        except EngineError as error:
            self.app.call_from_thread(self._refuse, error)
        except OSError as error:
            gone = CheckpointError(f"a run cannot be read: {error.strerror}", where=str(error.filename or ""))
            self.app.call_from_thread(self._refuse, gone)
        else:
            self.call_later(self._loaded, comparison)

    def _refuse(self, error: EngineError) -> None:
        self._refused = error
        self.on_screen_resume()

    def on_screen_resume(self) -> None:
        """Gives its place to the error, if there is one; only when nothing lies above, which would go instead."""
        if self._refused is not None and self.app.screen is self:
            error, self._refused = self._refused, None
            self.dismiss()
            self.mini.show_error(error)

    async def _loaded(self, comparison: Comparison) -> None:
        self._comparison = comparison
        names = (Content.assemble((f"{letter} ", "$accent bold"), clean(name, newlines=False))
                 for letter, name in comparison.names())  # fmt: skip
        self.query_one("#legend", Static).update(Content("   ").join(names))
        await self.show()
        self._focus_view()

    def _poll(self) -> None:
        """Runs that go on are followed, one reading at a time: two would share out the news between them."""
        if self._comparison is not None and self._comparison.going_on and not self._polling:
            self._polling = True
            self._read_on(self._comparison)

    @work(thread=True, exit_on_error=False)
    def _read_on(self, comparison: Comparison) -> None:
        self.call_later(self._feed, comparison, comparison.poll())

    async def _feed(self, comparison: Comparison, news: Sequence[News]) -> None:
        self._polling = False
        if comparison.feed(news):
            await self.show()

    async def show(self) -> None:
        """Shows what is in sight of the comparison."""
        comparison = self._comparison
        if comparison is None:
            return
        names, view = comparison.names(), self.view
        if view == "curves":
            self.query_one(CompareCurves).show(comparison)
        elif view == "numbers":
            self.query_one("#numbers", CompareTable).show(names, comparison.numbers())
        elif view == "settings":
            rows, table = comparison.settings(), self.query_one("#settings", CompareTable)
            table.border_title = "Settings that differ" if rows else "Settings: none differs"
            table.show(names, rows)
            self._explain()
        else:
            await self.query_one(CompareAnswers).show(names, comparison.answers())
        self.refresh_bindings()

    @property
    def view(self) -> str:
        """The view in sight."""
        return self.query_one(ContentSwitcher).current or "curves"

    async def on_resize(self) -> None:
        """Another size has room for more or fewer charts."""
        self.call_after_refresh(self.show)

    @on(DataTable.RowHighlighted, "#settings")
    def _explain(self) -> None:
        """Below the settings stands the row under the cursor in full, with the origins in words."""
        row = self.query_one("#settings", CompareTable).selected
        line = self.query_one("#origins", Static)
        line.display = self.view == "settings" and row is not None
        if row is None or self._comparison is None:
            return
        line.border_title = Content(clean(row.name, newlines=False))
        said = []
        for (letter, _), cell in zip(self._comparison.names(), row.cells, strict=True):
            origin = f"  {clean(cell.origin, newlines=False)}" if cell.origin else ""
            said.append(
                Content.assemble((f"{letter} ", "$accent bold"), clean(str(cell), newlines=False), (origin, MUTED))
            )
        line.update(Content("\n").join(said))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The keys of curves only where there are curves."""
        if action in ("more", "whole", "log_y", "smooth", "enlarge"):
            curves = self.view == "curves" and self._comparison is not None
            return curves and (action != "more" or self.query_one(CompareCurves).pages > 1)
        return True

    # Actions

    async def action_view(self, view: str) -> None:
        """Shows one of the four views."""
        view = view if view in VIEWS else "curves"
        self.query_one(ContentSwitcher).current = view
        self.mini.state.keep("compare.view", view)
        for tab in self.query(ViewTab):
            tab.set_class(tab.id == f"tab-{view}", "-on")
        self.query_one("#origins").display = False
        self._focus_view()
        self.call_after_refresh(self.show)

    def _focus_view(self) -> None:
        shown = self.query_one(f"#{self.view}")
        (shown.query(Curve).first() if self.view == "curves" else shown).focus()

    async def action_turn(self, by: int) -> None:
        """The next view, or the one before."""
        views = list(VIEWS)
        await self.action_view(views[(views.index(self.view) + by) % len(views)])

    async def action_more(self, by: int) -> None:
        """Turns to the next curves, or to those before."""
        self.query_one(CompareCurves).page += by
        await self.show()

    @on(Curve.Enlarged)
    async def _enlarge(self, event: Curve.Enlarged) -> None:
        self.query_one(CompareCurves).enlarge(event.curve)
        await self.show()

    async def action_enlarge(self) -> None:
        """The chart in which one is takes all the room, or gives it back."""
        curves = self.query_one(CompareCurves)
        curves.enlarge(self.focused if isinstance(self.focused, Curve) else curves.query(Curve).first())
        await self.show()

    async def action_whole(self) -> None:
        """Whole runs, or their newest steps only."""
        view = self.query_one(CompareCurves).view
        await self._look(replace(view, whole=not view.whole))
        self.notify("curves of whole runs" if not view.whole else "curves of the newest steps", timeout=2)

    async def action_log_y(self) -> None:
        """A logarithmic or a linear y axis."""
        view = self.query_one(CompareCurves).view
        await self._look(replace(view, log_y=not view.log_y))
        self.notify(f"{'linear' if view.log_y else 'logarithmic'} y axis", timeout=2)

    async def action_smooth(self) -> None:
        """The next strength of smoothing."""
        view, names = self.query_one(CompareCurves).view, list(SMOOTHING)
        view = replace(view, smoothing=names[(names.index(view.smoothing) + 1) % len(names)])
        await self._look(view)
        self.notify(f"smoothing {view.smoothing}", timeout=2)

    async def _look(self, view: View) -> None:
        self.query_one(CompareCurves).view = view
        self.mini.state.keep("compare.whole", view.whole)
        self.mini.state.keep("compare.log_y", view.log_y)
        await self.show()
