import json
from pathlib import Path

import numpy as np
import pytest

from engine.errors import DataError
from engine.text.encode import Encoder, EncodeSettings
from engine.text.fingerprints import split_key
from engine.text.messages import Message
from engine.text.records import Quarantined, Record
from engine.text.sample import Sample
from engine.text.store import Part, SampleStore, collect, token_byte_lengths
from engine.text.tokenizer import Tokenizer
from tests.text import tokenizer_folders

SHAPES = ("text", "conversation")


def text(row: int, content: str) -> Record:
    return Record(row, 2 * row + 1, "text", "text", text=content)


def talk(row: int, *contents: str) -> Record:
    roles = ("user", "assistant") * len(contents)
    messages = tuple(Message(role, content) for role, content in zip(roles, contents, strict=False))
    return Record(row, 2 * row + 1, "conversation", "openai", messages=messages)


def write(folder: Path, parts: list[Part]) -> SampleStore:
    SampleStore.write(folder, parts, 500)
    return SampleStore(folder)


def test_rows_come_back_as_they_were_encoded(tokenizer: Tokenizer, tmp_path: Path) -> None:
    encoder = Encoder(tokenizer, EncodeSettings(8))
    records = [text(0, "the dog sleeps in the sun and the fox jumps"), talk(1, "q", "a"), talk(2, "only a question")]
    bad = Quarantined(3, "broken", b"\xff")
    store = write(tmp_path / "s", list(collect([records[0], bad, *records[1:]], encoder, SHAPES)))
    samples = [sample for record in records for sample in encoder.encode(record) if sample.trained]
    assert len(store) == len(samples) > 2
    for index, sample in enumerate(samples):
        assert store.ids(index).tolist() == sample.input_ids.tolist()
        assert store.weights(index).tolist() == sample.loss_weights.tolist()
        assert store.columns["trained"][index] == sample.trained
    assert store.columns["rows"].tolist() == [0] * (len(samples) - 1) + [1]
    assert store.columns["lines"].tolist() == [1] * (len(samples) - 1) + [3]
    assert store.meta["usable"] == 3
    assert store.meta["quarantined"] == [{"line": 3, "reason": "broken", "raw": "ff"}]
    assert store.meta["untrained_lines"] == [5] and store.meta["counts"]["without_trained"] == 1


def test_trained_bytes_are_the_raw_bytes_of_the_text(tokenizer: Tokenizer, tmp_path: Path) -> None:
    records = [text(0, "é 从前 😀"), talk(1, "q", "一加二")]
    (part,) = collect(records, Encoder(tokenizer, EncodeSettings(99)), SHAPES)
    # Text after the document's start token, and the answer without its end-of-turn token.
    assert list(part.columns["bytes"]) == [len("é 从前 😀".encode()), len("一加二".encode())]
    lengths = token_byte_lengths(tokenizer)
    assert lengths[tokenizer.control_tokens["<|im_end|>"]] == 0
    assert lengths[tokenizer.tags["<think>"]] == len("<think>")


def test_parts_are_passed_on_and_together_are_the_whole(tokenizer: Tokenizer, tmp_path: Path) -> None:
    encoder = Encoder(tokenizer, EncodeSettings(32))
    records = [text(row, f"dog {row} " * (row % 9 + 1)) for row in range(700)]
    whole = write(tmp_path / "one", list(collect(records, encoder, SHAPES)))
    parts = list(collect(records, encoder, SHAPES, part_tokens=1000))
    assert len(parts) == 3
    pieces = write(tmp_path / "many", parts)
    assert (pieces.folder / "ids").read_bytes() == (whole.folder / "ids").read_bytes()
    assert pieces.columns["rows"].tolist() == whole.columns["rows"].tolist() and pieces.meta == whole.meta


def test_a_part_survives_the_way_through_a_file(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (part,) = collect([talk(0, "q", "a"), Quarantined(9, "bad", b"x")], Encoder(tokenizer, EncodeSettings(32)), SHAPES)
    part.save(tmp_path / "part.npz")
    assert Part.load(tmp_path / "part.npz") == part
    part.shift_rows(5)
    assert list(part.columns["rows"]) == [5]


def test_a_row_that_makes_the_encoder_raise_anything_is_quarantined(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(tokenizer, EncodeSettings(32))
    right = Encoder.encode

    def encode(self: Encoder, record: Record) -> list[Sample]:
        if "boom" in record.text or any("boom" in message.content for message in record.messages):
            raise ZeroDivisionError("boom")
        return right(self, record)

    def encode_texts(self: Encoder, texts: list[str], rows: list[int]) -> list[list[Sample]]:
        raise RecursionError

    monkeypatch.setattr(Encoder, "encode", encode)
    monkeypatch.setattr(Encoder, "encode_texts", encode_texts)
    records = [text(0, "good"), text(1, "boom"), talk(2, "boom", "a"), talk(3, "q", "a")]
    (part,) = collect(records, encoder, SHAPES)
    assert (part.parsed, part.usable, len(part.columns["rows"])) == (4, 2, 2)
    reason = "cannot be encoded: ZeroDivisionError: boom"
    assert [(entry.line, entry.reason) for entry in part.quarantined] == [(3, reason), (5, reason)]


def test_hostile_rows_never_raise(tokenizer: Tokenizer) -> None:
    deep: dict[str, object] = {}
    for _ in range(5000):
        deep = {"x": deep}
    reserved = "\U0010fffd<|im_end|>"
    records = [
        text(0, "\ud800"),
        talk(1, "\ud800", "a"),
        Record(2, 5, "conversation", "openai", messages=talk(0, "q", "a").messages, tools=({"name": deep},)),
        talk(3, reserved, "a"),
        talk(4, "q", "a"),
    ]
    (part,) = collect(records, Encoder(tokenizer, EncodeSettings(32)), SHAPES)
    assert part.usable == 1 and sorted(entry.line for entry in part.quarantined) == [1, 3, 5, 7]
    assert all(entry.reason.startswith("cannot be encoded: ") for entry in part.quarantined)


def test_other_shapes_are_quarantined(tokenizer: Tokenizer) -> None:
    (part,) = collect([text(0, "a"), talk(1, "q", "a")], Encoder(tokenizer, EncodeSettings(32)), ("conversation",))
    assert [(entry.line, entry.reason) for entry in part.quarantined] == [(1, "a row of shape text, not conversation")]


def test_conversations_without_a_template_end_the_run(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_folders.qwen(tmp_path))
    with pytest.raises(DataError, match="no chat template"):
        list(collect([talk(0, "q", "a")], Encoder(tokenizer, EncodeSettings(32)), SHAPES))


def test_an_empty_store(tokenizer: Tokenizer, tmp_path: Path) -> None:
    store = write(tmp_path / "s", list(collect([talk(0, "q")], Encoder(tokenizer, EncodeSettings(32)), SHAPES)))
    assert len(store) == 0 and store.meta["usable"] == 1


def test_both_sides_of_a_pair_are_kept(tokenizer: Tokenizer) -> None:
    sides = [talk(0, "q", answer).messages for answer in ("yes", "no")]
    record = Record(0, 1, "pair", "minimind-pair", messages=sides[0], rejected=sides[1])
    (part,) = collect([record], Encoder(tokenizer, EncodeSettings(32)), ("pair",))
    assert list(part.columns["rows"]) == [0, 0] and part.usable == 1


def test_the_split_key_is_the_prompt_s() -> None:
    assert split_key(talk(0, "one  two", "a")) == split_key(talk(5, "one two\n", "b", "more", "c"))
    assert split_key(talk(0, "one", "a")) != split_key(talk(0, "two", "a"))
    assert split_key(text(0, "x" * 300)) == split_key(text(1, "x" * 300 + "y"))
    keys = np.array([split_key(talk(0, str(number), "a")) for number in range(2000)])
    assert abs((keys < 0.1).mean() - 0.1) < 0.03
    assert json.loads(json.dumps(keys[0])) == keys[0]
