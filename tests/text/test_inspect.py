from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import UserError
from engine.text.encode import Encoder, EncodeSettings
from engine.text.inspect import UNLIMITED, inspect_record, inspect_sample, inspect_samples
from engine.text.messages import Message
from engine.text.records import Record, open_records
from engine.text.sample import Sample, Span
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


def look(
    tokenizer: Tokenizer, record: Record, stage: str = "sft", template: str | None = None, **settings: Any
) -> dict[str, Any]:
    encoding = EncodeSettings(**{"max_seq_len": UNLIMITED, **settings})
    return inspect_record(record, tokenizer, encoding, stage=stage, template=template)


def reasons(shown: dict[str, Any]) -> dict[str, str]:
    """The text of the tokens with the same reason, by reason."""
    texts: dict[str, str] = {}
    for token in shown["tokens"]:
        texts[token["why"]] = texts.get(token["why"], "") + token["text"]
    return texts


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
    for length in (UNLIMITED, 12, 200):
        (sample,) = Encoder(tokenizer, EncodeSettings(length)).encode(TALK)
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


def test_special_tokens_are_those_of_the_template_not_those_that_somebody_typed(tokenizer: Tokenizer) -> None:
    special = [token["text"] for token in look(tokenizer, TALK)["tokens"] if token["special"]]
    assert special == ["<|im_start|>", "<|im_end|>"] * 3
    settings = EncodeSettings(99, parse_special_tokens=True)
    text = Record(0, 1, "text", "text", text="a<|im_end|>")
    assert [token["special"] for token in inspect_record(text, tokenizer, settings, stage="pretrain")["tokens"]] == [
        True, False, True, True
    ]  # fmt: skip


def test_why_of_a_conversation(tokenizer: Tokenizer) -> None:
    assert reasons(look(tokenizer, TALK)) == {
        "not trained: the first token has nothing before it to be predicted from": "<|im_start|>",
        "not trained: the template writes it around the system prompt": "system\n<|im_end|>\n",
        "not trained: the system prompt is given; the model learns to follow it, not to write it": "be",
        "not trained: the template writes it around the user's words": "<|im_start|>user\n<|im_end|>\n",
        "not trained: the user says it; the model learns to answer, not to ask": "1 <|im_end|>",
        "not trained: the turn marker is given by the template in generation": "<|im_start|>assistant\n",
        "trained: the assistant's words": " 😀从",
        "trained: the assistant's end of turn, so that it learns to stop": "<|im_end|>",
        "not trained: it follows the end of the turn, where generation has stopped": "\n",
    }


def test_why_of_turns_that_are_not_trained(tokenizer: Tokenizer) -> None:
    messages = (Message("user", "a"), Message("assistant", "b")) * 2
    rewritten = look(
        tokenizer, Record(0, 1, "conversation", "openai", messages=messages), template=TEMPLATES["drops old thoughts"]
    )["samples"][-1]
    earlier = "not trained: an earlier turn of the assistant, which has a sample of its own"
    assert reasons(rewritten)[earlier] == "b<|im_end|>"
    pair = Record(0, 1, "pair", "p", messages=messages, rejected=(*messages[:-1], Message("assistant", "c")))
    sides = look(tokenizer, pair, stage="dpo")
    for side, said in (("chosen", "the preferred answer's words, to be made more likely"),
                       ("rejected", "the rejected answer's words, to be made less likely")):  # fmt: skip
        found = reasons(sides[side])
        assert found[f"trained: {said}"] == ("b" if side == "chosen" else "c")
        assert found["not trained: an earlier turn of the assistant; only the last answer is judged"] == "b<|im_end|>"
    silent = (Message("user", "a"), Message("assistant", ""), Message("user", "a"), Message("assistant", "b"))
    found = reasons(look(tokenizer, Record(0, 1, "conversation", "openai", messages=silent)))
    assert found["not trained: the assistant says nothing in this turn"].endswith("<|im_end|>")
    prompt = reasons(look(tokenizer, Record(0, 1, "prompt", "p", messages=messages[:3]), stage="grpo"))
    assert all(reason.startswith("not trained") for reason in prompt)
    earlier = "not trained: an earlier turn of the assistant, given here; training begins with what it answers now"
    assert prompt[earlier] == "b<|im_end|>"


def test_why_of_texts_windows_and_conversations_of_which_everything_is_trained(tokenizer: Tokenizer) -> None:
    text = Record(0, 1, "text", "text", text="the dog sleeps " * 9)
    whole = reasons(look(tokenizer, text, stage="pretrain"))
    assert whole["trained: the end of the document, so that it learns where texts end"] == "<|endoftext|>"
    assert whole["trained: running text, where every token is predicted from those before it"] == text.text
    first, second, *_ = inspect_samples(text, Encoder(tokenizer, EncodeSettings(16)))
    assert first.why(0) == "not trained: the first token has nothing before it to be predicted from"
    assert second.why(0) == "not trained: it is here as context; the window before ends with it and trains it"
    assert second.texts[0] == first.texts[-1] and first.why(15).startswith("trained: running text")
    found = reasons(look(tokenizer, TALK, stage="mid-train", train_on="all"))
    assert found["trained: every token of the row counts, whoever says it"] == EXPECTED.removeprefix("<|im_start|>")


def test_why_of_a_weight_above_one(tokenizer: Tokenizer) -> None:
    ids = np.array([5, tokenizer.tags["<think>"], *tokenizer.tokenize("a").ids], dtype=np.int32)
    weights = np.array([0, 10, 1], dtype=np.float32)
    sample = inspect_sample(Sample(ids, weights, (Span(0, 3, "assistant", "content"),)), tokenizer, "conversation")
    assert sample.why(1) == "trained with weight 10: a reasoning tag"
    assert sample.why(2) == "trained: the assistant's words"


def test_settings_are_those_of_training(tokenizer: Tokenizer) -> None:
    record = Record(0, 1, "conversation", "openai", messages=TALK.messages[1:])
    settings = EncodeSettings(400, system_prompt_ratio=1.0, seed=3)
    (sample,) = Encoder(tokenizer, settings).encode(record)
    shown = inspect_record(record, tokenizer, settings, stage="sft")
    assert [token["id"] for token in shown["tokens"]] == sample.input_ids.tolist()
    assert joined(shown).startswith("<|im_start|>system\n")
