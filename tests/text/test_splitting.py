"""Files split in two: the same rows are held out as in training, and none is lost."""

import json
import tracemalloc
from pathlib import Path
from typing import Any, Literal

import pytest

from engine.errors import DataError, UserError
from engine.text.batching import split_rows
from engine.text.cache import CacheRequest, load_samples
from engine.text.encode import EncodeSettings
from engine.text.splitting import split_file
from engine.text.tokenizer import Tokenizer


def talk(question: str, answer: str) -> bytes:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": turns}).encode() + b"\n"


def write(path: Path, prompts: int = 40) -> Path:
    """Each prompt three times, one line broken, odd spacing that must stay."""
    rows = [talk(f"question {number}", f"answer {time}") for time in range(3) for number in range(prompts)]
    rows.insert(7, b"{broken\n")
    path.write_bytes(b"".join(rows).replace(b", ", b" ,  "))
    return path


def sides(done: dict[str, Any]) -> tuple[list[bytes], list[bytes]]:
    train, val = (Path(done[side]).read_bytes().splitlines(keepends=True) for side in ("train", "val"))
    assert (len(train), len(val)) == (done["train_rows"], done["val_rows"])
    return train, val


@pytest.mark.parametrize("shape", ["text", "conversation"])
@pytest.mark.parametrize("fraction", [0.2, 1e-9])
def test_holds_out_what_a_run_holds_out(
    tmp_path: Path, tokenizer_folder: str, tokenizer: Tokenizer, shape: str, fraction: float
) -> None:
    data = write(tmp_path / "a.jsonl")
    if shape == "text":  # several samples a row
        rows = [{"text": f"the dog sleeps {number} " * 5} for number in range(60)]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    store = load_samples(CacheRequest(data, Path(tokenizer_folder), EncodeSettings(16), {}), tokenizer)
    _, held_out = split_rows(store.columns["keys"], fraction)
    lines = data.read_bytes().splitlines(keepends=True)
    expected = [lines[line - 1] for line in dict.fromkeys(store.columns["lines"][held_out].tolist())]
    done = split_file(data, tmp_path / "out", fraction=fraction)
    assert sides(done)[1] == expected and expected


def test_no_row_is_lost_and_no_prompt_stands_on_both_sides(tmp_path: Path) -> None:
    data = write(tmp_path / "a.b.jsonl")
    done = split_file(data, tmp_path / "out", fraction=0.3)
    assert {Path(done["train"]).name, Path(done["val"]).name} == {"a.b.train.jsonl", "a.b.val.jsonl"}
    train, val = sides(done)
    lines = [line for line in data.read_bytes().splitlines(keepends=True) if b"broken" not in line]
    assert sorted(train + val) == sorted(lines) and done["rows"] == 120
    assert [line for line in lines if line in set(val)] == val  # in the file's order
    prompts = [{json.loads(line)["messages"][0]["content"] for line in side} for side in (train, val)]
    assert not prompts[0] & prompts[1] and done["prompts_on_both_sides"] == 0
    assert [entry["line"] for entry in done["quarantined"]] == [8]
    assert 0.15 < done["val_rows"] / done["rows"] < 0.45


def test_by_row_and_seed(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl")

    def held_out(seed: int, by: Literal["prompt", "row"]) -> tuple[list[bytes], int]:
        done = split_file(data, tmp_path, fraction=0.3, seed=seed, by=by, overwrite=True)
        return sides(done)[1], done["prompts_on_both_sides"]

    found = {(seed, by): held_out(seed, by) for seed in (0, 1) for by in ("prompt", "row")}
    assert held_out(1, "prompt") == found[1, "prompt"]
    assert len({b"".join(val) for val, _ in found.values()}) == 4
    assert all(bool(crossing) == (by == "row") for (_, by), (_, crossing) in found.items())


def test_what_cannot_be_split(tmp_path: Path) -> None:
    data = tmp_path / "a.jsonl"
    data.write_bytes(talk("one", "a") + talk("one", "b"))
    with pytest.raises(DataError, match=r"one side .* empty: 2 rows") as error:
        split_file(data, tmp_path, fraction=0.5)
    assert "--by row" in error.value.hint and list(tmp_path.iterdir()) == [data]
    assert split_file(data, tmp_path, fraction=1e-6, by="row")["val_rows"] == 1
    with pytest.raises(UserError, match="exists"):
        split_file(data, tmp_path, by="row")
    with pytest.raises(UserError, match="fraction"):
        split_file(data, tmp_path, fraction=1.0)


def test_other_formats_become_json_lines(tmp_path: Path) -> None:
    data = tmp_path / "a.csv"
    data.write_text("body,n\n" + "".join(f'"text {number}",{number}\n' for number in range(20)))
    done = split_file(data, tmp_path, fraction=0.4, mapping={"text": "body"})
    train, val = sides(done)
    rows = sorted((json.loads(line) for line in train + val), key=lambda row: int(row["n"]))
    assert rows == [{"body": f"text {number}", "n": str(number)} for number in range(20)]


def test_large_files_take_little_memory(tmp_path: Path) -> None:
    data = tmp_path / "a.jsonl"
    with data.open("wb") as file:
        for number in range(4000):
            file.write(talk(f"question {number}", "word " * 800))
    assert data.stat().st_size > 15 << 20
    tracemalloc.start()
    split_file(data, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 << 20
