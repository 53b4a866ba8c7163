"""Truncation keeps whole turns, at least the end of a trained one, and says what it cut."""

import json
from pathlib import Path

import numpy as np
import pytest

from engine.text.audit import audit
from engine.text.cache import CacheRequest, load_samples
from engine.text.encode import Encoder, EncodeSettings
from engine.text.messages import Message
from engine.text.records import Record
from engine.text.tokenizer import Tokenizer

TURNS = [Message("system", "stay"), *(Message(("user", "assistant")[n % 2], f"dog {n}") for n in range(12))]


@pytest.mark.parametrize("length", range(4, 190, 7))
def test_whole_turns_or_the_end_of_one(tokenizer: Tokenizer, length: int) -> None:
    record = Record(0, 1, "conversation", "openai", messages=tuple(TURNS))
    (whole,) = Encoder(tokenizer, EncodeSettings(9999)).encode(record)
    (sample,) = Encoder(tokenizer, EncodeSettings(length)).encode(record)
    text = tokenizer.decode(sample.input_ids.tolist())
    assert len(sample) <= length and sample.truncated == len(whole) - len(sample)
    assert tokenizer.decode(sample.input_ids[sample.loss_weights > 0].tolist()).endswith("<|im_end|>")
    if length > 60:
        assert text.startswith("<|im_start|>system\nstay<|im_end|>\n<|im_start|>user\n")
        assert text.count("<|im_start|>assistant") == text.count("<|im_start|>user")


@pytest.mark.parametrize("length", [4, 8, 16, 40])
@pytest.mark.parametrize(("question", "answers"), [(90, (1, 2)), (2, (90, 1)), (50, (60, 70)), (2, (1, 1))])
def test_both_sides_of_a_pair_keep_an_answer_and_the_same_prompt(
    tokenizer: Tokenizer, length: int, question: int, answers: tuple[int, int]
) -> None:
    sides = [(Message("user", "dog " * question), Message("assistant", "fox " * answer)) for answer in answers]
    record = Record(0, 1, "pair", "minimind-pair", messages=sides[0], rejected=sides[1])
    pair = Encoder(tokenizer, EncodeSettings(length)).encode_pair(record)
    prompts = []
    for side in (pair.chosen, pair.rejected):
        assert len(side) <= length and side.trained >= 1
        prompts.append(side.input_ids[: np.flatnonzero(side.loss_weights)[0]].tolist())
    assert prompts[0] == prompts[1] != []


def test_what_was_cut_is_reported(tokenizer: Tokenizer, tokenizer_folder: str, tmp_path: Path) -> None:
    rows = [TURNS, TURNS[:3]]
    lines = [json.dumps({"messages": [message.as_dict() for message in row]}) for row in rows]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    request = CacheRequest(tmp_path / "data.jsonl", Path(tokenizer_folder), EncodeSettings(64), {})
    store = load_samples(request, tokenizer)
    found = audit(store, max_seq_len=64, val_fraction=0, vocab_size=tokenizer.vocab_size)
    assert found["truncated_rows"] == 1
    assert found["truncated_tokens"] == store.columns["truncated"][0] > 0 == store.columns["truncated"][1]
