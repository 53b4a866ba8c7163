"""Rows of a file: known while it is read, searched, previewed, never kept."""

import gzip
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from engine.errors import DataError, UserError
from minimind_tui.core.rows import BAD, MARKS, Rows


def talk(asked: str, said: str, **other: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    return {"conversations": turns, **other}


def write(path: Path, *rows: Any) -> Path:
    lines = (row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def found(rows: Rows, needle: str) -> list[int]:
    return [row for hits, _ in rows.search(needle, threading.Event()) for row in hits]


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    system = {"conversations": [{"role": "system", "content": "Be brief."}, *talk("Wer?", "Ich")["conversations"]]}
    path = write(
        tmp_path / "mixed.jsonl",
        talk("Where is\nthe \x1b[31mcat?", "On the “mat”."),
        b"not json \x1b[2J",
        {"text": "Running\ttext about the CAT."},
        system,
        talk("2 + 2", "", answer="4"),
        b'{"conversations": []}',
        {"chosen": talk("q", "good")["conversations"], "rejected": talk("q", "bad")["conversations"]},
    )
    rows = Rows(path)
    assert rows.build_index()
    return rows


def test_what_is_known_of_a_file(rows: Rows) -> None:
    assert rows.known == len(rows) == 5
    assert rows.shapes == {"conversation": 2, "text": 1, "pair": 1, "prompt": 1}
    assert rows.answers == 1
    assert [entry.line for entry in rows.quarantined] == [2, 6]
    assert [rows.line(row) for row in (0, 1, 4, ~0, ~1)] == [1, 3, 7, 2, 6]
    assert [rows.row_of_line(line) for line in (1, 2, 3, 6, 9)] == [0, ~0, 1, ~1, None]
    assert rows.parsed(1) == {"text": "Running\ttext about the CAT."}
    assert rows.read(3).answer == "4"
    assert rows.has_role("system") and not rows.has_role("tool")


def test_previews_are_cleaned_and_short(rows: Rows) -> None:
    previews = rows.previews([0, 1, 3, 4, ~0, 99])
    assert previews[0].text == "Where is the ␛[31mcat? → On the “mat”." and previews[0].mark == MARKS["conversation"]
    assert previews[1].text == "Running text about the CAT."
    assert previews[3].text == "2 + 2 → 4" and previews[3].mark == MARKS["prompt"]
    assert previews[4].text == "q → good"
    assert previews[~0].mark == BAD and previews[~0].number == "line 2"
    assert set(previews) == {0, 1, 3, 4, ~0}


def test_a_search_looks_at_decoded_text_of_any_case(rows: Rows) -> None:
    assert found(rows, "cat") == [0, 1]
    assert found(rows, "“MAT”") == [0], "written as an escape in the file"
    assert found(rows, "is\nthe") == [0]
    assert found(rows, "no such") == []


def test_roles_are_found(rows: Rows) -> None:
    system = [row for hits, _ in rows.with_role("system", threading.Event()) for row in hits]
    assistant = [row for hits, _ in rows.with_role("assistant", threading.Event()) for row in hits]
    assert system == [2] and assistant == [0, 2, 4]


def test_rows_can_be_looked_at_and_searched_while_the_file_is_read(tmp_path: Path) -> None:
    rows = Rows(write(tmp_path / "long.jsonl", *({"text": f"row {row}"} for row in range(5000))))
    seen: list[int] = []

    def progress(share: float) -> None:
        seen.append(rows.known)
        if rows.known:
            assert rows.read(rows.known - 1).text == f"row {rows.known - 1}"

    hits: list[int] = []
    searching = threading.Thread(target=lambda: hits.extend(found(rows, "row 4999")))
    searching.start()
    assert not rows.indexed and rows.previews([0]) == {}
    assert rows.build_index(progress)
    searching.join(30)
    assert hits == [4999]
    assert len(seen) >= 3 and seen == sorted(seen)


def test_reading_can_be_given_up(tmp_path: Path) -> None:
    rows = Rows(write(tmp_path / "long.jsonl", *({"text": f"row {row}"} for row in range(5000))))
    stop = threading.Event()
    stop.set()
    assert not rows.build_index(stop=stop)
    assert not rows.indexed and rows.known < 5000
    assert list(rows.search("row", stop)) == []


def test_other_formats_are_read_from_any_row(tmp_path: Path) -> None:
    csv = tmp_path / "t.csv"
    csv.write_text('text,n\n"hello, ""x""\nsecond line",1\nplain,2\n')
    packed = tmp_path / "t.jsonl.gz"
    packed.write_bytes(gzip.compress(b'{"text": "hello"}\n{"text": "plain"}\n'))
    for path, first in ((csv, 'hello, "x" second line'), (packed, "hello")):
        rows = Rows(path)
        rows.build_index()
        assert [preview.text for preview in rows.previews(range(2)).values()] == [first, "plain"]
        assert found(rows, "PLAIN") == [1]


def test_a_file_that_changes_is_refused_not_misread(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *({"text": f"row {row}"} for row in range(20)))
    rows = Rows(path)
    rows.build_index()
    path.write_text("{}\n")
    with pytest.raises(DataError, match="changed"):
        rows.parsed(15)
    with pytest.raises(DataError, match="no row 20"):
        rows.parsed(20)


def test_what_is_no_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "x.bin").write_bytes(bytes(range(256)))
    for name in ("empty.jsonl", "x.bin", "none.jsonl"):
        with pytest.raises(UserError):
            Rows(tmp_path / name)
