import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from engine.errors import DataError
from engine.text.audit import audit, refuse_if_useless
from engine.text.cache import CacheRequest, load_samples
from engine.text.encode import EncodeSettings
from engine.text.tokenizer import Tokenizer
from tests.text.chat_templates import TEMPLATES


def talk(*contents: str) -> str:
    roles = ("user", "assistant") * len(contents)
    return json.dumps({"messages": [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)]})


LINES = [
    talk("q", "a"),
    talk("q", "a"),
    talk("q", "another"),
    "{broken",
    talk("only a question"),
    talk("two", "dog " * 40),
    talk("three", "\n\nfox"),
]


def audited(
    tokenizer: Tokenizer, tmp_path: Path, lines: list[str], length: int = 32, name: str = "", **settings: Any
) -> dict[str, Any]:
    """The audit of a file of these lines."""
    data = tmp_path / f"data{name}.jsonl"
    data.write_text("\n".join(lines), encoding="utf-8")
    tokenizer.save(tmp_path / "tokenizer")
    store = load_samples(CacheRequest(data, tmp_path / "tokenizer", EncodeSettings(length, **settings), {}), tokenizer)
    return audit(store, max_seq_len=length, val_fraction=0.2, vocab_size=tokenizer.vocab_size)


def with_template(tokenizer: Tokenizer, name: str, **special: str) -> Tokenizer:
    return Tokenizer(
        tokenizer._state(),
        special_tokens={**tokenizer.special_tokens, **special},
        chat_template=TEMPLATES[name],
    )


def test_counts(tokenizer: Tokenizer, tmp_path: Path) -> None:
    found = audited(tokenizer, tmp_path, LINES)
    assert (found["rows"], found["usable"], found["samples"]) == (7, 6, 5)
    assert [entry["line"] for entry in found["quarantined"]] == [4]
    assert found["rows_without_trained_tokens"] == 1 and found["lines_without_trained_tokens"] == [5]
    assert found["truncated_rows"] == 1 and found["truncated_tokens"] > 30
    assert found["duplicates"] == 1 and found["duplicates_across_split"] == 0
    assert found["one_string_differs"] == 1
    assert found["missing_end_of_turn"] == found["double_bos"] == 0 and found["problems"] == {}
    assert found["train_samples"] + found["val_samples"] == 5 and found["val_samples"]
    assert found["longest"] == 32
    assert found["trained_share"] == found["trained_tokens"] / found["tokens"] > 0
    assert found["padding_share"] == pytest.approx(1 - found["tokens"] / (5 * 32))
    assert found["packed_padding_share"] <= found["padding_share"]
    assert found["bucketed_padding_share"] == found["padding_share"]  # five rows are one bucket, the longest is full
    json.dumps(found)


def test_the_histogram_holds_every_sample_once(tokenizer: Tokenizer, tmp_path: Path) -> None:
    for number, lines in enumerate((LINES, [talk("q", "a")] * 3, [talk("q", "a " * n) for n in range(1, 60)])):
        found = audited(tokenizer, tmp_path, lines, 99, str(number))
        bins = found["length_histogram"]
        assert sum(each["samples"] for each in bins) == found["samples"]
        assert bins[0]["from"] <= bins[0]["to"] and bins[-1]["to"] == found["longest"]
        for one, two in pairwise(bins):
            assert two["from"] == one["to"] + 1


def test_duplicates_are_rows_that_say_the_same_whatever_is_put_before_them(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    lines = [talk("q", "a")] * 20
    assert audited(tokenizer, tmp_path, lines, 64, system_prompt_ratio=0.5)["duplicates"] == 19
    long_text = json.dumps({"text": "dog " * 100})
    assert audited(tokenizer, tmp_path, [long_text], 16, "text")["duplicates"] == 0


def test_a_missing_end_of_turn_and_a_double_beginning_are_counted(tokenizer: Tokenizer, tmp_path: Path) -> None:
    found = audited(with_template(tokenizer, "no end of turn"), tmp_path, [talk("q", "a"), talk("r", "b")])
    assert found["missing_end_of_turn"] == 2
    assert [*found["problems"].values()] == [2]
    doubled = with_template(tokenizer, "begin of text", bos_token="<|im_start|>")
    assert audited(doubled, tmp_path, [talk("q", "a")])["double_bos"] == 1


def test_the_split_keeps_a_prompt_on_one_side(tokenizer: Tokenizer, tmp_path: Path) -> None:
    lines = [talk(f"question {n % 10}", *(["a", "more", "b"] if n % 2 else ["a"])) for n in range(60)]
    data = tmp_path / "split.jsonl"
    data.write_text("\n".join(lines), encoding="utf-8")
    tokenizer.save(tmp_path / "tokenizer")
    store = load_samples(CacheRequest(data, tmp_path / "tokenizer", EncodeSettings(99), {}), tokenizer)
    sides: dict[int, set[bool]] = {}
    for row, key in zip(store.columns["rows"].tolist(), store.columns["keys"].tolist(), strict=True):
        sides.setdefault(row % 10, set()).add(key < 0.3)
    assert all(len(side) == 1 for side in sides.values()) and len({*map(tuple, sides.values())}) == 2
    found = audit(store, max_seq_len=99, val_fraction=0.3, vocab_size=500)
    assert found["duplicates"] == 50 and found["duplicates_across_split"] == 0


def test_nothing_to_train_on_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    found = audited(tokenizer, tmp_path, [talk("one"), talk("two", ""), "{"])
    assert found["tokens"] == found["trained_tokens"] == 0 and found["length_histogram"] == []
    with pytest.raises(DataError, match="1 usable rows, 1 without a trained token, 2 quarantined"):
        refuse_if_useless(found, "data.jsonl")
    refuse_if_useless(audited(tokenizer, tmp_path, LINES, name="good"), "data.jsonl")
