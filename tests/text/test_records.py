"""Data files: every format streams the same rows, bad ones are quarantined in place, nothing is read ahead."""

import csv
import gzip
import io
import json
import random
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import DataError, UserError
from engine.text import formats, scan, sources
from engine.text.records import Chunk, Quarantined, Record, RecordFile, open_records

ROWS = [{"text": f"row {number} 行\n second, “quoted”"} for number in range(30)]


def write_lines(path: Path, *lines: bytes | dict[str, Any]) -> Path:
    path.write_bytes(b"".join((x if isinstance(x, bytes) else json.dumps(x).encode()) + b"\n" for x in lines))
    return path


def summary(file: RecordFile) -> list[tuple[int, str]]:
    """(line, text of a usable row or reason of a bad one)."""
    return [(item.line, item.text if isinstance(item, Record) else item.reason) for item in file]


def check_random_access(file: RecordFile) -> None:
    """Reading by number gives what streaming gives, before and after indexing."""
    streamed = list(file.records())
    assert [record.row for record in streamed] == list(range(len(streamed)))
    assert file.read(len(streamed) - 1) == streamed[-1]
    assert file.build_index()
    assert len(file) == len(streamed)
    assert [file.read(row) for row in range(len(file))] == streamed
    assert file.quarantined == [item for item in file if isinstance(item, Quarantined)]


def to_csv(rows: list[dict[str, Any]]) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def to_parquet(rows: list[dict[str, Any]]) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), stream, row_group_size=7)
    return stream.getvalue()


def to_lines(rows: list[dict[str, Any]]) -> bytes:
    return "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode("utf-8-sig")


WRITERS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "a.jsonl": to_lines,
    "a.ndjson": to_lines,
    "lines.json": to_lines,
    "list.json": lambda rows: json.dumps(rows).encode(),
    "indented.json": lambda rows: json.dumps(rows, indent=1, ensure_ascii=False).encode("utf-8-sig"),
    "inside.json": lambda rows: json.dumps({"note": "[{", "data": rows, "end": {}}, indent=1).encode(),
    "minified.json": lambda rows: json.dumps({"data": rows}).encode(),
    "a.csv": to_csv,
    "a.parquet": to_parquet,
    "lines.unknown": to_lines,
    "list": lambda rows: json.dumps(rows).encode(),
    "columns": to_parquet,
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_rows(name: str, packed: bool, tmp_path: Path) -> None:
    data = WRITERS[name](ROWS)
    path = tmp_path / (name + ".gz" if packed else name)
    path.write_bytes(gzip.compress(data) if packed else data)
    file = open_records(path)
    assert (file.shape, file.format, file.path) == ("text", "text", path)
    assert [record.text for record in file.records()] == [row["text"] for row in ROWS]
    check_random_access(file)
    assert len(open_records(path, max_rows=4).chunks(3)) == 1
    assert [record.row for record in open_records(path, max_rows=4).records()] == [0, 1, 2, 3]


def test_conversations_in_parquet(tmp_path: Path) -> None:
    row = {"conversations": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "tools": None}
    path = tmp_path / "a.parquet"
    path.write_bytes(to_parquet([row] * 3))
    assert [(record.line, record.format) for record in open_records(path).records()] == [
        (1, "minimind"),
        (2, "minimind"),
        (3, "minimind"),
    ]


def test_bad_lines_stand_in_place_and_are_not_counted_as_rows(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "a.jsonl",
        b'\xef\xbb\xbf{"text": "one"}',
        b'{"text": "\xff"}',
        b"",
        b'{"text": "cut',
        b'{"text": NaN}',
        b'{"text": "\\u0000"}',
        b'{"text": "\\ud800"}',
        b"[" * 3000,
        b'{"text": ""}\r',
        b'{"text": 1}',
        b'{"body": "x"}',
        b'{"text": "two"}\r',
        b'{"messages": [{"role": "narrator", "content": "x"}]}',
        b'{"messages": []}',
    )
    file = open_records(path)
    assert summary(file) == [
        (1, "one"),
        (2, "invalid UTF-8 at byte 11"),
        (4, "truncated JSON: it ends too early"),
        (5, "NaN is not JSON"),
        (6, "NUL character in text"),
        (7, "lone surrogate"),
        (8, "nested deeper than 64 levels"),
        (9, "text is empty"),
        (10, "text must be a string, not a number"),
        (11, "no known field (found 'body')"),
        (12, "two"),
        (13, "messages: message 1: unknown role 'narrator'"),
        (14, "no messages in messages"),
    ]
    check_random_access(file)
    assert file.quarantined[0].raw == b'{"text": "\xff"}\n'
    assert len(file.quarantined[5].raw) == 200


@pytest.mark.parametrize("last", [b'{"text": "last"}', b'{"text": "la'])
def test_last_line_without_line_end(last: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "first"}\n' + last)
    expected = "last" if last.endswith(b"}") else "truncated JSON: it ends too early"
    assert summary(open_records(path)) == [(1, "first"), (2, expected)]


def test_a_huge_line_is_passed_over_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "MAX_ROW_BYTES", 64 << 10)
    monkeypatch.setattr(scan, "PIECE_BYTES", 8 << 10)
    fits = {"text": "x" * ((64 << 10) - 20)}
    path = write_lines(tmp_path / "a.jsonl", {"text": "one"}, {"text": "y" * (8 << 20)}, fits, {"text": "two"})
    tracemalloc.start()
    found = summary(open_records(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [(1, "one"), (2, "longer than 0.0625 MiB"), (3, fits["text"]), (4, "two")]
    assert peak < 1 << 20


@pytest.mark.parametrize("name", ["inside.json", "a.csv"])
def test_huge_rows_of_other_formats(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "MAX_ROW_BYTES", 64 << 10)
    monkeypatch.setattr(scan, "PIECE_BYTES", 8 << 10)
    path = tmp_path / name
    path.write_bytes(WRITERS[name]([{"text": "one"}, {"text": "y" * (1 << 20)}, {"text": "two"}]))
    first = 1 if name.endswith("json") else 2
    assert summary(open_records(path)) == [
        (first, "one"),
        (first + 1, "longer than 0.0625 MiB"),
        (first + 2, "two"),
    ]


def test_first_rows_of_a_long_file_read_only_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(b'{"text": "some words of row %d"}\n' % number for number in range(200_000)))
    opened: list[scan.Stream] = []
    reached: list[int] = []

    class Counted(io.FileIO):
        def close(self) -> None:
            if not self.closed:
                reached.append(self.tell())
            super().close()

    def open_counted(path: Path) -> scan.Stream:
        opened.append(io.BufferedReader(Counted(str(path))))
        return opened[-1]

    for module in (scan, sources, formats):
        monkeypatch.setattr(module, "open_stream", open_counted)
    file = open_records(path)
    rows = file.records()
    assert [next(rows).text for _ in range(3)][2] == "some words of row 2"
    rows.close()  # type: ignore[attr-defined]
    for stream in opened:
        stream.close()
    assert opened and len(reached) == len(opened)
    assert max(reached) <= sources.HEAD_BYTES
    assert not file.indexed
    with pytest.raises(TypeError):
        len(file)


def test_the_index_can_be_stopped_and_reports_progress(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", *({"text": str(number)} for number in range(10_000)))
    file = open_records(path)
    stop, seen = threading.Event(), list[float]()

    def progress(share: float) -> None:
        seen.append(share)
        if len(seen) == 3:
            stop.set()

    assert not file.build_index(progress, stop)
    assert not file.indexed and seen == sorted(seen) and 0 < seen[2] < 1
    assert file.read(9_999).text == "9999"
    assert file.build_index(seen.append)
    assert seen[-1] == 1.0 and len(file) == 10_000
    assert file.read(5_000).line == 5_001


def test_rows_that_do_not_exist(tmp_path: Path) -> None:
    file = open_records(write_lines(tmp_path / "a.jsonl", {"text": "a"}, {"text": "b"}))
    for row in (2, -1):
        with pytest.raises(UserError, match=f"no row {row}"):
            file.read(row)
    file.build_index()
    with pytest.raises(UserError, match="rows 0 to 1"):
        file.read(2)


def test_a_file_that_changed_after_indexing(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", {"text": "a"}, {"text": "b"})
    file = open_records(path)
    file.build_index()
    write_lines(path, {"text": "longer than before"})
    with pytest.raises(DataError, match="changed"):
        file.read(1)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 500])
def test_chunks_cover_every_row_once(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "PIECE_BYTES", 64)
    dice = random.Random(count)
    lines: list[bytes | dict[str, Any]] = [b'\xef\xbb\xbf{"text": "first"}']
    for number in range(100):
        lines.append(dice.choice([{"text": f"{number} " + "x" * dice.randrange(300)}, b"", b"broken"]))
    path = write_lines(tmp_path / "a.jsonl", *lines)
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    file = open_records(path)
    chunks = file.chunks(count)
    assert 1 <= len(chunks) <= count and (len(chunks) > 1) == (count > 1)
    assert all(before.end == after.start for before, after in pairwise(chunks))
    parts = [
        (item.line, item.text if isinstance(item, Record) else item.reason)
        for chunk in chunks
        for item in file.iterate(chunk)
    ]
    assert parts == summary(file)
    for chunk in chunks:
        rows = [item.row for item in file.iterate(chunk) if isinstance(item, Record)]
        assert rows == list(range(len(rows)))


@pytest.mark.parametrize("name", ["a.txt", "list.json", "a.csv", "a.parquet", "a.jsonl.gz"])
def test_other_files_are_one_chunk(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    data = WRITERS.get(name.removesuffix(".gz"), lambda rows: b"text")(ROWS)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    file = open_records(path)
    assert len(file.chunks(4)) == 1 and isinstance(file.chunks(4)[0], Chunk)
    assert list(file.iterate(file.chunks(4)[0])) == list(file)
    with pytest.raises(UserError):
        file.chunks(0)


@pytest.mark.parametrize("name", ["a.md", "a.txt.gz", "README"])
def test_text_is_cut_between_paragraphs(name: str, tmp_path: Path) -> None:
    texts = [f"# {number}\r\n" + "字" * (500 + 40 * number) for number in range(20)]
    data = ("\ufeff\n\n" + "\n\n \n".join(texts) + "\n").encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    file = open_records(path)
    records = list(file.records())
    assert "\n\n".join(record.text for record in records) == "\n\n".join(texts).replace("\r\n", "\n")
    sizes = [len(record.text.encode()) for record in records]
    assert max(sizes) <= sources.BLOCK_BYTES and all(a + b > 7000 for a, b in pairwise(sizes))
    lines = data.decode().removeprefix("\ufeff").split("\n")
    assert [lines[record.line - 1].strip() for record in records] == [record.text.split("\n")[0] for record in records]
    check_random_access(file)


def test_a_paragraph_is_only_split_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "PIECE_BYTES", 30_000)
    path = tmp_path / "a.txt"
    whole, long, lines = "a" * 20_000, "中" * 25_000, "\n".join(["b" * 97] * 500)
    path.write_text(f"{whole}\n\n{long}\n\n{lines}\n", encoding="utf-8", newline="\n")
    file = open_records(path)
    texts = [record.text for record in file.records()]
    assert texts[0] == whole
    assert "".join(text for text in texts if "中" in text) == long
    assert "\n".join(text for text in texts if "b" in text) == lines
    assert max(len(text.encode()) for text in texts) <= 30_000
    assert not any(isinstance(item, Quarantined) for item in file)
    check_random_access(file)


def test_bad_paragraphs(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\n\ntwo\n\nok line\nbad \xff\n\nthree\n\nn\0ul\n\nfour")
    file = open_records(path)
    assert summary(file) == [
        (1, "one\n\ntwo"),
        (6, "invalid UTF-8"),
        (8, "three"),
        (10, "NUL character in text"),
        (12, "four"),
    ]
    check_random_access(file)


def test_csv_rows_over_several_lines_and_bad_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        b"\xef\xbb\xbfquestion,answer\r\n"
        b'"q, ""1""\r\nmore",a1\r\n'
        b"q2\r\n"
        b"\r\n"
        b"q3,\xff\r\n"
        b"q4,n\0l\r\n"
        b"q5,\r\n"
        b'q6,"open\r\n'
        b"q7,a7\r\n"
    )
    file = open_records(path)
    assert [item.reason if isinstance(item, Quarantined) else item.messages[0].content for item in file] == [
        'q, "1"\r\nmore',
        "1 cells, the header has 2",
        "invalid UTF-8",
        "NUL character in text",
        "answer is empty",
        "broken CSV: unexpected end of data",
        "q7",
    ]
    assert [item.line for item in file] == [2, 4, 6, 7, 8, 9, 10]
    assert file.format == "question-answer"
    check_random_access(file)


def test_csv_without_rows(tmp_path: Path) -> None:
    for data, message in (
        (b"text\n", "there are no rows"),
        (b"\n\n", "no header row"),
        (b"a\xff\nb\n", "invalid UTF-8"),
    ):
        (tmp_path / "a.csv").write_bytes(data)
        with pytest.raises(DataError, match=message):
            open_records(tmp_path / "a.csv")


def test_bad_elements_of_a_json_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = (
        b'[{"text": "a [{\\"], "}, {"text": NaN},\n {"text": "\\\\"}, {"text": "\xff"}, 5,'
        b'{"text": "\\\\\\" ]"},\n]\n[{"text": "lost"}]'
    )
    path = tmp_path / "a.json"
    path.write_bytes(data)
    expected = [
        (1, 'a [{"], '),
        (2, "NaN is not JSON"),
        (3, "\\"),
        (4, "invalid UTF-8 at byte 11"),
        (5, "a row must be an object, not a number"),
        (6, '\\" ]'),
        (7, "something follows the end of the list"),
    ]
    for piece in (1, 2, 3, 7, 1000):
        monkeypatch.setattr(scan, "PIECE_BYTES", piece)
        file = open_records(path)
        assert summary(file) == expected
        check_random_access(file)


def test_a_json_file_that_holds_one_row_or_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    for indent in (None, 2):
        path.write_text(json.dumps({"conversations": turns}, indent=indent))
        assert [(item.line, isinstance(item, Record)) for item in open_records(path)] == [(1, True)]
    path.write_text('[{"text": "a"}, {"text": "b')
    assert summary(open_records(path)) == [(1, "a"), (2, "truncated JSON: it ends too early")]
    path.write_text(json.dumps({"train": [{"text": "a"}], "test": [{"text": "b"}]}))
    with pytest.raises(DataError, match="several lists: 'train', 'test'"):
        open_records(path)


def test_bad_parquet_values(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    values = pa.array([b"ok", b"\xff", b"n\0l", b"fine"] * 2).view(pa.binary())
    texts = pa.Array.from_buffers(pa.string(), len(values), values.buffers())
    pq.write_table(pa.table({"text": texts}), path)
    file = open_records(path)
    assert summary(file)[:4] == [
        (1, "ok"),
        (2, "a value cannot be read: invalid UTF-8 or out of range"),
        (3, "NUL character in text"),
        (4, "fine"),
    ]
    check_random_access(file)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    for use in (lambda: open_records(path), lambda: list(file)):
        with pytest.raises(DataError, match="not a readable parquet file"):
            use()


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(to_parquet(ROWS))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError) as caught:
        open_records(path)
    assert "minimind-tui[parquet]" in caught.value.hint


def test_a_gz_that_is_cut_off_keeps_its_beginning(tmp_path: Path) -> None:
    dice = random.Random(0)
    rows: list[bytes | dict[str, Any]] = [{"text": dice.randbytes(300).hex()} for _ in range(2000)]
    whole = gzip.compress(write_lines(tmp_path / "a.jsonl", *rows).read_bytes())
    path = tmp_path / "b.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    items = list(open_records(path))
    *usable, last = items
    assert all(isinstance(item, Record) for item in usable) and len(usable) > 900
    assert isinstance(last, Quarantined) and last.reason == "the compressed data is damaged or ends too early"


@pytest.mark.parametrize(
    ("name", "data", "where", "message"),
    [
        ("a.jsonl", b"", "a.jsonl", "the file is empty"),
        ("a.jsonl", b"\n\n", "a.jsonl", "there are no rows"),
        ("a.jsonl", b"\nnot json\n{}\n", "a.jsonl:2", "none of 2 rows can be used; the first: broken JSON"),
        ("a.jsonl", '{"text": "a"}'.encode("utf-16"), "a.jsonl", "the file is UTF-16"),
        ("a.json", b"[]", "a.json", "there are no rows"),
        ("a.txt", b" \n\n", "a.txt", "there are no rows"),
        ("a.gz", b"\x1f\x8bgarbage", "a.gz", "cannot be read"),
        ("a.bin", b"\x00\x01\x02", "a.bin", "this is neither JSON nor text"),
        ("latin1", "é".encode("latin-1") * 9, "latin1", "this is neither JSON nor text"),
        ("a.parquet", b"PAR1 nothing", "a.parquet", "not a readable parquet file"),
    ],
)
def test_files_without_a_usable_row(name: str, data: bytes, where: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        open_records(path)
    assert caught.value.exit_code == 2
    assert caught.value.where == str(tmp_path / where)


def test_folders_missing_files_and_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="folder"):
        open_records(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        open_records(tmp_path / "missing.jsonl")
    path = write_lines(tmp_path / "a.jsonl", {"text": "a"})
    with pytest.raises(UserError, match="max_rows"):
        open_records(path, max_rows=0)
    with pytest.raises(UserError, match="unknown field"):
        open_records(path, mapping={"txt": "text"})


def test_mapping_and_the_majority(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "a.jsonl", {"body": "a"}, {"text": "b"}, {"question": "q", "answer": "a"}, {"text": "c"}
    )
    file = open_records(path, mapping={"text": "body"})
    assert summary(file)[:2] == [(1, "a"), (2, "column 'body' (for text) is missing")]
    file = open_records(path)
    assert (file.shape, file.format) == ("text", "text")
    assert [record.format for record in file.records()] == ["text", "question-answer", "text"]


def test_only_the_first_hundred_rows_decide(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": "a"}] * 60 + [{"text": "t"}] * 40 + [{"text": "t"}] * 500
    assert open_records(write_lines(tmp_path / "a.jsonl", *rows)).format == "question-answer"


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.txt", "a.csv", "a.parquet", "a.bin", "a.jsonl.gz"])
def test_random_damage_never_raises_anything_else(name: str, tmp_path: Path) -> None:
    dice = random.Random(name)
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "tool_calls": "[]"}]
    rows = [{"text": 'a, "b" ü'}, {"conversations": turns, "tools": "[{}]"}, {"chosen": turns, "rejected": turns}]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()
    whole = {
        "a.json": json.dumps(rows).encode(),
        "a.csv": to_csv(ROWS[:5]),
        "a.parquet": to_parquet(ROWS[:9]),
        "a.jsonl.gz": gzip.compress(lines),
    }.get(name, lines)
    path = tmp_path / name
    opened = 0
    for round_number in range(200):
        data = bytearray(whole if round_number % 4 else dice.randbytes(dice.randrange(60)))
        for _ in range(dice.randrange(4)):
            place = dice.randrange(len(data) + 1)
            data[place : place + dice.randrange(3)] = dice.choice(
                [dice.randbytes(2), b'"', b"{", b"]", b"\\", b"\0", b""]
            )
        path.write_bytes(data)
        try:
            file = open_records(path)
        except UserError:
            continue
        opened += 1
        check_random_access(file)
    assert opened > 10


def test_reading_loads_no_torch() -> None:
    code = "import sys, engine.text.records; assert not {'torch', 'pyarrow', 'textual'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
