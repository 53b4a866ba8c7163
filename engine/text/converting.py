"""Data files in another layout, or made for another stage."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.errors import DataError
from engine.text.records import Quarantined, Record, open_records
from engine.text.row_files import new_files
from engine.text.shapes import as_prompt
from engine.text.strict_json import BadRow
from engine.text.writing import LAYOUTS, Written, write_record

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_OPEN_TAG = re.compile("<think>|<answer>")

_Reduced = tuple[Record, tuple[str, ...]]


def convert_file(
    path: Path, out: Path, to: str, *, mapping: Mapping[str, str] | None = None, overwrite: bool = False
) -> dict[str, Any]:
    """Writes the rows of a file in another layout.

    Args:
        path: The file.
        out: The new file, JSON lines.
        to: One of `TARGETS`.
        mapping: Our field names → the file's columns.
        overwrite: Whether `out` may be replaced.

    Returns:
        `rows` in the file, `written`, the lines that are `quarantined` (unreadable) and `refused` (what `to` cannot
        hold) with their reasons, and what was `lost` in how many rows.

    Raises:
        UserError: `out` is taken or is no JSON lines file.
        DataError: Not one row can be written.
    """
    file = open_records(path, mapping=mapping)
    written = 0
    lost: Counter[str] = Counter()
    quarantined, refused = list[dict[str, Any]](), list[dict[str, Any]]()
    with new_files(out, sources=[path], overwrite=overwrite) as (target,):
        for item in file:
            if isinstance(item, Quarantined):
                quarantined.append({"line": item.line, "reason": item.reason})
                continue
            try:
                row = convert_record(item, to)
            except BadRow as error:
                refused.append({"line": item.line, "reason": error.reason})
                continue
            target.write(row.line)
            written += 1
            lost.update(row.lost)
        if not written:
            first = refused[0]
            raise DataError(f"no row can be written as {to}: {first['reason']}", where=f"{path}:{first['line']}")
    return {
        "file": str(path), "out": str(out), "to": to, "rows": written + len(refused) + len(quarantined),
        "written": written, "quarantined": quarantined, "refused": refused, "lost": dict(lost.most_common()),
    }  # fmt: skip


def convert_record(record: Record, to: str) -> Written:
    """A record in a layout, or as what another stage reads.

    Raises:
        BadRow: It cannot be expressed; the reason says why.
    """
    if to not in _REDUCTIONS:
        return write_record(record, to)
    reduced, lost = _REDUCTIONS[to](record)
    written = write_record(reduced, "minimind")
    return Written(written.line, (*lost, *written.lost))


def _as_text(record: Record) -> _Reduced:
    """What is said, a turn a paragraph."""
    if record.shape == "text":
        return record, ()
    if record.shape != "conversation":
        raise BadRow(f"a {record.shape} is no running text")
    found = {
        "roles": True,
        "tools": record.tools is not None,
        "tool calls": any(message.tool_calls for message in record.messages),
        "reasoning": any(message.reasoning_content for message in record.messages),
        "answer": record.answer is not None,
        "check": record.check is not None,
    }
    text = "\n\n".join(message.content for message in record.messages if message.content.strip())
    if not text:
        raise BadRow("nothing is said in it")
    reduced = replace(record, shape="text", text=text, messages=(), tools=None, answer=None, check=None)
    return reduced, tuple(name for name, is_lost in found.items() if is_lost)


def _as_conversation(record: Record) -> _Reduced:
    """A pair's chosen side."""
    if record.shape == "conversation":
        return record, ()
    if record.shape != "pair":
        raise BadRow("running text has no turns" if record.shape == "text" else "a prompt has no reply to learn from")
    return replace(record, shape="conversation", rejected=()), ("rejected side",)


def _as_prompt(record: Record) -> _Reduced:
    """What comes before the last reply, which becomes the answer unless the row has one."""
    if record.shape == "prompt":
        return record, ()
    conversation, lost = _as_conversation(record)
    prompt, last = as_prompt(conversation), conversation.messages[-1]
    if last.role != "assistant":
        return prompt, lost
    answer = conversation.answer or _answer(last.content)
    if last.reasoning_content or last.tool_calls or answer != last.content.strip():
        lost += ("what the reply says beyond its answer",)
    return replace(prompt, answer=answer), lost


def _answer(reply: str) -> str:
    """What a reply gives as its answer: inside its last answer tags, else after its thoughts, else all of it."""
    tagged = _ANSWER.findall(reply)
    answer: str = (tagged[-1] if tagged else reply.rpartition("</think>")[2]).strip()
    if not answer or (not tagged and _OPEN_TAG.search(answer)):
        raise BadRow("the last reply gives no answer")
    return answer


_REDUCTIONS: dict[str, Callable[[Record], _Reduced]] = {
    "text": _as_text,
    "sft": _as_conversation,
    "prompts": _as_prompt,
}

TARGETS = (*LAYOUTS, *_REDUCTIONS)
"""What a file can be converted to: layouts, and `text`, `sft` and `prompts`, which say less (in MiniMind's layout)."""
