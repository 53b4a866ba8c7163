"""Whole files in another layout or for another stage."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.errors import DataError, UserError
from engine.text.converting import TARGETS, convert_file
from engine.text.records import Record, open_records
from engine.text.starter import write_starter


def write(path: Path, *rows: dict[str, Any] | bytes) -> Path:
    path.write_bytes(b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows))
    return path


def talk(*contents: str, **more: Any) -> dict[str, Any]:
    roles = ("user", "assistant") * len(contents)
    return {"conversations": [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)], **more}


def read(path: Path) -> list[Record]:
    return [replace(record, format="") for record in open_records(path).records()]


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("starter")
    write_starter(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("sft.jsonl", "openai"), ("sft.jsonl", "sharegpt"), ("sft.jsonl", "alpaca"),
        ("reason.jsonl", "prompt-completion"), ("rlaif.jsonl", "openai"), ("rlaif.jsonl", "sharegpt"),
        ("rlaif.jsonl", "prompt-completion"),
    ],
)  # fmt: skip
def test_there_and_back(starter: Path, tmp_path: Path, name: str, to: str) -> None:
    there, back = tmp_path / "there.jsonl", tmp_path / "back.jsonl"
    done = convert_file(starter / name, there, to)
    convert_file(there, back, "minimind")
    original = read(starter / name)
    assert done["written"] == done["rows"] == len(original) and not done["lost"]
    assert read(there) == read(back) == original
    assert [json.loads(line) for line in back.open()] == [json.loads(line) for line in (starter / name).open()]


def test_bad_lines_are_listed_with_their_reasons(tmp_path: Path) -> None:
    odd = {"conversations": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "name": "x"}]}
    data = write(tmp_path / "a.jsonl", talk("q", "a"), b"{broken", odd, talk("only asked"), talk("q", "b"))
    done = convert_file(data, tmp_path / "out.jsonl", "alpaca")
    assert (done["rows"], done["written"]) == (5, 2)
    assert [entry["line"] for entry in done["quarantined"]] == [2]
    assert [(entry["line"], entry["reason"][:22]) for entry in done["refused"]] == [
        (3, "alpaca has no place fo"), (4, "alpaca takes only a us")
    ]  # fmt: skip
    assert [record.messages[-1].content for record in read(tmp_path / "out.jsonl")] == ["a", "b"]


def test_nothing_is_written_where_no_row_fits(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", {"text": "x"})
    with pytest.raises(DataError, match="no row can be written as sft: running text has no turns") as error:
        convert_file(data, tmp_path / "out.jsonl", "sft")
    assert error.value.where == f"{data}:1" and list(tmp_path.iterdir()) == [data]


def test_other_columns_are_found_by_a_mapping(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", {"q": "why?", "a": "so", "id": 5})
    mapping = {"question": "q", "answer": "a"}
    convert_file(data, tmp_path / "out.jsonl", "minimind", mapping=mapping)
    assert json.loads((tmp_path / "out.jsonl").read_text()) == {"id": 5, "answer": "so", **talk("why?", "so")}


def test_the_file_itself_is_never_written(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", talk("q", "a"))
    with pytest.raises(UserError, match="file that is read"):
        convert_file(data, data, "openai", overwrite=True)
    assert json.loads(data.read_text()) == talk("q", "a")


def test_talk_becomes_text(tmp_path: Path) -> None:
    thought = talk("q", "a")
    thought["conversations"][1]["reasoning_content"] = "hm"
    data = write(tmp_path / "a.jsonl", talk("q", "a", "r", "b", answer="b"), thought, {"text": "stays"})
    done = convert_file(data, tmp_path / "out.jsonl", "text")
    assert [record.text for record in read(tmp_path / "out.jsonl")] == ["q\n\na\n\nr\n\nb", "q\n\na", "stays"]
    assert done["lost"] == {"roles": 2, "answer": 1, "reasoning": 1}


def test_pairs_become_sft_and_prompts(tmp_path: Path) -> None:
    sides = {"chosen": talk("q", "yes")["conversations"], "rejected": talk("q", "no")["conversations"], "n": 1}
    data = write(tmp_path / "a.jsonl", sides)
    done = convert_file(data, tmp_path / "sft.jsonl", "sft")
    assert json.loads((tmp_path / "sft.jsonl").read_text()) == talk("q", "yes", n=1)
    assert done["lost"] == {"rejected side": 1}
    convert_file(data, tmp_path / "prompts.jsonl", "prompts")
    assert json.loads((tmp_path / "prompts.jsonl").read_text()) == talk("q", "", answer="yes", n=1)


def test_replies_become_answers(tmp_path: Path) -> None:
    framed = "<think>\n1+1\n</think>\n<answer>\n2\n</answer>"
    data = write(
        tmp_path / "a.jsonl",
        talk("q", "two"), talk("q", framed), talk("q", "long story", answer="2", check="number"),
        talk("q", "", answer="3"), talk("q", "a", "again?"), talk("q", "<think>\nhm"),
        talk("q", "<think>x</think> 4"), {"text": "x"},
    )  # fmt: skip
    done = convert_file(data, tmp_path / "out.jsonl", "prompts")
    found = read(tmp_path / "out.jsonl")
    assert [record.answer for record in found] == ["two", "2", "2", "3", None, "4"]
    assert {record.shape for record in found} == {"prompt"} and found[2].check == "number"
    assert [len(record.messages) for record in found] == [1, 1, 1, 1, 3, 1]
    assert [entry["line"] for entry in done["refused"]] == [6, 8]
    assert done["lost"] == {"what the reply says beyond its answer": 3}


def test_every_target_converts_something(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", talk("q", "a"))
    for target in TARGETS:
        assert convert_file(data, tmp_path / f"{target}.jsonl", target)["written"] == 1
