from pathlib import Path
from typing import Any

import pytest

from engine.errors import UserError
from engine.text.encode import Encoder, EncodeSettings
from engine.text.inspect import inspect_record
from engine.text.messages import Message
from engine.text.records import Record, open_records
from engine.text.tokenizer import Tokenizer
from tests.text.chat_templates import TEMPLATES

TALK = Record(
    3, 9, "conversation", "openai",
    messages=(Message("system", "be"), Message("user", "1 <|im_end|>"), Message("assistant", " 😀从")),
)  # fmt: skip
EXPECTED = (
    "<|im_start|>system\nbe<|im_end|>\n<|im_start|>user\n1 <|im_end|><|im_end|>\n"
    "<|im_start|>assistant\n 😀从<|im_end|>\n"
)


def look(tokenizer: Tokenizer, record: Record, **options: Any) -> dict[str, Any]:
    return inspect_record(record, tokenizer, **{"stage": "sft", "train_on": "assistant", **options})


def joined(shown: dict[str, Any]) -> str:
    return "".join(token["text"] for token in shown["tokens"])


def test_a_conversation_token_by_token(tokenizer: Tokenizer) -> None:
    shown = look(tokenizer, TALK)
    assert {name: shown[name] for name in ("row", "line", "shape", "stage")} == {
        "row": 3, "line": 9, "shape": "conversation", "stage": "sft"
    }  # fmt: skip
    assert joined(shown) == EXPECTED
    assert b"".join(bytes.fromhex(token["bytes"]) for token in shown["tokens"]).decode() == EXPECTED
    trained = [token for token in shown["tokens"] if token["weight"]]
    assert "".join(token["text"] for token in trained) == " 😀从<|im_end|>"
    assert {token["role"] for token in trained} == {"assistant"} and trained[-1]["kind"] == "end"
    assert shown["trained"] == len(trained) and shown["total"] == len(shown["tokens"])
    roles = {role: "".join(t["text"] for t in shown["tokens"] if t["role"] == role) for role in ("system", "user")}
    assert roles["system"] == "<|im_start|>system\nbe<|im_end|>\n"
    assert roles["user"] == "<|im_start|>user\n1 <|im_end|><|im_end|>\n"
    assert shown["truncated"] == 0 and shown["problems"] == []


def test_a_split_character_stands_on_its_last_token(tokenizer: Tokenizer) -> None:
    shown = look(tokenizer, TALK)
    place = next(index for index, token in enumerate(shown["tokens"]) if "😀" in token["text"])
    assert "�" not in joined(shown)
    assert shown["tokens"][place - 1]["text"] in ("", " ")
    assert bytes.fromhex(shown["tokens"][place]["bytes"]) in "😀".encode()


def test_what_is_shown_is_what_is_trained_on(tokenizer: Tokenizer) -> None:
    for length in (0, 12, 200):
        (sample,) = Encoder(tokenizer, EncodeSettings(length or 9999)).encode(TALK)
        shown = look(tokenizer, TALK, max_seq_len=length)
        assert [token["id"] for token in shown["tokens"]] == sample.input_ids.tolist()
        assert [token["weight"] for token in shown["tokens"]] == sample.loss_weights.tolist()
        assert shown["truncated"] == sample.truncated
        assert any("cut" in problem for problem in shown["problems"]) == (length == 12)


def test_texts_pairs_and_prompts(tokenizer: Tokenizer) -> None:
    text = Record(0, 1, "text", "text", text="the dog 😀 " * 9)
    shown = look(tokenizer, text, stage="pretrain", max_seq_len=16)
    assert joined(shown) == f"<|endoftext|>{text.text}<|endoftext|>"
    assert shown["trained"] == shown["total"] - 1 == sum(shown["windows"]) - len(shown["windows"])
    sides = [(Message("user", "q"), Message("assistant", answer)) for answer in ("yes", "no")]
    pair = look(tokenizer, Record(0, 1, "pair", "minimind-pair", messages=sides[0], rejected=sides[1]), stage="dpo")
    for side, answer in (("chosen", "yes"), ("rejected", "no")):
        assert "".join(token["text"] for token in pair[side]["tokens"] if token["weight"]) == f"{answer}<|im_end|>"
    prompt = look(tokenizer, Record(0, 1, "prompt", "p", messages=sides[0][:1], answer="4"), stage="grpo")
    assert joined(prompt) == "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    assert prompt["answer"] == "4" and prompt["trained"] == 0


def test_other_samples_of_a_row_are_shown_too(tokenizer: Tokenizer) -> None:
    messages = (Message("user", "a"), Message("assistant", "b")) * 3
    shown = look(
        tokenizer, Record(0, 1, "conversation", "openai", messages=messages), template=TEMPLATES["drops old thoughts"]
    )
    assert len(shown["samples"]) == 2


def test_rows_and_lines_are_numbered_past_bad_ones(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "a"}\n{broken\n\n{"text": ""}\n{"text": "b"}\n')
    shown = look(tokenizer, open_records(path).read(1), stage="pretrain")
    assert (shown["row"], shown["line"]) == (1, 5) and joined(shown) == "<|endoftext|>b<|endoftext|>"


def test_nothing_trained_is_said_and_a_tiny_length_refused(tokenizer: Tokenizer) -> None:
    shown = look(tokenizer, Record(0, 1, "conversation", "openai", messages=TALK.messages[:2]))
    assert shown["problems"] == ["nothing in this row is trained"]
    with pytest.raises(UserError, match="4 or more"):
        look(tokenizer, TALK, max_seq_len=3)
