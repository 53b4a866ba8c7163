"""What rows have in common: the prompt that decides the split, the content that makes a duplicate."""

import hashlib

from engine.text.records import Record


def split_key(record: Record) -> float:
    """A number in [0, 1) by which rows are split; equal for rows that begin with the same prompt.

    Duplicates, and longer variants of one conversation, fall on the same side: conversations count by their first
    user message, running text by its first 256 characters (white space folded).
    """
    if not record.messages:
        return _digest(" ".join(record.text[:4096].split())[:256]) / 2**64
    first = next((message for message in record.messages if message.role == "user"), record.messages[0])
    return _digest(" ".join(first.content.split())) / 2**64


def content_hash(record: Record) -> int:
    """Equal for rows that say the same."""
    return _digest(record.text or repr((record.messages, record.rejected, record.tools)))


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest(), "big")
