"""Tokens made ready for looking at: what the token view paints, wherever the tokens come from."""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

from rich.cells import cell_len

from engine.clean import clean

PAD = "pad"
"""The role of an empty slot."""

PART = "┄"
"""Stands for a token that holds a part of a character, which is shown on the last of its tokens."""

DOCUMENT, DIVERGENCE = "▸", "≠"
"""Signs of lines: a document begins, or the sides of a pair part."""

_EMPTY_SLOT = (("_", 1, False),)
_JOINERS = "\u200c\u200d"
HEAT_SIGNS = ("", "", "░", "▒", "▓", "█")
"""The steps of heat, from cold to hot, with what stands before a token where there are no colours."""


@dataclass(frozen=True)
class TokenSheet:
    """A run of tokens in columns, all of the same length.

    Attributes:
        texts: Each token's text; they concatenate to the whole. A character split over tokens stands on its last one,
            the tokens before it have an empty text and belong to the same cell group.
        roles: Who says the token: system, user, assistant, tool, text; `pad` for padding.
        weights: Loss weight: 0 not trained, 1 trained, above 1 trained more.
        special: Whether the token is a special one, shown by its name.
        starts: Where documents begin, of a packed batch.
        dimmed: So many tokens at the beginning stand back, such as what the two sides of a pair share.
        heat: A value from 0 (cold) to 1 (hot) for each token, None where there is none; instead of the roles' colours.
        detail: What there is to say about a token, a line each: its id, bytes, what it predicts, why it is trained.
        heat_title: What the heat means, such as `loss, 0 to 7.2 nats`.
    """

    texts: Sequence[str]
    roles: Sequence[str]
    weights: Sequence[float]
    special: Sequence[bool]
    starts: Sequence[int] = ()
    dimmed: int = 0
    heat: Sequence[float | None] = ()
    detail: Callable[[int], Sequence[str]] = field(default=lambda index: ())
    heat_title: str = ""

    def __len__(self) -> int:
        return len(self.texts)

    def heat_step(self, index: int) -> int | None:
        """A token's step of heat, an index of `HEAT_SIGNS`; None where it has no value."""
        value = self.heat[index] if self.heat else None
        return None if value is None else min(len(HEAT_SIGNS) - 1, max(0, int(value * len(HEAT_SIGNS))))

    def border(self, index: int, step: int) -> int:
        """The next (`step` 1) or previous (-1) token at which training begins or ends; the same one without any."""
        trained = [weight > 0 for weight in self.weights]
        borders = [place for place, (before, here) in enumerate(pairwise(trained), start=1) if before != here]
        if step > 0:
            return next((place for place in borders if place > index), index)
        return next((place for place in reversed(borders) if place < index), index)

    def character(self, index: int) -> str:
        """The text that a token stands for; of a part of a character, the text that it becomes part of."""
        return next((text for text in self.texts[index:] if text), "")


Piece = tuple[int, str, int, int]
"""A piece of a token on a line: the token, its text, the cell where it begins, the cells that it takes. Spaces, tabs
and the newline at its end are still in it."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of tokens.

    Attributes:
        pieces: From left to right; a token of several lines has a piece on each.
        role: Whose tokens they are.
        begins: Whether the role's turn begins here.
        sign: `DOCUMENT`, `DIVERGENCE`, or nothing.
    """

    pieces: list[Piece]
    role: str
    begins: bool
    sign: str


class Layout:
    """Tokens wrapped to a width: between tokens, inside only of those longer than a line, and after newlines.

    A line holds one role; documents, and what differs between the sides of a pair, begin on lines of their own.

    Args:
        sheet: The tokens.
        width: Cells a line.
        heat_signs: Whether hot tokens carry a sign of their heat before them, for terminals without colours.

    Attributes:
        lines: The lines.
        first_lines: The line on which each token begins.
    """

    def __init__(self, sheet: TokenSheet, width: int, *, heat_signs: bool = False) -> None:
        self.lines: list[Line] = []
        self.first_lines = [0] * len(sheet)
        self._width = width = max(1, width)
        signs = dict.fromkeys(sheet.starts, DOCUMENT)
        if 0 < sheet.dimmed < len(sheet):
            signs[sheet.dimmed] = DIVERGENCE
        role: str | None = None
        column = waiting = 0
        pieces: list[Piece] = []
        for index, (text, owner) in enumerate(zip(sheet.texts, sheet.roles, strict=True)):
            if owner != role or index in signs:
                if waiting:  # no character goes on over such a border
                    self._add_parts(index - waiting, index, column)
                    waiting = 0
                pieces, column = self._begin(owner, begins=owner != role, sign=signs.get(index, "")), 0
                role = owner
            if not text and owner != PAD:
                waiting += 1
                continue
            chunks = _EMPTY_SLOT if owner == PAD else _chunks(text)
            if heat_signs and (step := sheet.heat_step(index)) and (sign := HEAT_SIGNS[step]):
                (first, cells, breaks), *others = chunks
                chunks = ((sign + first, cells + 1, breaks), *others)
            if waiting:
                room = width - waiting - chunks[0][1]
                if column > room >= 0:
                    column = len(self._begin(role))
                column = self._add_parts(index - waiting, index, column)
                pieces, waiting = self.lines[-1].pieces, 0
            for shown, cells, breaks in chunks:
                if column + cells > width:
                    if column:
                        pieces, column = self._begin(role), 0
                    if cells > width:
                        *rows, shown = _chopped(shown, width)
                        for row in rows:
                            pieces.append((index, row, 0, width_of(row)))
                            pieces = self._begin(role)
                        cells = width_of(shown)
                pieces.append((index, shown, column, cells))
                column += cells
                if breaks:
                    pieces, column = self._begin(role), 0
        if waiting:
            self._add_parts(len(sheet) - waiting, len(sheet), column)
        if self.lines and not self.lines[-1].pieces:
            del self.lines[-1]
        for number in reversed(range(len(self.lines))):
            for token, _, _, _ in self.lines[number].pieces:
                self.first_lines[token] = number

    def _begin(self, role: str, *, begins: bool = False, sign: str = "") -> list[Piece]:
        """Begins a line, in place of an empty one that a newline left."""
        if self.lines and not self.lines[-1].pieces:
            del self.lines[-1]
        pieces: list[Piece] = []
        self.lines.append(Line(pieces, role, begins, sign))
        return pieces

    def _add_parts(self, first: int, last: int, column: int) -> int:
        """Adds tokens that hold parts of a character; returns the cell behind them."""
        for part in range(first, last):
            if column >= self._width:
                self._begin(self.lines[-1].role)
                column = 0
            self.lines[-1].pieces.append((part, PART, column, 1))
            column += 1
        return column

    def lines_of(self, index: int) -> range:
        """The lines on which a token stands."""
        first = last = self.first_lines[index]
        while last + 1 < len(self.lines) and self.lines[last + 1].pieces[0][0] == index:
            last += 1
        return range(first, last + 1)

    def column_of(self, index: int) -> int:
        """The cell at which a token begins."""
        pieces = self.lines[self.first_lines[index]].pieces
        return next(column for token, _, column, _ in pieces if token == index)

    def token_at(self, line: int, column: int) -> int:
        """The token at a cell of a line; beyond its ends, the first or last one."""
        pieces = self.lines[min(max(line, 0), len(self.lines) - 1)].pieces
        return next((token for token, _, start, cells in pieces if column < start + cells), pieces[-1][0])


def width_of(text: str) -> int:
    """The cells that a piece's text takes, with a cell for a newline or a tab."""
    return cell_len(text) + text.count("\n") + text.count("\t")


@lru_cache(1 << 16)
def _chunks(text: str) -> tuple[tuple[str, int, bool], ...]:
    """A token's text made safe and visible, cut after newlines: text, cells, and whether a line ends with it."""
    if text.isascii() and text.isprintable():
        return ((text, len(text), False),)
    shown = _visible(clean(text))
    return tuple((chunk, width_of(chunk), chunk.endswith("\n")) for chunk in _split_lines(shown))


def _split_lines(text: str) -> list[str]:
    *lines, last = text.split("\n")
    return [*[f"{line}\n" for line in lines], *([last] if last else [])]


def _visible(text: str) -> str:
    """Characters without a shape of their own get one, and none joins with a neighbouring token's."""
    last = len(text) - 1
    text = "".join(_code(char) if _is_hidden(char, place in (0, last)) else char for place, char in enumerate(text))
    first = text[0]
    if "🏻" <= first <= "🏿":
        return _code(first) + text[1:]
    joins = unicodedata.category(first)[0] == "M" or "\U0001f1e6" <= first <= "\U0001f1ff"
    return f"◌{text}" if joins or not (first in "\n\t" or cell_len(text)) else text


def _is_hidden(char: str, outer: bool) -> bool:
    return unicodedata.category(char) == "Cf" and (outer or char not in _JOINERS)


def _code(char: str) -> str:
    return f"<U+{ord(char):04X}>"


def _chopped(text: str, width: int) -> list[str]:
    """A text longer than a line, cut so that the pieces fill lines."""
    rows, used = [""], 0
    for char in text:
        cells = width_of(char)
        if used + cells > width and rows[-1]:
            rows.append("")
            used = 0
        rows[-1] += char
        used += cells
    return rows
