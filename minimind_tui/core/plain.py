"""Plain text for a terminal: wrapped by cells, and bytes that nobody can trust. Without Textual."""

from collections.abc import Iterator

from rich.cells import cell_len, chop_cells

from engine.clean import clean
from engine.text.records import Quarantined
from engine.text.sources import RAW_BYTES

_TAB = 4


def wrap(text: str, width: int) -> list[str]:
    """Cuts a cleaned text into lines of at most `width` cells, between characters; wide ones are never split."""
    width = max(2, width)
    lines: list[str] = []
    for line in text.split("\n"):
        line = line.expandtabs(_TAB)
        if line.isascii():
            lines += [line[at : at + width] for at in range(0, len(line), width)] or [""]
        elif len(line) * 2 <= width or cell_len(line) <= width:
            lines.append(line)
        else:
            lines += chop_cells(line, width)
    return lines


def quarantined_text(entry: Quarantined, width: int) -> str:
    """A line that cannot be used: why, its beginning as text, and its beginning as bytes."""
    raw = entry.raw
    if not raw:
        return f"Line {entry.line:,} cannot be used: {clean(entry.reason, newlines=False)}."
    more = f", the first {len(raw)}" if len(raw) >= RAW_BYTES else f", {len(raw)}"
    return "\n".join(
        [
            f"Line {entry.line:,} cannot be used: {clean(entry.reason, newlines=False)}.",
            "",
            "As text:",
            clean(raw.decode("utf-8", errors="backslashreplace"), newlines=False),
            "",
            f"As bytes{more}:",
            *hex_dump(raw, 16 if width >= len("0000  ") + 16 * 4 + 2 else 8),
        ]
    )


def hex_dump(raw: bytes, columns: int = 16) -> Iterator[str]:
    """Bytes by position, in hexadecimal and as ASCII where they are printable."""
    for start in range(0, len(raw), columns):
        part = raw[start : start + columns]
        shown = "".join(chr(byte) if 0x20 <= byte < 0x7F else "·" for byte in part)
        yield f"{start:04x}  {part.hex(' '):<{columns * 3}} {shown}"
