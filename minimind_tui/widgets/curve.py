"""One chart of one metric, drawn by plotext into strips, with a crosshair that reads its values."""

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from minimind_tui.core import charts
from minimind_tui.core.charts import Chart, View
from minimind_tui.core.plot import AXIS, Drawing, draw
from minimind_tui.core.series import Series

_ROLES = ("first", "second", "faint", "other-a", "other-b", "other-c", "other-d", "other-e")
"""Component classes by role, see `minimind_tui.core.charts`."""
_BLANK = " ⠀"


class Curve(Widget, can_focus=True):
    """Curves of one metric over the steps.

    A drawing is kept until the size, the data or the view changes; drawing costs what the downsampled window costs.
    The crosshair follows the mouse, or the arrow keys; the line below then says what each curve is there.
    """

    HELP = (
        "A chart of one metric. Left and right (h, l) move a crosshair, whose step and values stand below the chart; "
        "g and G lead to the first and the last step, escape removes it. Enter or z enlarges the chart."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "cross(-1)", "Crosshair left", show=False, id="curve.left"),
        Binding("right,l", "cross(1)", "Crosshair right", show=False, id="curve.right"),
        Binding("shift+left,H,ctrl+u", "cross(-10)", "Crosshair far left", show=False, id="curve.far_left"),
        Binding("shift+right,ctrl+d", "cross(10)", "Crosshair far right", show=False, id="curve.far_right"),
        Binding("g,home", "cross(-10000)", "First step", show=False, id="curve.first"),
        Binding("G,end", "cross(10000)", "Last step", show=False, id="curve.last"),
        Binding("enter", "enlarge", "Enlarge", show=False, id="curve.enlarge"),
        Binding("escape", "uncross", "No crosshair", show=False, id="curve.uncross"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"curve--axis", "curve--cross", *[f"curve--{role}" for role in _ROLES]}

    DEFAULT_CSS = """
    Curve {
        border: round $foreground 30%;
        border-title-color: $text;
        border-subtitle-color: $foreground 60%;
        &:focus { border: round $border; border-title-style: bold; }
        & > .curve--axis { color: $foreground 60%; }
        & > .curve--cross { background: $foreground 25%; color: $text; }
        & > .curve--first { color: $primary; text-style: bold; }
        & > .curve--second { color: $warning; text-style: bold; }
        & > .curve--faint { color: $foreground 35%; }
        & > .curve--other-a { color: $success; }
        & > .curve--other-b { color: $error; }
        & > .curve--other-c { color: $secondary; }
        & > .curve--other-d { color: $text-warning; }
        & > .curve--other-e { color: $foreground; }
    }
    """

    class Enlarged(Message):
        """This chart is to be seen alone."""

        def __init__(self, curve: "Curve") -> None:
            super().__init__()
            self.curve = curve

        @property
        def control(self) -> "Curve":
            return self.curve

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._chart, self._view = Chart("", ()), View()
        self._said: str | None = None
        self._titles = ("", "")
        self._drawn_for: tuple[object, ...] = ()
        self._drawing = Drawing([])
        self._strips: list[Strip] = []
        self._cross: int | None = None

    def show(
        self, title: str, subtitle: str, series: Sequence[Series], *, log_y: bool = False, whole: bool = True
    ) -> None:
        """Shows series, each in a colour of its own, with a subtitle that says whatever it says."""
        roles = [charts.MAIN, charts.VALIDATION, *range(charts.OTHER, len(_ROLES))]
        curves = tuple(charts.Trace("", one, "", roles[place % len(roles)]) for place, one in enumerate(series))
        self._said = subtitle
        self._show(Chart(title, curves), View(whole, log_y))

    def show_chart(self, chart: Chart, view: View) -> None:
        """Shows a chart, its newest values below; nothing is drawn again where nothing has changed."""
        self._said = None
        self._show(chart, view)

    def _show(self, chart: Chart, view: View) -> None:
        if chart.title != self._chart.title:
            self._cross = None
        self._chart, self._view = chart, view
        self._say()
        if self._key() != self._drawn_for:
            self.refresh()

    @property
    def cross_step(self) -> float | None:
        """The step under the crosshair."""
        return None if self._cross is None else self._drawing.step_at(self._cross)

    def _say(self) -> None:
        """The title, and the line below: the values at the crosshair, or the newest."""
        step = self.cross_step
        if step is not None:
            below = f"step {step:,.0f}: {self._chart.values(step)}"
        else:
            below = self._chart.values() if self._said is None else self._said
        if (self._chart.title, below) != self._titles:  # setting them paints the widget again
            self._titles = (self._chart.title, below)
            self.border_title, self.border_subtitle = map(Content, self._titles)

    # Drawing

    def _key(self) -> tuple[object, ...]:
        data = tuple((curve.series, self._news(curve.series), curve.role) for curve in self._chart.curves)
        return self.content_size, data, self._view, self.app.theme

    def _news(self, series: Series) -> int:
        """Grows with what changes the drawing: of a long curve, points that are worth half a column."""
        return (
            len(series) // max(1, len(series) // (2 * self.content_size.width or 1))
            if self._view.whole
            else series.version
        )

    def render_line(self, y: int) -> Strip:
        if self._key() != self._drawn_for:
            self._strips, self._drawn_for = self._draw(self.content_size), self._key()
        if y >= len(self._strips):
            return Strip.blank(self.content_size.width, self.rich_style)
        strip = self._strips[y]
        return strip if self._cross is None or y >= len(self._strips) - 2 else self._crossed(strip, self._cross)

    def _crossed(self, strip: Strip, cross: int) -> Strip:
        """A row with the crosshair's cell marked, by a line where nothing is drawn."""
        place = self._drawing.left + cross
        cell = strip.crop(place, place + 1)
        style = self._style("cross")
        text = cell.text if cell.text.strip(_BLANK) else "┊"
        return Strip.join([strip.crop(0, place), Strip([Segment(text, style)], 1), strip.crop(place + 1)])

    def _draw(self, size: Size) -> list[Strip]:
        self._drawing = Drawing([])
        layers = self._chart.layers(self._view, size.width)
        if not any(layer.points for layer in layers):
            return self._message("no points yet", size)
        try:
            self._drawing = draw(layers, size.width, size.height, log_y=self._view.log_y)
        except (ArithmeticError, ValueError) as error:
            return self._message(f"cannot be drawn: {error}", size)
        styles = {AXIS: self._style("axis"), **{role: self._style(name) for role, name in enumerate(_ROLES)}}
        return [Strip([Segment(text, styles[role]) for text, role in row], size.width) for row in self._drawing.rows]

    def _style(self, name: str) -> Style:
        """A component's style, its share of transparency mixed with what is behind."""
        styles = self.get_component_styles(f"curve--{name}")
        behind = self.background_colors[1] + styles.background
        colours = Style(color=(behind + styles.color).rich_color, bgcolor=behind.rich_color)
        return colours + styles.text_style

    def _message(self, text: str, size: Size) -> list[Strip]:
        strips = [Strip.blank(size.width, self.rich_style) for _ in range(size.height)]
        if strips:
            said = set_cell_size(text.center(size.width), size.width)
            strips[size.height // 2] = Strip([Segment(said, self._style("axis"))], size.width)
        return strips

    # The crosshair

    def _move_cross(self, column: int | None) -> None:
        if column is not None:
            column = max(0, min(self._drawing.columns - 1, column)) if self._drawing.columns else None
        if column != self._cross:
            self._cross = column
            self._say()
            self.refresh()

    def action_cross(self, by: int) -> None:
        """Moves the crosshair by columns; it begins at the newest step."""
        columns = self._drawing.columns
        self._move_cross((columns if self._cross is None else self._cross) + by)

    def action_uncross(self) -> None:
        """Removes the crosshair."""
        self._move_cross(None)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Escape is this chart's only while there is a crosshair."""
        return self._cross is not None if action == "uncross" else True

    def action_enlarge(self) -> None:
        """Asks to be seen alone, or with the others again."""
        self.post_message(self.Enlarged(self))

    def on_mouse_move(self, event: events.MouseMove) -> None:
        place = event.get_content_offset(self)
        self._move_cross(None if place is None or place.x < self._drawing.left else place.x - self._drawing.left)

    def on_leave(self) -> None:
        self._move_cross(None)

    def on_blur(self) -> None:
        self._move_cross(None)
