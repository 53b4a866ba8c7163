from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend

from engine.errors import DataError, UserError
from engine.text.template import project_template
from engine.text.tokenizer import TAGS, Tokenizer
from engine.text.tokenizer_training import SMALLEST_VOCABULARY, evaluate_tokenizer, train_tokenizer
from tests.text.tokenizer_folders import MARKERS, TEXTS, qwen


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(iter(TEXTS), 400)


def test_markers_are_the_first_ids_and_single_tokens(tokenizer: Tokenizer) -> None:
    for id_, marker in enumerate([*MARKERS, *TAGS]):
        assert tokenizer.tokenize(f"a{marker}b").ids[1] == id_
    assert tokenizer.vocab_size == 400
    assert tokenizer.chat_template == project_template()


def test_tags_survive_skip_special_tokens(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    backend = Backend.from_file(str(tmp_path / "tokenizer.json"))
    everything = "".join([*MARKERS, *TAGS])
    ids = backend.encode(everything).ids
    assert ids == list(range(11))
    assert backend.decode(ids, skip_special_tokens=True) == "".join(TAGS)


def test_digits_stand_alone(tokenizer: Tokenizer) -> None:
    assert tokenizer.texts(tokenizer.tokenize("12 in 2024 and 22").ids)[:2] == ["1", "2"]
    digits = {tokenizer.tokenize(str(digit)).ids[0] for digit in range(10)}
    assert len(digits) == 10
    for id_ in range(tokenizer.vocab_size):
        text = tokenizer.token_bytes(id_).decode(errors="ignore")
        assert len(text) == 1 or not any(char.isdigit() for char in text)


def test_same_texts_give_the_same_file(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "a")
    train_tokenizer(TEXTS, 400).save(tmp_path / "b")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_markers_in_the_texts_do_not_distort_the_merges(tokenizer: Tokenizer) -> None:
    noisy = ["<|im_start|>" * 50 + text + "<think>" * 50 + "</tool_call>" for text in TEXTS]
    assert train_tokenizer(noisy, 400).fingerprint == tokenizer.fingerprint


def test_the_smallest_vocabulary_knows_all_bytes(tokenizer: Tokenizer) -> None:
    smallest = train_tokenizer(TEXTS, SMALLEST_VOCABULARY)
    assert smallest.vocab_size == SMALLEST_VOCABULARY == 267
    assert len(smallest.tokenize("😀é").ids) == 6
    with pytest.raises(UserError, match="too small") as caught:
        train_tokenizer(TEXTS, SMALLEST_VOCABULARY - 1)
    assert "267" in caught.value.hint


@pytest.mark.parametrize("texts", [[], [""], ["<think>", "<|im_end|>"]])
def test_no_text_is_refused(texts: list[str]) -> None:
    with pytest.raises(UserError, match="no text"):
        train_tokenizer(texts)


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(DataError, match="surrogate"):
        train_tokenizer([*TEXTS, "a\udc00"])


def test_progress_counts_texts() -> None:
    seen: list[int] = []
    train_tokenizer(["some text"] * 2500, 300, progress=seen.append)
    assert seen == [1000, 2000, 2500]


def test_evaluation_by_hand() -> None:
    smallest = train_tokenizer(TEXTS, SMALLEST_VOCABULARY)
    result = evaluate_tokenizer(smallest, ["abcd", "", "你好 a", "<think>"], smallest)
    figures = result["tokenizer"]
    assert result["texts"] == 3
    assert figures["languages"]["chinese"] == {
        "texts": 1,
        "characters": 4,
        "bytes": 8,
        "tokens": 8,
        "characters_per_token": 0.5,
        "bytes_per_token": 1.0,
    }
    assert figures["languages"]["other"]["characters"] == 11  # the marker counts as ordinary text
    assert figures["languages"]["all"]["tokens"] == 19
    used = set(b"abcd" + "你好 a".encode() + b"<think>")
    assert figures["unused_share"] == pytest.approx(1 - len(used) / 256)
    assert figures["round_trip_failures"] == {"count": 0, "examples": []}
    assert result["token_ratio"] == {"all": 1.0, "chinese": 1.0, "other": 1.0}


def test_evaluation_compares_two(tokenizer: Tokenizer) -> None:
    smallest = train_tokenizer(TEXTS, SMALLEST_VOCABULARY)
    result = evaluate_tokenizer(tokenizer, TEXTS, smallest)
    assert result["token_ratio"]["all"] < 0.9
    assert result["tokenizer"]["vocab_size"] == 400 and result["other"]["vocab_size"] == 267
    with pytest.raises(UserError, match="no text"):
        evaluate_tokenizer(tokenizer, [""])


def test_evaluation_names_what_does_not_survive(tmp_path: Path) -> None:
    result = evaluate_tokenizer(Tokenizer.load(qwen(tmp_path)), ["fine", "cafe\u0301"])
    failures = result["tokenizer"]["round_trip_failures"]
    assert failures == {"count": 1, "examples": [{"text": "cafe\u0301", "decoded": "café"}]}
