"""How rows are read, what the whole file comes to, which rows have which problem, and looks at single rows."""

import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import UserError
from engine.text.tokenizer_training import train_tokenizer
from minimind_tui.core.encoded import ANY, DUPLICATES, QUARANTINED, TRUNCATED, UNTRAINED, Encoded
from minimind_tui.core.filters import ALL, Filter, between, filters, rows_of
from minimind_tui.core.look import MOST_CHARACTERS, PACKED, RAW, RENDERED, TOKENS, Judges, look, look_packed
from minimind_tui.core.reading import Reader, Reading, check_length, first_reading
from minimind_tui.core.rows import Rows
from tests.tui.core.test_rows import talk, write

PLAIN = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@pytest.fixture
def tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tokenizer's folder, in a home of its own."""
    monkeypatch.setenv("MINIMIND_HOME", str(tmp_path / "home"))
    folder = tmp_path / "tokenizer"
    train_tokenizer(["the cat sat on the mat and saw the cat"] * 3, 300).save(folder)
    return str(folder)


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    nothing = {"conversations": [{"role": "user", "content": "nobody answers"}]}
    path = write(
        tmp_path / "talk.jsonl",
        talk("where?", "on the mat"),
        {"conversations": [*talk("old " * 30, "long ago")["conversations"], *talk("who?", "a cat")["conversations"]]},
        b"broken",
        nothing,
        talk("where?", "on the mat"),
        {"text": "running text"},
        talk("q", "short"),
    )
    rows = Rows(path)
    rows.build_index()
    return rows


def gathered(hits: Iterable[tuple[Sequence[int], float]]) -> list[int]:
    return [row for found, _ in hits for row in found]


def test_a_reading_follows_the_shape_and_the_registry(tmp_path: Path) -> None:
    wanted = first_reading(tmp_path / "x.jsonl", "conversation", Reading("", max_seq_len=512))
    assert wanted.stage == "sft" and wanted.settings().train_on == "assistant"
    assert replace(wanted, stage="mid-train").settings().train_on == "all"
    assert replace(wanted, stage="reason").settings().tag_weight == 10.0
    assert first_reading(tmp_path / "x.jsonl", "text", wanted).stage == "pretrain"
    assert first_reading(tmp_path / "x.jsonl", "pair", wanted).title == "dpo"
    assert check_length(" 0 ") == 0 and check_length("64") == 64
    for text in ("3", "many", "-1", ""):
        with pytest.raises(UserError):
            check_length(text)


def test_problems_and_their_rows(rows: Rows, tokenizer: str) -> None:
    encoded = Encoded(rows, Reader(Reading("conversation", "sft", tokenizer, max_seq_len=48)))
    counts = {problem.name: problem.count for problem in encoded.problems}
    assert counts == {QUARANTINED: 2, UNTRAINED: 1, TRUNCATED: 1, DUPLICATES: 1}
    stop = threading.Event()
    assert gathered(encoded.rows_with(TRUNCATED, stop)) == [1]
    assert gathered(encoded.rows_with(DUPLICATES, stop)) == [3]
    assert gathered(encoded.rows_with(QUARANTINED, stop)) == [~0, 4], "a broken line, and a text that sft leaves out"
    assert gathered(encoded.rows_with(UNTRAINED, stop)) == [2]
    assert [row for row in range(6) if encoded.is_odd(row)] == [1, 2, 4]


def test_rows_with_a_problem_of_the_encoder_are_found_by_encoding_again(
    rows: Rows, tokenizer: str, tmp_path: Path
) -> None:
    template = tmp_path / "endless.jinja"
    template.write_text(PLAIN.replace("<|im_end|>", ""))
    encoded = Encoded(rows, Reader(Reading("conversation", "sft", tokenizer, template=str(template))))
    (problem,) = [each for each in encoded.problems if each.name.startswith("problem: ")]
    stop = threading.Event()
    assert gathered(encoded.rows_with(problem.name, stop)) == [0, 1, 3, 5] and problem.count == 4
    assert gathered(encoded.rows_with(ANY, stop)) == [0, 1, 3, 5]
    stop.set()
    assert gathered(encoded.rows_with(ANY, stop)) == []


def test_filters(rows: Rows, tokenizer: str) -> None:
    stop = threading.Event()
    offered = {each.name: each for each in filters(rows, None, 0)}
    assert offered[ALL].count == 5 + 1 and offered[QUARANTINED].count == 1
    assert not offered[QUARANTINED].needs_encoding and offered[TRUNCATED].needs_encoding
    assert gathered(rows_of(offered["role:user"], rows, None, ())(stop)) == [0, 1, 2, 3, 5]
    assert gathered(rows_of(offered[QUARANTINED], rows, None, ())(stop)) == [~0]
    assert gathered(rows_of(Filter("found", ""), rows, None, [3, 5])(stop)) == [3, 5]
    encoded = Encoded(rows, Reader(Reading("conversation", "sft", tokenizer)))
    longest = max(int(tokens) for tokens in encoded.tokens)
    chosen = between(f"{longest}-")
    assert gathered(rows_of(chosen, rows, encoded, ())(stop)) == [int(encoded.tokens.argmax())]
    assert gathered(rows_of(between(f"-{longest - 1}"), rows, encoded, ())(stop)) == [0, 3, 5]
    for text in ("", "-", "a-b", "1-2-3"):
        with pytest.raises(UserError):
            between(text)


def test_looks_at_a_row(rows: Rows, tokenizer: str) -> None:
    reader = Reader(Reading("conversation", "sft", tokenizer))
    seen = look(rows, 0, reader, TOKENS, Judges(), 60)
    (labelled,) = seen.sheets
    assert 0 < labelled.trained < len(labelled.sheet) and not seen.has_problem
    assert "on the mat" in look(rows, 0, reader, RENDERED, Judges(), 60).text
    assert json.loads(look(rows, 0, reader, RAW, Judges(), 60).text) == talk("where?", "on the mat")
    assert "broken" in look(rows, ~0, reader, TOKENS, Judges(), 60).text
    assert "does not read a text" in look(rows, 4, reader, TOKENS, Judges(), 60).problems[0]


def test_a_packed_row_holds_the_row_that_was_asked_for(rows: Rows, tokenizer: str) -> None:
    reader = Reader(Reading("conversation", "sft", tokenizer, max_seq_len=128))
    encoded = Encoded(rows, reader)
    seen, number = look_packed(rows, 5, encoded)
    assert seen.mode == PACKED and "short" in seen.sheets[0].rendered
    assert len(seen.sheets[0].sheet) == 128 and len(seen.sheets[0].sheet.starts) > 1
    _, last = look_packed(rows, 5, encoded, 10**6)
    assert number <= last == len(encoded.packed) - 1


def test_another_template_is_used_by_every_view(rows: Rows, tokenizer: str, tmp_path: Path) -> None:
    template = tmp_path / "loud.jinja"
    template.write_text(PLAIN.replace("message['content']", "'LOUD ' + message['content']"))
    reader = Reader(Reading("conversation", "sft", tokenizer, template=str(template)))
    assert "LOUD where?" in look(rows, 0, reader, RENDERED, Judges(), 60).text
    own, loud = (
        Encoded(rows, each).audit["tokens"] for each in (Reader(Reading("conversation", "sft", tokenizer)), reader)
    )
    assert loud > own
    with pytest.raises(UserError, match="template"):
        Reader(Reading("conversation", "sft", tokenizer, template=str(tmp_path / "none.jinja")))


def test_a_row_of_millions_of_characters_is_shown_raw(tmp_path: Path, tokenizer: str) -> None:
    rows = Rows(write(tmp_path / "big.jsonl", {"text": "x" * (MOST_CHARACTERS + 1)}))
    rows.build_index()
    seen = look(rows, 0, Reader(Reading("text", "pretrain", tokenizer)), TOKENS, Judges(), 60)
    assert seen.text and "too many" in seen.problems[0] and seen.has_problem
