"""How a token looks: by colours of the theme where there are colours, by attributes alone where there are none."""

from typing import NamedTuple

from rich.style import Style
from textual.color import Color
from textual.content import Content
from textual.style import Style as ContentStyle
from textual.widget import Widget

from minimind_tui.core.tokens import DIVERGENCE, DOCUMENT, HEAT_SIGNS, PAD, PART, TokenSheet

PREFIX = "token-view--"
ROLES = ("system", "user", "assistant", "tool", "text", "unknown", PAD)
COMPONENTS = {PREFIX + name for name in (*ROLES, *(f"heat-{step}" for step in range(len(HEAT_SIGNS))), "odd", "cursor")}
"""The component classes that a palette reads colours from."""

LETTERS = {"system": "S", "user": "U", "assistant": "A", "tool": "T"}
"""What stands for a role in the gutter."""

_UNTRAINED, _DIMMED, _MARK = 0.75, 0.6, 0.45
"""How much of its colour a token keeps."""


class Look(NamedTuple):
    """All that decides a token's style.

    `weight` is 0 of a token that is not trained, 1 of a trained one, 2 of one that is trained more; `odd` tells
    neighbours apart; a `mark` stands for something that cannot be seen.
    """

    role: str
    weight: int = 0
    special: bool = False
    odd: bool = False
    dimmed: bool = False
    heat: int | None = None
    cursor: bool = False
    mark: bool = False


class Palette:
    """The styles of looks, from a widget's component classes. It is made anew when the widget's styles change.

    Attributes:
        plain: Whether shades cannot be relied upon, so that attributes and signs tell everything.
        base: The widget's own style.
    """

    def __init__(self, widget: Widget) -> None:
        self._widget = widget
        self._coloured = not widget.app.no_color
        self.plain = is_plain(widget)
        _, _, self._background, self._foreground = widget.colors
        self.base = Style.from_color(self._foreground.rich_color, self._background.rich_color)
        self._styles: dict[Look, Style] = {}

    def style(self, look: Look) -> Style:
        """The style of a look."""
        if look not in self._styles:
            self._styles[look] = self._make(look)
        return self._styles[look]

    def _make(self, look: Look) -> Style:
        attributes = Style(
            underline=look.weight > 0,
            bold=look.weight > 1,
            # Reversed, a special token's heat would be its text's colour.
            reverse=look.special != (look.cursor if self.plain else look.special and look.heat is not None),
            dim=self.plain and look.odd,
            italic=look.dimmed if self.plain else look.special and look.heat is not None,
        )
        colour = self._colour(look.role if look.role in ROLES else "unknown", self._foreground)
        if not self._coloured:
            return self.base + attributes
        if self.plain:
            return self.base + Style.from_color(colour.rich_color) + attributes
        background = self._background
        if look.heat is not None:
            background += self._shade(f"heat-{look.heat}")
            colour = background.get_contrast_text(1.0)
        if look.odd:
            background += self._shade("odd")
        if look.cursor:
            background, colour = background + self._shade("cursor"), self._colour("cursor", colour)
        kept = (1.0 if look.weight or look.cursor else _UNTRAINED) * (_DIMMED if look.dimmed else 1.0)
        kept *= _MARK if look.mark else 1.0
        colour = background.blend(colour, kept, 1.0)
        return Style.from_color(colour.rich_color, background.rich_color) + attributes

    def _colour(self, name: str, fallback: Color) -> Color:
        styles = self._widget.get_component_styles(PREFIX + name)
        return styles.color if styles.has_rule("color") else fallback

    def _shade(self, name: str) -> Color:
        return self._widget.get_component_styles(PREFIX + name).background

    def legend(self, sheet: TokenSheet) -> Content:
        """What the styles and signs of a sheet mean, in a line; only those that occur."""
        roles = [role for role in ROLES if role in sheet.roles]
        trained = [weight for weight in sheet.weights if weight > 0]
        said = next((role for role, weight in zip(sheet.roles, sheet.weights, strict=True) if weight > 0), "text")
        parts: list[tuple[str, Look | None]] = []
        if trained:
            parts.append(("trained", Look(said, 1)))
        if any(weight > 1 for weight in trained):
            parts.append((f"×{max(trained):g}", Look(said, 2)))
        if len(trained) < len(sheet) and (trained or not sheet.heat):
            parts.append(("not trained", Look("text")))
        if any(sheet.special):
            parts.append(("special", Look("text", special=True)))
        if PAD in roles:
            parts.append(("_ empty", Look(PAD)))
        if any(not text and role != PAD for text, role in zip(sheet.texts, sheet.roles, strict=True)):
            parts.append((f"{PART} split character", None))
        if sheet.starts:
            parts.append((f"{DOCUMENT} document", None))
        if 0 < sheet.dimmed < len(sheet):
            parts.append((f"{DIVERGENCE} sides part", None))
        parts += [(f"{LETTERS[role]} {role}", Look(role)) for role in roles if role in LETTERS]
        line = Content("  ").join(Content.styled(text, self._content_style(look)) for text, look in parts)
        return Content("  ").join([self._ramp(sheet), line]) if sheet.heat else line

    def _ramp(self, sheet: TokenSheet) -> Content:
        """The steps of heat, from cold to hot, and what they are."""
        steps = [
            Content.styled(sign or " ", self._content_style(Look("text", heat=step)))
            for step, sign in enumerate(HEAT_SIGNS if self.plain else [" "] * len(HEAT_SIGNS))
        ]
        return Content.assemble(*steps, f" {sheet.heat_title}")

    def _content_style(self, look: Look | None) -> ContentStyle | str:
        return "" if look is None else ContentStyle.from_rich_style(self.style(look))


def is_plain(widget: Widget) -> bool:
    """Whether colours cannot be mixed: the user wants none, or the theme leaves them to the terminal."""
    return widget.app.no_color or widget.app.native_ansi_color
