"""Results on standard output, narration on standard error."""

import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import click

from engine.clean import clean
from engine.runs.events import to_json_value


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(to_json_value(document), ensure_ascii=False, indent=1))


def say(text: str) -> None:
    """A line of narration on standard error."""
    click.echo(clean(text), err=True)


def print_text(text: str) -> None:
    """Text of a result on standard output, made safe for the terminal."""
    click.echo(clean(text) if sys.stdout.isatty() else text)


def print_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Columns on standard output."""
    cells = [list(head), *[["" if cell is None else clean(str(cell), newlines=False) for cell in row] for row in rows]]
    widths = [max(_columns(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        padded = (cell + " " * (width - _columns(cell)) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def _columns(text: str) -> int:
    """How many columns of the terminal a text takes: Chinese characters and most emoji take two."""
    return sum(0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def shorten(text: str, most: int = 100) -> str:
    """The beginning of a text, for one line of narration."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def number(value: Any, digits: int = 4) -> str:
    """A number for people; `–` where there is none."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}g}" if abs(value) < 1e5 else f"{value:,.0f}"
