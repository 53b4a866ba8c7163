"""Strict JSON: what cannot be trusted is refused with a short reason, and nothing downstream can run out of stack."""

import json
from typing import Any, NoReturn

import orjson

from engine.clean import clean

MAX_DEPTH = 64
"""Levels of nesting that a usable row may have; far below what any recursive code downstream can take."""


class BadRow(Exception):
    """A row that cannot be used.

    Attributes:
        reason: A short plain reason, safe to show.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class _NotANumber(ValueError):
    """`NaN` or an infinity."""


def loads(raw: bytes | bytearray | str) -> Any:
    """Parses one JSON value.

    Raises:
        BadRow: Invalid UTF-8, broken or truncated JSON, NaN or Infinity, lone surrogates, NUL characters, or more than
            `MAX_DEPTH` levels.
    """
    data = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise BadRow(_reason(data)) from None
    # Walking every value is slow; only rows that could be deep, or that spell a NUL, are walked.
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH or b"\\u0000" in data:
        check_tree(value)
    return value


def check_tree(value: Any) -> None:
    """Refuses values nested too deeply and NUL characters in any string, without recursion.

    Raises:
        BadRow: One was found.
    """
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                if "\0" in item:
                    raise BadRow("NUL character in text")
            elif isinstance(item, dict):
                below.extend(item)
                below.extend(item.values())
            elif isinstance(item, list | tuple):
                below.extend(item)
        if not below:
            return
        level = below
    raise BadRow(f"nested deeper than {MAX_DEPTH} levels")


def quote(text: object, limit: int = 40) -> str:
    """A name from a file as it may stand in a reason: short, on one line, without control characters."""
    shown = str(text)
    return repr(clean(shown[:limit] + ("…" if len(shown) > limit else ""), newlines=False))


def _reason(data: bytes | bytearray) -> str:
    """Why orjson refused: found with the standard parser, as orjson's messages differ from version to version."""
    if b"\0" in data:
        return "NUL character in text"
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        lone = data[error.start] == 0xED and data[error.start + 1 : error.start + 2] >= b"\xa0"
        return "lone surrogate" if lone else f"invalid UTF-8 at byte {error.start + 1}"
    try:
        value = json.loads(text, parse_constant=_refuse)
        check_tree(value)
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            return "truncated JSON: it ends too early"
        return f"broken JSON at character {error.pos + 1}: {error.msg}"
    except UnicodeEncodeError:
        return "lone surrogate"
    except _NotANumber as error:
        return f"{error} is not JSON"
    except BadRow as error:
        return error.reason
    except RecursionError:
        return f"nested deeper than {MAX_DEPTH} levels"
    except ValueError:
        return "number out of range"
    return "number out of range"


def _refuse(constant: str) -> NoReturn:
    raise _NotANumber(constant)
