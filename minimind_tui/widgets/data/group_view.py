"""The answers of a group beside each other: what each was worth, in all and by part, and how it ended."""

from collections.abc import Sequence

from rich.cells import cell_len
from textual.content import Content
from textual.widgets import Static

from engine.clean import clean
from minimind_tui.core.rollouts import Rollout
from minimind_tui.widgets.profiles.cells import fit
from minimind_tui.widgets.states import MUTED

_FEW, _MANY, _TALL = 4, 10, 34
"""Answers in sight, on a terminal of fewer rows than the last number and of more."""
_LEAST_TEXT = 12
_ENDS = {"stop": "ended", "length": "cut off", "context": "no room"}


class GroupView(Static):
    """A line an answer, as many as there is room for around the one that is looked at."""

    DEFAULT_CSS = """
    GroupView { height: auto; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    _group: Sequence[Rollout] = ()
    _row = -1

    def show(self, group: Sequence[Rollout], row: int) -> None:
        """Shows the group of a row; nothing for rows that are no rollouts."""
        self._group, self._row = group, row
        self.display = bool(group)
        self._paint()

    def on_resize(self) -> None:
        self._paint()

    def _paint(self) -> None:
        place = next((place for place, each in enumerate(self._group) if each.row == self._row), None)
        if place is None:
            return
        room = min(len(self._group), _MANY if self.app.size.height >= _TALL else _FEW)
        first = max(0, min(place - room // 2, len(self._group) - room))
        shown = self._group[first : first + room]
        width = self.content_size.width
        lines = _lines(_columns(shown, first, width), ["", *map(_said, shown)], width)
        styles = [MUTED, *("bold" if first + each == place else "" for each in range(room))]
        marked = [Content.styled(line, style) for line, style in zip(lines, styles, strict=True)]
        self.update(Content("\n").join([_title(self._group, place), *marked]))


def _title(group: Sequence[Rollout], place: int) -> Content:
    own = group[place]
    parts = [f"round {own.round:,}", f"answer {place + 1} of {len(group)}"]
    parts += [f"expected {clean(own.expected, newlines=False)}"] if own.expected is not None else []
    return Content.assemble((" · ".join(parts), "bold"), ("  , . others" if len(group) > 1 else "", MUTED))


def _lines(rows: Sequence[Sequence[str]], texts: Sequence[str], width: int) -> list[str]:
    """Rows of cells, aligned to the right, and behind them as much of the texts as there is room for."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = [
        " ".join(" " * (size - cell_len(cell)) + cell for cell, size in zip(row, widths, strict=True)) for row in rows
    ]
    room = width - sum(widths) - len(widths) - 1
    if room < _LEAST_TEXT:
        return lines
    return [f"{line}  {fit(text, room)}" for line, text in zip(lines, texts, strict=True)]


def _columns(shown: Sequence[Rollout], first: int, width: int) -> list[list[str]]:
    """Head and rows, all of as many cells; parts that have no room are left out from the right."""
    names = list(dict.fromkeys(name for each in shown for name in each.parts))
    rows = [["", "reward", "advantage", "end", "tokens", *(clean(name, newlines=False) for name in names)]]
    rows += [
        [
            str(first + place + 1), f"{each.reward:.3g}", f"{each.advantage:+.3g}",
            _ENDS.get(each.stop_reason, clean(each.stop_reason, newlines=False)), str(len(each.ids)),
            *(f"{each.parts[name]:.3g}" if name in each.parts else "–" for name in names),
        ]
        for place, each in enumerate(shown)
    ]  # fmt: skip
    while names and sum(max(map(cell_len, column)) + 1 for column in zip(*rows, strict=True)) > width + 1:
        names.pop()
        rows = [row[:-1] for row in rows]
    return rows


def _said(rollout: Rollout) -> str:
    return clean(" ".join(rollout.text.split()), newlines=False)
