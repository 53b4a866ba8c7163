"""engine data split, mix, convert, and what audit says of pairs."""

import json
import subprocess
import sys

import pytest

from engine.cli import main


@pytest.fixture
def engine(monkeypatch, capsys):
    """Runs `engine data …` in this process; returns its JSON, or standard output and standard error."""

    def run(*arguments, code=0):
        monkeypatch.setattr(sys, "argv", ["engine", "data", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        out, err = capsys.readouterr()
        assert status == code, f"exit {status}, not {code}\n{out}\n{err}"
        return json.loads(out) if "--json" in arguments and not code else (out, err)

    return run


@pytest.fixture
def talks(tmp_path):
    path = tmp_path / "talks.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": f"q{number}"}, {"role": "assistant", "content": f"a{number}"}]}
        for number in range(40)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken \x1b[2J\n", encoding="utf-8")
    return path


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"q{number}", "chosen": f"yes {number}", "rejected": f"no way {number}"} for number in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_split(engine, talks, tmp_path):
    done = engine("split", talks, "--out", tmp_path / "parts", "--fraction", 0.25, "--json")
    assert (
        done["rows"] == 40
        and done["train_rows"] + done["val_rows"] == 40
        and [*done["quarantined"][0]] == ["line", "reason"]
    )
    out, err = engine("split", talks, "--out", tmp_path / "parts", code=2)
    assert not out and "the file exists" in err
    out, err = engine("split", talks, "--out", tmp_path / "parts", "--by", "row", "--seed", 3, "--overwrite")
    assert "talks.val.jsonl" in out and "talks.jsonl: 1 lines cannot be used" in err and "line 41: broken JSON" in err
    assert len((tmp_path / "parts" / "talks.val.jsonl").read_text().splitlines()) > 0
    engine("split", talks, "--out", tmp_path, "--fraction", 1, code=2)
    engine("split", tmp_path / "none.jsonl", "--out", tmp_path, code=2)


def test_mix(engine, talks, pairs, tmp_path):
    few = tmp_path / "few=2.jsonl"  # an equals sign in its own name
    few.write_text("".join(talks.read_text().splitlines(keepends=True)[:4]))
    done = engine("mix", tmp_path / "out.jsonl", f"{talks}=3", f"{few}=1", "--rows", 40, "--json")
    assert [(file["taken"], file["repeated"]) for file in done["files"]] == [(30, 0), (10, 6)]
    out, err = engine("mix", tmp_path / "out.jsonl", talks, few, "--overwrite")
    assert "44 rows (conversation)" in out and "line 41" in err
    out, err = engine(
        "mix", tmp_path / "out.jsonl", f"{talks}=.75", f"{few}=.25", "--no-repeat", "--rows", 40, "--overwrite"
    )
    assert "16 rows (conversation)" in out and "16 rows rather than 40" in err
    for weight in ("0", "-1", "nan", "inf", "much"):
        _, err = engine("mix", tmp_path / "no.jsonl", f"{talks}={weight}", code=2)
        assert "no positive number" in err
    _, err = engine("mix", tmp_path / "no.jsonl", talks, pairs, code=2)
    assert "talks.jsonl: conversation, pairs.jsonl: pair" in err
    assert not (tmp_path / "no.jsonl").exists()


def test_convert(engine, talks, pairs, tmp_path):
    out, err = engine("convert", talks, tmp_path / "out.jsonl", "--to", "prompts")
    assert "40 of 41 rows as prompts" in out and "line 41" in err
    assert json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])["answer"] == "a0"
    done = engine("convert", pairs, tmp_path / "sft.jsonl", "--to", "sft", "--json")
    assert done["written"] == 40 and done["lost"] == {"rejected side": 40}
    _, err = engine("convert", pairs, tmp_path / "no.jsonl", "--to", "alpaca", code=2)
    assert "a pair has no alpaca layout" in err and not (tmp_path / "no.jsonl").exists()
    engine("convert", talks, tmp_path / "no.jsonl", "--to", "nothing", code=2)


def test_many_bad_lines_are_counted_and_the_first_named(engine, talks, tmp_path):
    with talks.open("a") as file:
        file.write("[1, 2]\n" * 100)
    _, err = engine("convert", talks, tmp_path / "out.jsonl", "--to", "sharegpt")
    assert "101 lines cannot be used" in err and "and 81 more" in err and err.count("line ") == 20
    assert len(engine("convert", talks, tmp_path / "again.jsonl", "--to", "sharegpt", "--json")["quarantined"]) == 101


def test_audit_of_pairs_tells_shortcuts(engine, pairs, talks, tokenizer_folder):
    found = engine("audit", pairs, "--tokenizer", tokenizer_folder, "--json")["shortcuts"]
    assert found["pairs"] == 40 and found["length_accuracy"] == 1.0
    assert found["word_accuracy"] == found["first_word_accuracy"] == found["bag_accuracy"] == 1.0
    out, _ = engine("audit", pairs, "--tokenizer", tokenizer_folder)
    assert "length: taking the side that is shorter in characters tells 100.0%" in out and "a shortcut" in out
    assert "shortcuts" not in engine("audit", talks, "--tokenizer", tokenizer_folder, "--json")


def test_the_verbs_load_no_torch(talks, tmp_path):
    arguments = ["engine", "data", "mix", str(tmp_path / "out.jsonl"), str(talks)]
    code = f"import sys\nfrom engine.cli import main\nsys.argv = {arguments}\nmain()\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
