"""Plain text, wrapped by cells, and bytes."""

from rich.cells import cell_len

from engine.text.records import Quarantined
from minimind_tui.core.plain import hex_dump, quarantined_text, wrap


def test_wrapping_never_splits_a_wide_character() -> None:
    lines = wrap("a你好😀" * 9 + "\n\n\tplain", 7)
    assert "".join(lines) == "a你好😀" * 9 + "    plain"
    assert all(cell_len(line) <= 7 for line in lines)
    assert wrap("abcdefgh", 3) == ["abc", "def", "gh"]
    assert wrap("", 3) == [""]


def test_bytes_in_rows() -> None:
    assert [*hex_dump(b"\x1b[31mhi\xff", 8)] == ["0000  1b 5b 33 31 6d 68 69 ff  ·[31mhi·"]
    assert [line[:4] for line in hex_dump(bytes(20), 8)] == ["0000", "0008", "0010"]


def test_a_quarantined_line_is_shown_safely() -> None:
    shown = quarantined_text(Quarantined(7, "broken \x1b[2J", b"\xff\x1b]0;x\x07"), 80)
    assert shown.startswith("Line 7 cannot be used: broken ␛[2J.")
    assert "\\xff␛]0;x␇" in shown and "ff 1b 5d 30" in shown
    assert "\x1b" not in shown and "\x07" not in shown
