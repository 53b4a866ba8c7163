import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.text.batching import Sampler, make_batch
from engine.text.cache import CacheRequest, load_samples
from engine.text.encode import Encoder, EncodeSettings
from engine.text.inspect import UNLIMITED
from engine.text.records import Message, Record, open_records
from engine.text.tokenizer import Tokenizer
from minimind_tui.core.sheets import packed_sheet, pair_sheets, rendered_text, sample_sheets, with_values
from tests.text.chat_templates import TEMPLATES

TALK = (Message("user", "1 <|im_end|>\n你"), Message("assistant", " 😀 one"))
RENDERED = "<|im_start|>user\n1 <|im_end|>\n你<|im_end|>\n<|im_start|>assistant\n 😀 one<|im_end|>\n"


def conversation(*messages: Message) -> Record:
    return Record(3, 9, "conversation", "openai", messages=messages)


@pytest.fixture
def encoder(tokenizer: Tokenizer) -> Encoder:
    return Encoder(tokenizer, EncodeSettings(UNLIMITED))


def test_a_conversation_is_the_encoders_sample(encoder: Encoder) -> None:
    (sheet,) = sample_sheets(conversation(*TALK), encoder)
    (sample,) = encoder.encode(conversation(*TALK))
    assert sheet.rendered == RENDERED and sheet.label == "sample"
    assert [*sheet.sheet.weights] == sample.loss_weights.tolist()
    assert sheet.summary == f"{sample.trained} of {len(sample)} tokens trained" and sheet.problems == ()
    assert rendered_text([sheet]) == RENDERED


def test_what_is_said_about_a_token(encoder: Encoder) -> None:
    (labelled,) = sample_sheets(conversation(*TALK), encoder)
    sheet, texts = labelled.sheet, [*labelled.sheet.texts]
    header = len(texts) - texts[::-1].index("<|im_start|>") - 1
    first = sheet.weights.index(1.0)
    ids = encoder.encode(conversation(*TALK))[0].input_ids
    assert sheet.detail(header) == [
        f"token #{header} of {len(sheet)} · id {ids[header]}",
        "'<|im_start|>' · bytes 3c 7c 69 6d 5f 73 74 61 72 74 7c 3e",
        "assistant · header · weight 0",
        f"predicts '{texts[header + 1]}' (#{header + 1}, not trained)",
        "not trained: the turn marker is given by the template in generation",
    ]
    assert sheet.detail(first - 1)[3].endswith(f"(#{first}, weight 1)")
    assert sheet.detail(first)[-1] == "trained: the assistant's words"
    assert sheet.detail(len(sheet) - 1)[1:4] == [
        "'⏎' · bytes 0a", "assistant · after · weight 0", "predicts nothing: the sample ends here"
    ]  # fmt: skip
    part = next(index for index, text in enumerate(texts) if not text)
    assert sheet.detail(part)[1].startswith("a part of '")


def test_hostile_text_is_clean_in_what_is_said(encoder: Encoder) -> None:
    record = conversation(Message("user", "\x1b[31m\u202e\r"), Message("assistant", "ok"))
    (labelled,) = sample_sheets(record, encoder)
    said = "".join("".join(labelled.sheet.detail(index)) for index in range(len(labelled.sheet)))
    assert {"\x1b", "\u202e", "\r"}.isdisjoint(said) and "␛" in said
    assert "\x1b" in labelled.rendered and "\x1b" not in rendered_text([labelled])


def test_windows_turns_and_prompts_are_labelled(tokenizer: Tokenizer, encoder: Encoder) -> None:
    text = Record(0, 1, "text", "text", text="the dog sleeps " * 9)
    windows = sample_sheets(text, Encoder(tokenizer, EncodeSettings(24)))
    assert [each.label for each in windows] == [f"window {n} of {len(windows)}" for n in range(1, len(windows) + 1)]
    assert "── window 2 of" in rendered_text(windows)
    rewriting = Encoder(tokenizer, EncodeSettings(99), TEMPLATES["drops old thoughts"])
    assert [each.label for each in sample_sheets(conversation(*TALK * 2), rewriting)] == [
        "sample 1 of 2",
        "sample 2 of 2",
    ]
    (prompt,) = sample_sheets(replace(conversation(*TALK[:1]), shape="prompt"), encoder)
    assert prompt.label == "prompt" and prompt.trained == 0 and prompt.problems == ()


def test_a_pair_shares_its_beginning(tokenizer: Tokenizer, encoder: Encoder) -> None:
    sides = [(TALK[0], Message("assistant", f"one two {word}")) for word in ("cat", "three")]
    record = Record(0, 1, "pair", "p", messages=sides[0], rejected=sides[1])
    pair = pair_sheets(record, encoder)
    chosen, rejected = pair.chosen.sheet, pair.rejected.sheet
    samples = encoder.encode_pair(record)
    assert [*samples.chosen.input_ids[: pair.shared]] == [*samples.rejected.input_ids[: pair.shared]]
    assert samples.chosen.input_ids[pair.shared] != samples.rejected.input_ids[pair.shared]
    assert chosen.dimmed == rejected.dimmed == pair.shared
    assert "preferred" in chosen.detail(pair.shared)[-1] and "rejected" in rejected.detail(pair.shared)[-1]
    assert [each.label for each in sample_sheets(record, encoder)] == ["chosen", "rejected"]
    long = replace(record, messages=(TALK[0], Message("assistant", "cat " * 60)))
    cut = pair_sheets(long, Encoder(tokenizer, EncodeSettings(40)))
    assert cut.chosen.truncated > 0 and "the answer's end among them" in cut.chosen.summary
    same = pair_sheets(replace(record, rejected=record.messages), encoder)
    assert same.shared == len(same.chosen.sheet)


def test_a_conversation_that_is_cut_says_where(tokenizer: Tokenizer) -> None:
    (sheet,) = sample_sheets(conversation(*TALK), Encoder(tokenizer, EncodeSettings(6)))
    assert sheet.truncated > 0 and sheet.summary.endswith(f"{sheet.truncated} cut · the oldest first")
    assert sheet.problems == (f"{sheet.truncated} tokens were cut to fit",)


def test_a_packed_row_is_what_the_batch_holds(tokenizer: Tokenizer, tokenizer_folder: str, tmp_path: Path) -> None:
    path = tmp_path / "talks.jsonl"
    rows = [
        [{"role": "user", "content": "dog " * n}, {"role": "assistant", "content": "fox " * n}] for n in range(1, 9)
    ]
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    settings = EncodeSettings(96)
    store = load_samples(CacheRequest(path, Path(tokenizer_folder), settings, {}), tokenizer)
    sampler = Sampler(
        store, np.arange(len(store)), batch_size=2, accumulation_steps=1, max_seq_len=96, packing=True, seed=0
    )
    documents = max(sampler.micro_batches(0)[0], key=len)[:2]
    batch = make_batch(store, documents, 96)
    assert len(documents) > 1
    encoder = Encoder(tokenizer, settings)
    packed = packed_sheet(store, [*documents], encoder, capacity=96, records=open_records(path))
    sheet, tokens = packed.sheet, len(batch.input_ids)
    assert len(sheet) == 96 and [*sheet.roles[tokens:]] == ["pad"] * (96 - tokens)
    assert [*sheet.weights[:tokens]] == batch.loss_weights.tolist()
    assert packed.rendered == tokenizer.decode(batch.input_ids.tolist())
    assert [*sheet.starts] == batch.cu_seqlens[:-1].tolist()
    assert {*sheet.roles[:tokens]} == {"user", "assistant"} and packed.problems == ()
    assert packed.summary.endswith(f"{len(documents)} documents, {96 - tokens} of 96 slots empty")
    second = sheet.starts[1]
    assert f"document 2 of {len(documents)} (row {batch.rows[1]}), token #0 of" in sheet.detail(second)[0]
    assert sheet.detail(second - 1)[3] == "predicts nothing: the sample ends here"
    assert sheet.detail(95) == ["slot #95 of 96", "padding: an empty slot, for which nothing is computed"]

    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows[::-1]))
    for records in (None, open_records(path)):  # not known, or another file by now
        unknown = packed_sheet(store, [*documents], encoder, capacity=96, records=records)
        assert [*unknown.sheet.weights] == [*sheet.weights] and unknown.rendered == packed.rendered
        assert "unknown who says what" in unknown.problems[0] and "unknown" in unknown.sheet.roles


def test_values_are_heat_and_a_line(encoder: Encoder) -> None:
    (sheet,) = sample_sheets(conversation(*TALK), encoder)
    values: list[float | None] = [None] * len(sheet.sheet)
    values[-4:] = [4.0, 1.0, math.inf, math.nan]
    hot = with_values(sheet, values)
    assert [*hot.sheet.heat[-5:]] == [None, 1.0, 0.25, 1.0, None]
    assert hot.sheet.heat_title == "loss, 0 to 4 nats"
    last = len(hot.sheet) - 3
    *facts, reason = sheet.sheet.detail(last)
    assert hot.sheet.detail(last) == [*facts, "loss 1 nats: of this token, given those before it", reason]
    assert hot.sheet.detail(0) == sheet.sheet.detail(0)
    fixed = with_values(sheet, values, name="surprise", unit="bits", hottest=8)
    assert fixed.sheet.heat[-4] == 0.5 and fixed.sheet.heat_title == "surprise, 0 to 8 bits"
    assert {*with_values(sheet, [0.0] * len(sheet.sheet)).sheet.heat} == {0.0}
