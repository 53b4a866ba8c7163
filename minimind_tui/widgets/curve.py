"""One chart of one metric, drawn by plotext into strips."""

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from textual.content import Content
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from minimind_tui.core.plot import AXIS, draw
from minimind_tui.core.series import Series


class Curve(Widget):
    """Curves of one metric over the steps.

    A drawing is kept until the size, the data or a switch changes; drawing costs what the downsampled window costs.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {"curve--axis", "curve--first", "curve--second"}

    DEFAULT_CSS = """
    Curve {
        border: round $foreground 30%;
        border-title-color: $text;
        border-subtitle-color: $foreground 60%;
        & > .curve--axis { color: $foreground 60%; }
        & > .curve--first { color: $primary; text-style: bold; }
        & > .curve--second { color: $warning; text-style: bold; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._series: list[Series] = []
        self._log_y, self._whole = False, True
        self._drawn_for: tuple[object, ...] = ()
        self._strips: list[Strip] = []

    def show(
        self, title: str, subtitle: str, series: Sequence[Series], *, log_y: bool = False, whole: bool = True
    ) -> None:
        """Shows these curves; nothing is drawn again where nothing has changed."""
        self.border_title, self.border_subtitle = Content(title), Content(subtitle)
        self._series, self._log_y, self._whole = list(series), log_y, whole
        if self._key() != self._drawn_for:
            self.refresh()

    def _key(self) -> tuple[object, ...]:
        data = tuple((id(one), one.version) for one in self._series)
        return self.content_size, data, self._log_y, self._whole, self.app.theme

    def render_line(self, y: int) -> Strip:
        if self._key() != self._drawn_for:
            self._strips, self._drawn_for = self._draw(self.content_size), self._key()
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.content_size.width, self.rich_style)

    def _draw(self, size: Size) -> list[Strip]:
        windows = [one.window(size.width, whole=self._whole) for one in self._series]
        if not any(windows):
            return self._message("no points yet", size)
        try:
            rows = draw(windows, size.width, size.height, log_y=self._log_y)
        except (ArithmeticError, ValueError) as error:
            return self._message(f"cannot be drawn: {error}", size)
        base = self.rich_style
        styles = [base + self.get_component_rich_style(f"curve--{name}", partial=True) for name in ("first", "second")]
        axis = base + self.get_component_rich_style("curve--axis", partial=True)
        return [
            Strip([Segment(text, axis if role == AXIS else styles[min(role, 1)]) for text, role in row], size.width)
            for row in rows
        ]

    def _message(self, text: str, size: Size) -> list[Strip]:
        style = self.rich_style + self.get_component_rich_style("curve--axis", partial=True)
        strips = [Strip.blank(size.width, self.rich_style) for _ in range(size.height)]
        if strips:
            strips[size.height // 2] = Strip([Segment(text[: size.width].center(size.width), style)], size.width)
        return strips
