"""One cleaning function for all text that a terminal will see."""

import re

_SYMBOLS = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "\u2421"}
_SYMBOLS |= {code: f"<{code:02X}>" for code in range(0x80, 0xA0)}
_SYMBOLS |= {
    code: f"<U+{code:04X}>"
    for code in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF, 0x2028, 0x2029)
}
_SYMBOLS |= {code: f"<U+{code:04X}>" for code in range(0xD800, 0xE000)}
_UNSAFE = re.compile("[" + "".join(re.escape(chr(code)) for code in _SYMBOLS if code not in (0x09, 0x0A)) + "]")


def clean(text: str, *, newlines: bool = True) -> str:
    """Makes control characters visible so that no text can steer a terminal.

    Escape sequences, C0 and C1 controls, DEL, bidirectional overrides and lone surrogates become symbols (`␛`, `<9B>`,
    `<U+202E>`). Newline and tab stay, unless `newlines` is false: then they become symbols too.
    """
    cleaned = _UNSAFE.sub(lambda match: _SYMBOLS[ord(match[0])], text)
    return cleaned if newlines else cleaned.replace("\n", "␊").replace("\t", "␉")
