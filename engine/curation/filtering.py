"""Rows of a file that are worth keeping: by reward, length, language, and by what is new in them. Loads no torch."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.curation.rows import last_words
from engine.curation.similarity import Frequencies, Novelty, triples_of
from engine.errors import DataError, UserError
from engine.rewards.language import language_of
from engine.text.fingerprints import content_hash
from engine.text.records import Quarantined, Record, open_records
from engine.text.row_files import new_files, stored_rows
from engine.text.tokenizer import Tokenizer

Judge = Callable[[Sequence[Record]], Sequence[float | None]]
"""The reward of each row, None where there is none; such as `engine.curation.judging.RowJudge`."""

_TOGETHER = 256
"""Rows that are judged at a time."""


@dataclass(frozen=True)
class Filters:
    """What rows must be like.

    Length and language are those of what a row ends with: its last turn or text, of a pair both sides.

    Attributes:
        min_chars: The fewest characters.
        max_chars: The most; 0: any number.
        min_tokens: The fewest tokens.
        max_tokens: The most; 0: any number.
        language: `en` (any language in latin letters) or `zh`; empty: any. Where a reply has no words (a number, a
            formula), what was asked decides; where that has none either, the row stays.
        min_reward: The least reward; None: any.
        distinct: Whether rows that say the same as an earlier one are dropped.
        diversity: How far, from 0 to 1, a row must be from every earlier one that is kept: 1 less the Jaccard
            similarity of the word triples in all that users and assistants say.
    """

    min_chars: int = 0
    max_chars: int = 0
    min_tokens: int = 0
    max_tokens: int = 0
    language: str = ""
    min_reward: float | None = None
    distinct: bool = False
    diversity: float = 0.0

    @property
    def needs_tokens(self) -> bool:
        """Whether tokens are counted."""
        return bool(self.min_tokens or self.max_tokens)


def stored_rewards(records: Sequence[Record]) -> list[float | None]:
    """The `reward` that each row holds, as the recipes write it."""
    return [_number(record.extra.get("reward")) for record in records]


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def filter_rows(
    path: Path,
    out: Path,
    filters: Filters,
    *,
    tokenizer: Tokenizer | None = None,
    judge: Judge = stored_rewards,
    mapping: Mapping[str, str] | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
) -> dict[str, Any]:
    """Writes the rows that pass every filter; they keep their order and, in JSON lines files, their bytes.

    A row counts for the first filter that it does not pass, in the order of the attributes of `Filters`.

    Args:
        path: The file.
        out: The new file, JSON lines.
        filters: What rows must be like.
        tokenizer: Counts tokens, where they are limited.
        judge: Gives the rewards, where there is a least one.
        mapping: Our field names → the file's columns.
        overwrite: Whether `out` may be replaced.
        progress: Told how many rows are done.

    Returns:
        file, out, `rows`, those `kept`, the `dropped` ones, how many for which reason, `mean_reward` of the rows that
        were judged, and the `quarantined` lines.

    Raises:
        UserError: There is no filter, `out` is taken or is no JSON lines file.
        DataError: Not one row is kept.
    """
    if filters == Filters():
        raise UserError("there is nothing to filter by", hint="give a limit, such as --max-chars 500 --no-duplicates")
    file = open_records(path, mapping=mapping)
    rows, quarantined = 0, list[dict[str, Any]]()

    def usable() -> Iterator[tuple[Record, bytes]]:
        nonlocal rows
        for item, line in stored_rows(file):
            rows += 1
            if isinstance(item, Quarantined):
                quarantined.append({"line": item.line, "reason": item.reason})
            else:
                yield item, line
            if progress and rows % _TOGETHER == 0:
                progress(rows, None)

    with new_files(out, sources=[path], overwrite=overwrite) as (target,):
        sieve = _Sieve(filters, tokenizer, judge, file.records() if filters.diversity else ())
        kept = 0
        for line in sieve.pass_on(usable()):
            target.write(line)
            kept += 1
        if not kept:
            reasons = "; ".join(f"{count} × {reason}" for reason, count in sieve.dropped.most_common(3))
            raise DataError(f"no row is kept: {reasons}", where=str(path))
    return {
        "file": str(path), "out": str(out), "rows": rows, "kept": kept, "dropped": dict(sieve.dropped.most_common()),
        "mean_reward": sieve.mean_reward, "quarantined": quarantined,
    }  # fmt: skip


class _Sieve:
    """The filters with what they remember.

    Args:
        filters: What rows must be like.
        tokenizer: Counts tokens.
        judge: Gives rewards.
        known: Rows whose words are counted, so that similar ones are found quickly.
    """

    def __init__(self, filters: Filters, tokenizer: Tokenizer | None, judge: Judge, known: Iterable[Record]) -> None:
        self._filters, self._tokenizer, self._judge = filters, tokenizer, judge
        self.dropped: Counter[str] = Counter()
        self._seen: set[int] = set()
        self._rewards, self._judged = 0.0, 0
        frequencies = Frequencies()
        for record in known:
            frequencies.add(triples_of(_conversation(record)))
        self._novelty = Novelty(1 - filters.diversity, frequencies)

    @property
    def mean_reward(self) -> float | None:
        """The mean reward of the rows that were judged."""
        return self._rewards / self._judged if self._judged else None

    def pass_on(self, rows: Iterable[tuple[Record, bytes]]) -> Iterator[bytes]:
        """The lines of the rows that pass."""
        waiting: list[tuple[Record, bytes]] = []
        for record, line in rows:
            if reason := self._unfit(record):
                self.dropped[reason] += 1
                continue
            waiting.append((record, line))
            if len(waiting) == _TOGETHER:
                yield from self._worth(waiting)
                waiting = []
        yield from self._worth(waiting)

    def _unfit(self, record: Record) -> str:
        """Why a row does not pass the filters that look at what it says; empty: it passes."""
        filters, said = self._filters, last_words(record)
        if reason := _outside([len(text) for text in said], filters.min_chars, filters.max_chars, "characters"):
            return reason
        if filters.needs_tokens and self._tokenizer:
            tokens = [len(ids) for ids in self._tokenizer.tokenize_batch(said)]
            if reason := _outside(tokens, filters.min_tokens, filters.max_tokens, "tokens"):
                return reason
        if filters.language and any(_language(record, text) not in (filters.language, None) for text in said):
            return "another language"
        return ""

    def _worth(self, rows: Sequence[tuple[Record, bytes]]) -> Iterator[bytes]:
        """The lines of the rows that have the reward, and something new."""
        least = self._filters.min_reward
        rewards = [None] * len(rows) if least is None else self._judge([record for record, _ in rows])
        for (record, line), reward in zip(rows, rewards, strict=True):
            if reward is not None:
                self._rewards += reward
                self._judged += 1
            if least is not None and (reward is None or reward < least):
                self.dropped["no reward" if reward is None else "the reward is too low"] += 1
            elif reason := self._known(record):
                self.dropped[reason] += 1
            else:
                yield line

    def _known(self, record: Record) -> str:
        """What a row repeats; empty: nothing, and it is remembered."""
        if self._filters.distinct:
            content = content_hash(record)
            if content in self._seen:
                return "a duplicate"
            self._seen.add(content)
        if self._filters.diversity and not self._novelty.take(triples_of(_conversation(record))):
            return "too similar to an earlier row"
        return ""


def _outside(sizes: Sequence[int], least: int, most: int, unit: str) -> str:
    if min(sizes) < least:
        return f"too few {unit}"
    return f"too many {unit}" if most and max(sizes) > most else ""


def _language(record: Record, said: str) -> str | None:
    """The language of what a row ends with; where that has no words, of the last question."""
    asked = [message.content for message in record.messages if message.role == "user"]
    return language_of(said) or language_of(asked[-1] if asked else "")


def _conversation(record: Record) -> str:
    """All that is said in a row. System prompts, which many rows share, are no part of it."""
    said = [message.content for message in record.messages[:-1] if message.role in ("user", "assistant")]
    return "\n".join([*said, *last_words(record)])
