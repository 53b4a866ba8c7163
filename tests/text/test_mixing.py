"""Mixtures: the proportions asked for, every row whole, the same from the same seed."""

import json
import tracemalloc
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from engine.errors import DataError, UserError
from engine.text import mixing
from engine.text.mixing import Ingredient, apportion, mix_files


def write(path: Path, rows: int, name: str = "") -> Path:
    """Rows of different lengths, with odd spacing that must stay."""
    lines = (f'{{"text":  "{name or path.stem} {row} {"x" * (row % 7)}"}}\n' for row in range(rows))
    path.write_text("".join(lines), encoding="utf-8")
    return path


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_shares_become_whole_numbers() -> None:
    third = Fraction(1, 3)
    assert apportion([third] * 3, 10) == [4, 3, 3]
    assert apportion([Fraction(7, 10), Fraction(3, 10)], 10) == [7, 3]
    assert apportion([Fraction(1, 100), Fraction(99, 100)], 10) == [0, 10]
    assert apportion([Fraction(45, 100), Fraction(55, 100)], 10) == [5, 5]  # equal remainders: the first


def test_without_weights_all_rows_are_shuffled(tmp_path: Path) -> None:
    a, b, out = write(tmp_path / "a.jsonl", 30), write(tmp_path / "b.jsonl", 50), tmp_path / "out.jsonl"
    done = mix_files(out, [Ingredient(a), Ingredient(b)])
    together = lines_of(a) + lines_of(b)
    assert sorted(lines_of(out)) == sorted(together) and lines_of(out) != together
    assert done["rows"] == 80 and [file["taken"] for file in done["files"]] == [30, 50]
    # Shuffled across files, not file after file.
    first = Counter(line.split()[1][1:2] for line in lines_of(out)[:40])
    assert first[b"a"] > 5 and first[b"b"] > 5


def test_weights_are_shares_of_the_rows(tmp_path: Path) -> None:
    a, b, out = write(tmp_path / "a.jsonl", 10), write(tmp_path / "b.jsonl", 100), tmp_path / "out.jsonl"
    done = mix_files(out, [Ingredient(a, Fraction(1)), Ingredient(b, Fraction(3))], rows=100)
    found = Counter(lines_of(out))
    assert sum(found.values()) == 100
    assert {found[line] for line in lines_of(a)} == {2, 3} and sum(found[line] for line in lines_of(a)) == 25
    assert {found[line] for line in lines_of(b)} == {0, 1} and sum(found[line] for line in lines_of(b)) == 75
    assert [file["share"] for file in done["files"]] == [0.25, 0.75]
    assert [file["repeated"] for file in done["files"]] == [15, 0]


def test_without_repeats_the_mixture_shrinks(tmp_path: Path) -> None:
    a, b, out = write(tmp_path / "a.jsonl", 10), write(tmp_path / "b.jsonl", 100), tmp_path / "out.jsonl"
    parts = [Ingredient(a, Fraction(1)), Ingredient(b, Fraction(3))]
    done = mix_files(out, parts, rows=100, repeat=False)
    assert done["rows"] == 40 and [file["taken"] for file in done["files"]] == [10, 30]
    assert max(Counter(lines_of(out)).values()) == 1
    assert mix_files(out, parts, rows=20, repeat=False, overwrite=True)["rows"] == 20


def test_the_seed_decides(tmp_path: Path) -> None:
    parts = [Ingredient(write(tmp_path / "a.jsonl", 40)), Ingredient(write(tmp_path / "b.jsonl", 40))]
    mixed = []
    for number, seed in enumerate((0, 0, 1)):
        mix_files(tmp_path / f"out{number}.jsonl", parts, rows=50, seed=seed)
        mixed.append((tmp_path / f"out{number}.jsonl").read_bytes())
    assert mixed[0] == mixed[1] != mixed[2] and sorted(mixed[0].splitlines()) != sorted(mixed[2].splitlines())


def test_formats_may_differ_and_bad_lines_are_listed(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", 5)
    odd = json.dumps({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})
    a.write_text(a.read_text() + odd + "\n{broken\n")
    (tmp_path / "b.csv").write_text("text\none\ntwo\n")
    done = mix_files(tmp_path / "out.jsonl", [Ingredient(a), Ingredient(tmp_path / "b.csv")])
    assert sorted(lines_of(tmp_path / "out.jsonl")) == sorted(
        [*lines_of(a)[:5], b'{"text":"one"}\n', b'{"text":"two"}\n']
    )
    assert [(entry["line"], entry["reason"][:20]) for entry in done["files"][0]["quarantined"]] == [
        (6, "a row of shape conve"), (7, "broken JSON at chara")
    ]  # fmt: skip


def test_what_is_refused(tmp_path: Path) -> None:
    a, b, out = write(tmp_path / "a.jsonl", 5), tmp_path / "b.jsonl", tmp_path / "out.jsonl"
    b.write_text('{"prompt": "q", "answer": "5"}\n')
    with pytest.raises(DataError, match=r"different shapes \(a.jsonl: text, b.jsonl: prompt\)"):
        mix_files(out, [Ingredient(a), Ingredient(b)])
    with pytest.raises(UserError, match="some have none"):
        mix_files(out, [Ingredient(a, Fraction(1)), Ingredient(a)])
    with pytest.raises(UserError, match="file that is read"):
        mix_files(a, [Ingredient(a)], overwrite=True)
    assert not out.exists() and len(lines_of(a)) == 5


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = write(tmp_path / "a.jsonl", 20)

    def longer(*arguments: object) -> object:
        write(a, 20, "longer")
        return pick(*arguments)  # type: ignore[arg-type]

    pick = mixing._pick
    monkeypatch.setattr(mixing, "_pick", longer)
    with pytest.raises(DataError, match="changed"):
        mix_files(tmp_path / "out.jsonl", [Ingredient(a)])
    assert list(tmp_path.iterdir()) == [a]


def test_large_files_take_little_memory(tmp_path: Path) -> None:
    data = tmp_path / "a.jsonl"
    with data.open("wb") as file:
        for number in range(4000):
            file.write(b'{"text": "%d %s"}\n' % (number, b"word " * 800))
    tracemalloc.start()
    done = mix_files(tmp_path / "out.jsonl", [Ingredient(data)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "out.jsonl").stat().st_size == data.stat().st_size > 15 << 20 and done["rows"] == 4000
    assert peak < 3 << 20
