"""Rows as they stand in a file, and files that appear whole or not at all."""

import csv
import gzip
import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import DataError, UserError
from engine.text import row_files
from engine.text.records import Quarantined, open_records
from engine.text.row_files import new_files, stored_rows
from engine.text.scan import open_stream


def stored(path: Path) -> list[bytes | str]:
    """Each row's line, or the reason why there is none."""
    rows = stored_rows(open_records(path))
    return [item.reason if isinstance(item, Quarantined) else line for item, line in rows]


LINES = [b'{"text":   "one \\u4e00"}\r\n', b"\n", b"{broken\n", b'  {"z": 1, "text": "two"}\n', b'{"text": "end"}']


@pytest.mark.parametrize("packed", [False, True])
def test_json_lines_are_copied_byte_for_byte(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / ("a.jsonl.gz" if packed else "a.jsonl")
    content = b"\xef\xbb\xbf" + b"".join(LINES)
    path.write_bytes(gzip.compress(content) if packed else content)
    first, broken, second, last = stored(path)
    assert (first, second, last) == (LINES[0], LINES[3], LINES[4] + b"\n")
    assert isinstance(broken, str) and broken.startswith("broken JSON")


def test_a_damaged_gz_gives_what_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    rows = [b'{"text": "%d"}\n' % number for number in range(30_000)]
    path.write_bytes(gzip.compress(b"".join(rows))[:-4000])
    found = stored(path)
    assert found[:100] == rows[:100] and len(found) < len(rows)
    assert found[-1] in ("the compressed data is damaged or ends too early", "truncated JSON: it ends too early")


def test_rows_of_other_formats_are_written_as_json(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text", "n"], ["one, 一\ntwo", "1"], ["short"], ["three", "3"]])
    assert stored(tmp_path / "a.csv") == [
        '{"text":"one, 一\\ntwo","n":"1"}\n'.encode(), "1 cells, the header has 2", b'{"text":"three","n":"3"}\n'
    ]  # fmt: skip
    (tmp_path / "a.json").write_bytes(b'[{"text": "a"},\n 5, {"text": "b"}]')
    assert stored(tmp_path / "a.json") == [
        b'{"text":"a"}\n',
        "a row must be an object, not a number",
        b'{"text":"b"}\n',
    ]
    (tmp_path / "a.txt").write_text("one\ntwo\n\nthree\n", encoding="utf-8")
    assert stored(tmp_path / "a.txt") == [b'{"text":"one\\ntwo\\n\\nthree"}\n']


def test_a_value_without_a_place_in_json_quarantines_its_row(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b"], "price": [None, Decimal("1.5")]})
    pq.write_table(table, tmp_path / "a.parquet")
    first, second = stored(tmp_path / "a.parquet")
    assert json.loads(first) == {"text": "a", "price": None}
    assert isinstance(second, str) and second.startswith("it cannot be written as JSON")


@pytest.mark.parametrize("rows", [b"", b'{"text": "a"}\n{"text": "b"}\n'])
def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path, rows: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    path, shorter = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    path.write_bytes(b'{"text": "a"}\n' * 3)
    shorter.write_bytes(rows)
    file = open_records(path)
    monkeypatch.setattr(row_files, "open_stream", lambda _: open_stream(shorter))
    with pytest.raises(DataError, match="changed"):
        list(stored_rows(file))


def test_new_files_appear_together_and_whole(tmp_path: Path) -> None:
    out = [tmp_path / "deep" / "a.jsonl", tmp_path / "deep" / "b.jsonl"]
    with new_files(*out, sources=[], overwrite=False) as files:
        for number, file in enumerate(files):
            file.write(b"%d\n" % number)
        assert not any(path.exists() for path in out)
    assert [path.read_bytes() for path in out] == [b"0\n", b"1\n"]
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"a.jsonl", "b.jsonl"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_fails_leaves_everything_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    old = tmp_path / "a.jsonl"
    old.write_bytes(b"old\n")
    with pytest.raises(error), new_files(old, tmp_path / "b.jsonl", sources=[], overwrite=True) as files:
        files[0].write(b"new\n")
        raise error
    assert old.read_bytes() == b"old\n" and list(tmp_path.iterdir()) == [old]


def test_names_that_are_refused(tmp_path: Path) -> None:
    taken, source, link = tmp_path / "taken.jsonl", tmp_path / "source.jsonl", tmp_path / "link.jsonl"
    for path in (taken, source):
        path.write_bytes(b"kept\n")
    link.symlink_to(source)
    (tmp_path / "folder.jsonl").mkdir()
    for path, overwrite, what in (
        (taken, False, "exists"),
        (source, True, "file that is read"),
        (link, True, "file that is read"),
        (tmp_path / "folder.jsonl", True, "folder"),
        (tmp_path / "out.csv", False, "JSON lines"),
    ):
        with pytest.raises(UserError, match=what), new_files(path, sources=[source], overwrite=overwrite):
            pass
    with new_files(taken, sources=[source], overwrite=True) as (file,):
        file.write(b"new\n")
    assert (taken.read_bytes(), source.read_bytes()) == (b"new\n", b"kept\n")
