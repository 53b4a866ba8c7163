"""From token ids back to text: the bytes a token stands for, and a decoder that never splits a character."""

import codecs
import re
from collections.abc import Iterable, Mapping, Sequence

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _byte_alphabet() -> dict[str, int]:
    """What byte-level BPE writes for each byte (GPT-2): printable characters stay, the rest move to U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


BYTE_ALPHABET: Mapping[str, int] = _byte_alphabet()
"""Character → byte of byte-level BPE; all 256 bytes."""


def byte_level_bytes(token: str) -> bytes:
    """The bytes of a byte-level token; a token outside the byte alphabet stands for its own text."""
    if all(char in BYTE_ALPHABET for char in token):
        return bytes(BYTE_ALPHABET[char] for char in token)
    return token.encode()


def sentencepiece_bytes(token: str) -> bytes:
    """The bytes of a SentencePiece-style token: `<0xE4>` is a byte, `▁` a space."""
    if match := _BYTE_TOKEN.fullmatch(token):
        return bytes([int(match[1], 16)])
    return token.replace("▁", " ").encode()


class StreamDecoder:
    """Turns ids into text as they come, only at character borders.

    Invalid UTF-8 becomes U+FFFD. All that `feed` returned plus `flush` is the text of all ids.

    Args:
        table: The bytes of each id; ids beyond it (a model may have more rows than its tokenizer) stand for nothing.
        skip: Ids that leave no text.
        strip_space: Whether the tokenizer puts a space before every text, which is taken off again here.
    """

    def __init__(self, table: Sequence[bytes], *, skip: Iterable[int] = (), strip_space: bool = False) -> None:
        self._table, self._skip, self._strip_space = table, frozenset(skip), strip_space
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, ids: Iterable[int]) -> str:
        """The text that is complete with these ids; '' while a character is still open."""
        return "".join(map(self._feed_one, ids))

    def flush(self) -> str:
        """The end of the stream: U+FFFD if a character stayed open, else ''."""
        return self._utf8.decode(b"", final=True)

    def _feed_one(self, id_: int) -> str:
        if id_ in self._skip or not 0 <= id_ < len(self._table):
            return ""
        data = self._table[id_]
        if self._strip_space and data:
            self._strip_space = False
            data = data.removeprefix(b" ")
        return self._utf8.decode(data)
