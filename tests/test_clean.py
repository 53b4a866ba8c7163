"""Nothing hostile reaches a terminal."""

import pytest

from engine.clean import clean


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "␛[31mred"),
        ("a\x00b\x07\x7f", "a␀b␇␡"),
        ("\x9b2J", "<9B>2J"),
        ("abc\u202edef", "abc<U+202E>def"),
        ("line\r\n", "line␍\n"),
        ("\ud800", "<U+D800>"),
        ("\u2066x\u2069", "<U+2066>x<U+2069>"),
        ("你好 😀 é\ttab", "你好 😀 é\ttab"),
    ],
)
def test_control_characters_become_visible(text, shown):
    assert clean(text) == shown


def test_newlines_can_be_shown_too():
    assert clean("a\nb\tc", newlines=False) == "a␊b␉c"


def test_every_c0_c1_and_bidi_control_is_gone():
    codes = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)]
    cleaned = clean("".join(map(chr, codes)), newlines=False)
    assert not set(cleaned) & set(map(chr, codes))
