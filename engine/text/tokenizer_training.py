"""Trains a byte-level BPE tokenizer whose control tags are single tokens, and measures any tokenizer."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from engine.errors import DataError, UserError
from engine.text.template import project_template
from engine.text.tokenizer import END_OF_DOCUMENT, TAGS, Tokenizer

CONTROL = (END_OF_DOCUMENT, "<|im_start|>", "<|im_end|>")
"""Special tokens; with `TAGS` after them they are the first ids."""

SMALLEST_VOCABULARY = 256 + len(CONTROL) + len(TAGS)
"""All bytes and all markers, without a single merge."""

_MARKERS = re.compile("|".join(map(re.escape, CONTROL + TAGS)))
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_LETTER = re.compile(r"[^\W\d_]")
_BATCH = 1000


def train_tokenizer(
    texts: Iterable[str], vocab_size: int = 6400, *, progress: Callable[[int], None] | None = None
) -> Tokenizer:
    """Trains a byte-level BPE tokenizer (GPT-2's regex, digits one by one) with the project's chat template.

    The same texts give the same bytes of `tokenizer.json`. A small text may not hold enough pairs that occur twice:
    then the vocabulary stays smaller than asked for.

    Args:
        texts: Read once. Markers in them are left out, so that they do not distort the merges.
        vocab_size: Tokens, all 256 bytes and the markers included. Larger: fewer tokens a text, but a larger embedding
            (for small models most of the parameters) and rarely seen tokens.
        progress: Called now and then with the number of texts read.

    Raises:
        UserError: The vocabulary is too small, or there is no text.
        DataError: A text holds a lone surrogate.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise UserError(
            f"a vocabulary of {vocab_size} is too small for all 256 bytes and {len(CONTROL + TAGS)} markers",
            where="vocab_size",
            hint=f"use at least {SMALLEST_VOCABULARY}; 6400 is a good size for small models",
        )
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[AddedToken(marker, normalized=False) for marker in CONTROL + TAGS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    read = _Counter(progress)
    try:
        backend.train_from_iterator(read.parts(texts), trainer=trainer)
    except UnicodeEncodeError as error:
        raise DataError(f"text {read.count} holds a lone surrogate", hint="remove this row") from error
    if not read.characters:
        raise UserError("there is no text to train a tokenizer on", hint="give a data file with usable rows")
    state = json.loads(backend.to_str())
    for token in state["added_tokens"]:
        token["special"] = token["content"] in CONTROL  # tags survive skip_special_tokens
    special = {"eos_token": "<|im_end|>", "pad_token": END_OF_DOCUMENT}
    return Tokenizer(state, special_tokens=special, chat_template=project_template())


class _Counter:
    """Counts what the trainer reads."""

    def __init__(self, progress: Callable[[int], None] | None) -> None:
        self._progress = progress
        self.count = self.characters = 0

    def parts(self, texts: Iterable[str]) -> Iterator[list[str]]:
        """The parts of each text between markers."""
        for text in texts:
            parts = [part for part in _MARKERS.split(text) if part]
            self.count += 1
            self.characters += sum(map(len, parts))
            if self._progress and self.count % _BATCH == 0:
                self._progress(self.count)
            yield parts
        if self._progress:
            self._progress(self.count)


def evaluate_tokenizer(tokenizer: Tokenizer, texts: Iterable[str], other: Tokenizer | None = None) -> dict[str, Any]:
    """Measures a tokenizer on texts, in which markers count as ordinary text.

    Returns:
        `texts`, `tokenizer` and, with `other`, also `other` (the same figures) and `token_ratio` by language (tokens
        of `tokenizer` divided by those of `other`; below 1, `tokenizer` is the more compact one). The figures are
        `vocab_size`, `unused_share` (ordinary tokens that never occurred), `round_trip_failures` (`count` and the first
        `examples`) and by language (`chinese` where at least 30 % of the letters are Han, `other`, `all`): `texts`,
        `characters`, `bytes`, `tokens`, `characters_per_token`, `bytes_per_token`.

    Raises:
        UserError: There is no text.
    """
    measures = [_Measure(each) for each in ((tokenizer,) if other is None else (tokenizer, other))]
    remaining = (text for text in texts if text)
    count = 0
    while batch := list(islice(remaining, _BATCH)):
        count += len(batch)
        for measure in measures:
            measure.add(batch)
    if not count:
        raise UserError("there is no text to evaluate a tokenizer on", hint="give a data file with usable rows")
    result: dict[str, Any] = {"texts": count, "tokenizer": measures[0].figures()}
    if other is not None:
        result["other"] = measures[1].figures()
        ours, theirs = (result[name]["languages"] for name in ("tokenizer", "other"))
        result["token_ratio"] = {language: ours[language]["tokens"] / theirs[language]["tokens"] for language in ours}
    return result


class _Measure:
    """The running figures of one tokenizer."""

    _EXAMPLES = 3

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._seen: set[int] = set()
        self._sums: dict[str, dict[str, int]] = {}
        self._failures = 0
        self._examples: list[dict[str, str]] = []

    def add(self, texts: list[str]) -> None:
        for text, ids in zip(texts, self._tokenizer.tokenize_batch(texts, markers=False), strict=True):
            self._seen.update(ids)
            amounts = {"texts": 1, "characters": len(text), "bytes": len(text.encode()), "tokens": len(ids)}
            for language in (_language(text), "all"):
                sums = self._sums.setdefault(language, dict.fromkeys(amounts, 0))
                for name, amount in amounts.items():
                    sums[name] += amount
            if (decoded := self._tokenizer.decode(ids)) != text:
                self._failures += 1
                if len(self._examples) < self._EXAMPLES:
                    self._examples.append({"text": text[:200], "decoded": decoded[:200]})

    def figures(self) -> dict[str, Any]:
        tokenizer = self._tokenizer
        ordinary = tokenizer.vocab_size - len(tokenizer.control_tokens) - len(tokenizer.tags)
        languages = {
            language: {
                **sums,
                "characters_per_token": sums["characters"] / max(sums["tokens"], 1),
                "bytes_per_token": sums["bytes"] / max(sums["tokens"], 1),
            }
            for language, sums in sorted(self._sums.items())
        }
        return {
            "vocab_size": tokenizer.vocab_size,
            "unused_share": 1 - len(self._seen) / max(ordinary, 1),
            "round_trip_failures": {"count": self._failures, "examples": self._examples},
            "languages": languages,
        }


def _language(text: str) -> str:
    han, letters = len(_HAN.findall(text)), len(_LETTER.findall(text))
    return "chinese" if letters and han >= 0.3 * letters else "other"
