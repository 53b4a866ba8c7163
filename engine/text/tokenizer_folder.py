"""The tokenizer part of a Hugging Face folder: read with all its historical spellings, written in one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import CheckpointError

SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""The special tokens that transformers hands to chat templates."""

UNLIMITED = 10**9
"""Longer `model_max_length` values mean "none" (transformers writes 1e30) and are read as this."""

_HINT = "use a Hugging Face folder with tokenizer.json, or train one: engine tokenizer train FILE --out DIR"


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """What the files of a tokenizer folder say.

    Attributes:
        state: The content of `tokenizer.json`, with the added tokens that only `tokenizer_config.json` names.
        special_tokens: Name (`eos_token`, …) → text.
        chat_template: The default chat template, if there is one.
        stop_ids: `eos_token_id` of `generation_config.json`.
        model_max_length: In tokens.
    """

    state: dict[str, Any]
    special_tokens: dict[str, str]
    chat_template: str | None
    stop_ids: frozenset[int]
    model_max_length: int


def read_folder(folder: Path) -> TokenizerFiles:
    """Reads the tokenizer files of a Hugging Face folder.

    Raises:
        CheckpointError: There is no `tokenizer.json`, or a file is damaged.
    """
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError("there is no tokenizer.json", where=str(folder), hint=_HINT)
    state = _read_json(folder / "tokenizer.json")
    config = _read_json(folder / "tokenizer_config.json")
    special_map = _read_json(folder / "special_tokens_map.json")
    generation = _read_json(folder / "generation_config.json")
    try:
        special = {name: text for name in SPECIAL_NAMES if (text := _text(config.get(name) or special_map.get(name)))}
        _add_missing(state, config.get("added_tokens_decoder") or {}, special)
        stop = generation.get("eos_token_id")
        stop_ids = frozenset(int(id_) for id_ in (stop if isinstance(stop, list) else [stop]) if id_ is not None)
        max_length = min(int(config.get("model_max_length") or UNLIMITED), UNLIMITED)
        template = _chat_template(folder, config)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise CheckpointError(f"the tokenizer files are damaged ({error!r})", where=str(folder), hint=_HINT) from error
    return TokenizerFiles(state, special, template, stop_ids, max_length)


def write_folder(
    folder: Path,
    *,
    state: Mapping[str, Any],
    special_tokens: Mapping[str, str],
    chat_template: str | None,
    model_max_length: int,
) -> None:
    """Writes `tokenizer.json` and `tokenizer_config.json` so that `transformers.AutoTokenizer` reads them back."""
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", **special_tokens}
    config |= {"clean_up_tokenization_spaces": False, "model_max_length": model_max_length}
    if chat_template is not None:
        config["chat_template"] = chat_template
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("tokenizer.json", state), ("tokenizer_config.json", config)):
        text = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} if there is no such file."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"the file cannot be read ({error})", where=str(path), hint=_HINT) from error
    if not isinstance(content, dict):
        raise CheckpointError("the file holds no JSON object", where=str(path), hint=_HINT)
    return content


def _text(token: str | dict[str, Any] | None) -> str | None:
    """The text of a special token, which is given as such or as a dict with its flags."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _add_missing(state: dict[str, Any], decoder: Mapping[str, Any], special: Mapping[str, str]) -> None:
    """Adds the tokens that transformers would add: those of `added_tokens_decoder`, then the special tokens."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokens = state["added_tokens"] = list(state.get("added_tokens") or [])
    present = {token["content"] for token in tokens}
    named = [flags | token | {"id": int(id_)} for id_, token in sorted(decoder.items(), key=lambda item: int(item[0]))]
    free = max([*state["model"]["vocab"].values(), *(token["id"] for token in [*tokens, *named])], default=-1) + 1
    for content in dict.fromkeys(special.values()):
        if content not in present and all(token["content"] != content for token in named):
            known = state["model"]["vocab"].get(content)
            named.append(flags | {"content": content, "id": free if known is None else known})
            free += known is None
    tokens += [token for token in named if token["content"] not in present]


def _chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The default template: the file beside the configuration wins, as in transformers."""
    if (path := folder / "chat_template.jinja").is_file():
        return path.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):
        template = {entry["name"]: entry["template"] for entry in template}.get("default")
    return template if isinstance(template, str) else None
