"""The learning rate over the steps of a run."""

from rich.segment import Segment
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from minimind_tui.core.plot import AXIS, Layer, draw
from minimind_tui.core.series import Points


class RateCurve(Widget):
    """One curve; it is drawn again when its points or its size change."""

    COMPONENT_CLASSES = {"rate-curve--axis", "rate-curve--line"}  # noqa: RUF012
    DEFAULT_CSS = """
    RateCurve {
        height: 9; background: $background;
        & > .rate-curve--axis { color: $foreground 60%; }
        & > .rate-curve--line { color: $primary; text-style: bold; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._points: Points = []
        self._drawn: tuple[Size, str] | None = None
        self._strips: list[Strip] = []

    def show(self, points: Points) -> None:
        """Shows these learning rates."""
        if points != self._points:
            self._points, self._drawn = points, None
            self.refresh()

    def render_line(self, y: int) -> Strip:
        key = self.size, self.app.theme
        if key != self._drawn:
            self._strips, self._drawn = self._draw(self.size), key
        return self._strips[y]

    def _draw(self, size: Size) -> list[Strip]:
        axis, line = (self.get_component_rich_style(f"rate-curve--{part}") for part in ("axis", "line"))
        rows = draw([Layer(self._points)], size.width, size.height).rows
        return [
            Strip([Segment(text, axis if role == AXIS else line) for text, role in row], size.width) for row in rows
        ]
