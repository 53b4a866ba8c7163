"""Tokenizers that cannot be talked into a marker: the same model, with its added tokens out of reach of the text.

An added token (`<|im_end|>`, `<think>`, …) is matched in the raw text before anything else, so a user who types one
would end the turn. Two variants of a tokenizer prevent that. The *plain* one knows no added tokens. In the *shielded*
one each added token answers only to a stand-in: a run of one private-use character, as long as the token itself, so
that character offsets stay those of the original text. Both lose the markers from the model's own vocabulary too,
where `ignore_merges` or a merge could reach them.
"""

import json
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import tokenizers

from engine.errors import DataError

State = dict[str, Any]
"""The parsed content of a `tokenizer.json`."""

_LAST_PRIVATE = 0x10FFFD


class Shield:
    """The plain and the shielded variant of one tokenizer.

    Args:
        state: The tokenizer's canonical `tokenizer.json`, with ids in `added_tokens` as the tokenizer uses them.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        added = {token["content"]: token["id"] for token in state["added_tokens"] if token["content"]}
        first = _LAST_PRIVATE + 1 - len(added)
        self._stand_ins = {content: chr(first + n) * len(content) for n, content in enumerate(added)}
        self._added = added
        longest_first = sorted(map(re.escape, added), key=len, reverse=True)
        self._marker = re.compile("|".join(longest_first) or "(?!)")
        self._private = re.compile(f"[{chr(first)}-{chr(_LAST_PRIVATE)}]" if added else "(?!)")

    @cached_property
    def plain(self) -> tokenizers.Tokenizer:
        """The tokenizer without its added tokens: every text is ordinary text."""
        # A byte-level or byte-fallback model has no unknowns; others keep their unknown token, under the stand-in name.
        unknown = self._state["model"]["unk_token"]
        kept = {unknown: self._stand_ins[unknown]} if unknown in self._stand_ins else {}
        return self._build(kept, [])

    @cached_property
    def shielded(self) -> tokenizers.Tokenizer:
        """The tokenizer whose added tokens answer to their stand-ins only."""
        tokens = [
            token | {"content": self._stand_ins[token["content"]], "single_word": False}
            for token in self._state["added_tokens"]
            if token["content"]
        ]
        return self._build(self._stand_ins, tokens)

    def shield(self, text: str, literal: Sequence[tuple[int, int]]) -> str:
        """Puts stand-ins for the added tokens outside the literal ranges; the length stays.

        Args:
            text: Any text.
            literal: Character ranges `[start, end)` whose content is ordinary text; they may touch or overlap.

        Raises:
            DataError: The text holds a character that is reserved for the stand-ins.
        """
        if found := self._private.search(text):
            raise DataError(
                f"the text holds U+{ord(found[0]):X}, a private-use character reserved for shielding control tokens",
                hint="remove the character from this row",
            )
        pieces, done = [], 0
        for start, end in sorted(literal):
            pieces += [self._replace(text[done:start]), text[max(start, done) : end]]
            done = max(done, end)
        return "".join([*pieces, self._replace(text[done:])])

    def _replace(self, text: str) -> str:
        return self._marker.sub(lambda match: self._stand_ins[match[0]], text)

    def _build(self, names: dict[str, str], added_tokens: list[dict[str, Any]]) -> tokenizers.Tokenizer:
        """The tokenizer with the added tokens renamed to `names` in its vocabulary, or gone where there is no name."""
        model = dict(self._state["model"])
        vocab = {token: id_ for token, id_ in model["vocab"].items() if token not in self._added}
        # The stand-in takes its id from the vocabulary: an added token unknown there would be numbered anew.
        vocab |= {name: self._added[content] for content, name in names.items()}
        model["merges"] = [
            pair for pair in model["merges"] if pair[0] in vocab and pair[1] in vocab and "".join(pair) in vocab
        ]
        model["vocab"] = vocab
        if model["unk_token"] is not None:
            model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
        return tokenizers.Tokenizer.from_str(
            json.dumps(self._state | {"model": model, "added_tokens": added_tokens, "post_processor": None})
        )
