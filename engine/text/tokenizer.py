"""Any Hugging Face BPE tokenizer: text to ids with control over every marker, and ids back to exact text."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers

from engine.errors import CheckpointError, DataError
from engine.text.decoding import StreamDecoder, byte_level_bytes, sentencepiece_bytes
from engine.text.shielding import Shield, State
from engine.text.tokenizer_folder import UNLIMITED, read_folder, write_folder

TAGS = (
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
)
"""Markers that a model writes inside its turn; where a tokenizer knows them, each is one token."""

END_OF_DOCUMENT = "<|endoftext|>"

_STOPS = (END_OF_DOCUMENT, "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "</s>")

_LARGEST_VOCABULARY = 2**24

_COPY_AGAIN = "copy the tokenizer's files again, all from one and the same model"


class Tokens(NamedTuple):
    """A tokenised text.

    Attributes:
        ids: The token ids.
        offsets: The characters `[start, end)` of each token in the text. The tokens of a split character share its
            range.
    """

    ids: list[int]
    offsets: list[tuple[int, int]]


class Tokenizer:
    """A tokenizer, its special tokens and its chat template.

    Args:
        state: The content of a `tokenizer.json` with a BPE model.
        special_tokens: Name (`eos_token`, …) → text, as transformers hands them to a chat template.
        chat_template: Its jinja source, if there is one.
        stop_ids: Ids that end a turn beside those known by name.
        model_max_length: In tokens; only kept for the saved folder.

    Raises:
        CheckpointError: The state is damaged, or not a BPE tokenizer of the byte-level or SentencePiece kind.
    """

    def __init__(
        self,
        state: State,
        *,
        special_tokens: Mapping[str, str],
        chat_template: str | None,
        stop_ids: Iterable[int] = (),
        model_max_length: int = UNLIMITED,
    ) -> None:
        self._backend = _build(state)
        self._post_processor, self._decoder = state.get("post_processor"), state.get("decoder")
        self.special_tokens = dict(special_tokens)
        """Name (`bos_token`, `eos_token`, …) → text."""
        self.chat_template = chat_template
        """The jinja source of the chat template, or None."""
        self.model_max_length = model_max_length
        """The longest text the model is made for, in tokens."""

        self._added = {token.content: id_ for id_, token in self._backend.get_added_tokens_decoder().items()}
        self.tags = {content: id_ for content, id_ in self._added.items() if content in TAGS}
        """Those of `TAGS` that are single tokens here → id."""
        self.control_tokens = {content: id_ for content, id_ in self._added.items() if content not in TAGS}
        """All other added tokens → id."""
        self.vocab_size = max(self._backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        """Highest id + 1."""
        self.bos_id, self.eos_id, self.pad_id = (
            self._added.get(self.special_tokens.get(name, "")) for name in ("bos_token", "eos_token", "pad_token")
        )
        ends = {self.eos_id, *stop_ids, *(self._added.get(stop) for stop in _STOPS)}
        self.stop_ids = frozenset(id_ for id_ in ends if id_ is not None)
        """Every id that ends a turn or a document."""
        end_of_document = self._added.get(END_OF_DOCUMENT)
        self.document_start = self.bos_id if end_of_document is None else end_of_document
        """The id that opens a raw text in pretraining, if there is one."""
        self.document_end = self.eos_id if end_of_document is None else end_of_document
        """The id that closes a raw text in pretraining, if there is one."""

    @classmethod
    def load(cls, folder: Path | str) -> "Tokenizer":
        """Loads the tokenizer of a Hugging Face folder.

        Raises:
            CheckpointError: Files are missing or damaged, or the tokenizer is of another kind; says what to do.
        """
        files = read_folder(Path(folder))
        try:
            return cls(
                files.state,
                special_tokens=files.special_tokens,
                chat_template=files.chat_template,
                stop_ids=files.stop_ids,
                model_max_length=files.model_max_length,
            )
        except CheckpointError as error:
            raise CheckpointError(error.what, where=str(folder), hint=error.hint) from error

    def save(self, folder: Path | str) -> None:
        """Writes a folder that `Tokenizer.load` and `transformers.AutoTokenizer` read: same ids, same template."""
        write_folder(
            Path(folder),
            state=self._state() | {"post_processor": self._post_processor},
            special_tokens=self.special_tokens,
            chat_template=self.chat_template,
            model_max_length=self.model_max_length,
        )

    @cached_property
    def fingerprint(self) -> str:
        """A digest of all that decides ids: model, normalizer, pre-tokenizer and added tokens, not the template."""
        state = self._state()
        parts = {name: state[name] for name in ("model", "normalizer", "pre_tokenizer")}
        parts["added_tokens"] = [token | {"special": None} for token in state["added_tokens"]]
        return hashlib.sha256(json.dumps(_without_defaults(parts), sort_keys=True).encode()).hexdigest()

    @property
    def template_digest(self) -> str | None:
        """SHA-256 of the chat template's source."""
        return None if self.chat_template is None else hashlib.sha256(self.chat_template.encode()).hexdigest()

    def tokenize(self, text: str, *, literal: Sequence[tuple[int, int]] = (), markers: bool = True) -> Tokens:
        """Turns a text into ids.

        Args:
            text: Any text.
            literal: Character ranges `[start, end)` in which an added token's text is ordinary text, tokenised together
                with the text around it.
            markers: Whether the text of an added token outside those ranges becomes its id. If false, no added token
                comes out, whatever the text says.

        Raises:
            DataError: The text holds a lone surrogate, or literal ranges and a character reserved for shielding them.
        """
        if not markers:
            backend = self._shield.plain
        elif literal:
            backend, text = self._shield.shielded, self._shield.shield(text, literal)
        else:
            backend = self._backend
        try:
            encoding = backend.encode(text, add_special_tokens=False)
        except (TypeError, UnicodeEncodeError) as error:
            raise _no_text([text]) from error
        return Tokens(encoding.ids, encoding.offsets)

    def tokenize_batch(self, texts: Sequence[str], *, markers: bool = True) -> list[list[int]]:
        """The ids of many texts, on all cores; see `tokenize`.

        Raises:
            DataError: A text holds a lone surrogate.
        """
        backend = self._backend if markers else self._shield.plain
        try:
            return [each.ids for each in backend.encode_batch_fast(list(texts), add_special_tokens=False)]
        except (TypeError, UnicodeEncodeError) as error:
            raise _no_text(texts) from error

    def token_bytes(self, id_: int) -> bytes:
        """The raw bytes that a token stands for; none for an id that the tokenizer does not have."""
        return self._table[id_] if 0 <= id_ < len(self._table) else b""

    def decode(self, ids: Iterable[int], *, skip_control: bool = False) -> str:
        """The text of a sequence of ids; invalid UTF-8 becomes U+FFFD.

        Args:
            ids: Token ids.
            skip_control: Whether control tokens leave no text; tags always do.
        """
        decoder = self.stream(skip_control=skip_control)
        return decoder.feed(ids) + decoder.flush()

    def texts(self, ids: Sequence[int]) -> list[str]:
        """The text of each token; together they are `decode(ids)`.

        A character split over several tokens stands on the last of them, the others carry ''.
        """
        decoder = self.stream()
        texts = [decoder.feed([id_]) for id_ in ids]
        return [*texts[:-1], texts[-1] + decoder.flush()] if texts else []

    def stream(self, *, skip_control: bool = False) -> StreamDecoder:
        """A decoder for ids that come one by one."""
        skip = self.control_tokens.values() if skip_control else ()
        return StreamDecoder(self._table, skip=skip, strip_space=self._strips_space)

    @cached_property
    def _shield(self) -> Shield:
        return Shield(self._state())

    @cached_property
    def _table(self) -> list[bytes]:
        """The bytes of every id."""
        to_bytes = byte_level_bytes if "ByteLevel" in _types(self._decoder) else sentencepiece_bytes
        table = [b""] * self.vocab_size
        for token, id_ in self._backend.get_vocab(with_added_tokens=True).items():
            table[id_] = token.encode() if token in self._added else to_bytes(token)
        return table

    @cached_property
    def _strips_space(self) -> bool:
        """Whether the decoder takes off the space that the tokenizer puts before every text."""
        return any(
            (step["type"] == "Strip" and step["content"] == " " and step["start"] > 0)
            or (step["type"] == "Metaspace" and step.get("prepend_scheme") != "never")
            for step in _steps(self._decoder)
        )

    def _state(self) -> State:
        """The canonical `tokenizer.json`, without the post-processor."""
        state: State = json.loads(self._backend.to_str())
        return state


def _build(state: State) -> tokenizers.Tokenizer:
    """The tokenizer without truncation, padding, dropout and post-processor (which would trim offsets)."""
    hint = "only BPE tokenizers of the byte-level (GPT-2, Llama 3, Qwen) or SentencePiece (Llama 2) kind are supported"
    try:
        model = state["model"] | {"dropout": None}
        if (
            model.get("type", "BPE") != "BPE"
            or not _types(state["decoder"]) & {"ByteLevel", "ByteFallback", "Metaspace"}
            or model.get("continuing_subword_prefix")
            or model.get("end_of_word_suffix")
        ):
            raise CheckpointError(f"the tokenizer is of an unsupported kind ({model.get('type')})", hint=hint)
        if max(model["vocab"].values()) >= _LARGEST_VOCABULARY:
            raise CheckpointError("the tokenizer's ids are impossibly large", hint=_COPY_AGAIN)
        bare = state | {"model": model, "truncation": None, "padding": None, "post_processor": None}
        backend = tokenizers.Tokenizer.from_str(json.dumps(bare))
        wanted = {token["content"]: token["id"] for token in state["added_tokens"]}
    except CheckpointError:
        raise
    except Exception as error:  # the tokenizers library raises bare Exception
        raise CheckpointError(f"the tokenizer is damaged ({error!r})", hint=_COPY_AGAIN) from error
    for id_, token in backend.get_added_tokens_decoder().items():
        if wanted[token.content] != id_:
            raise CheckpointError(
                f"the added token {token.content!r} is declared as id {wanted[token.content]}, but would become {id_}",
                hint=_COPY_AGAIN,
            )
    return backend


def _steps(decoder: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The single steps of a decoder."""
    return [] if decoder is None else decoder.get("decoders", [decoder])


def _types(decoder: dict[str, Any] | None) -> set[str]:
    return {step["type"] for step in _steps(decoder)}


def _without_defaults(value: Any) -> Any:
    """Drops what is null or false, so that a field that a later library version adds changes no digest."""
    if isinstance(value, list):
        return [_without_defaults(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    return {key: _without_defaults(inner) for key, inner in value.items() if inner is not None and inner is not False}


def _no_text(texts: Iterable[str]) -> DataError:
    """What was wrong with texts that the tokenizers library refused."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return DataError(f"the text holds a lone surrogate at character {error.start}", hint="remove this row")
    return DataError("a text is not a string")
