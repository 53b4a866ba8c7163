"""`engine data curate …`, as scripts and people use it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.cli import main
from engine.model.families import load_pretrained
from engine.model.heads import ScalarModel, save_scalar_model
from engine.rewards.scorer import load_scorer
from engine.text.tokenizer import Tokenizer
from tests.curation.taught import ENDLESS, KNOWS, prompts, rows_of, teach
from tests.evaluation.helpers import write_rows

Engine = Callable[..., Any]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Engine:
    """Runs `engine data curate …` in this process; returns its JSON, or standard output and standard error."""

    def run(*arguments: object, code: int = 0) -> Any:
        monkeypatch.setattr(sys, "argv", ["engine", "data", "curate", *map(str, arguments)])
        try:
            main()
            status: object = 0
        except SystemExit as end:
            status = end.code or 0
        out, err = capsys.readouterr()
        assert status == code, f"exit {status}, not {code}\n{out}\n{err}"
        return json.loads(out) if "--json" in arguments and not code else (out, err)

    return run


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teach(tmp_path_factory.mktemp("taught") / "model", tokenizer)


@pytest.fixture
def asked(tmp_path: Path, model: Path) -> tuple[object, ...]:
    """A file with a bad line, a model and a new file."""
    data = prompts(tmp_path / "in.jsonl", [*KNOWS, "say 1", "say 2", ENDLESS])
    with data.open("a") as file:
        file.write("{broken \x1b[2J\n")
    return data, "--model", model, "--out", tmp_path / "out.jsonl", "--max-new-tokens", 12


_ASKING = {
    "file", "out", "model", "rows", "asked", "answers", "truncated", "kept", "dropped", "mean_reward",
    "mean_reward_kept", "pass_at_1", "lost", "quarantined",
}  # fmt: skip
_JUDGED = {"pass_at_8", "failures", "fallbacks"}


def test_best(engine: Engine, asked: tuple[object, ...], model: Path, tmp_path: Path) -> None:
    found = engine("best", *asked, "--json")
    assert set(found) == _ASKING | _JUDGED and found["model"] == str(model)
    assert (found["rows"], found["asked"], found["answers"]) == (8, 7, 56)
    rows = rows_of(tmp_path / "out.jsonl")
    assert found["kept"] == len(rows) and all(row.extra["source"] == str(model) for row in rows)
    assert [entry["line"] for entry in found["quarantined"]] == [8]
    settings = ("--set", "rewards={length=1.0,repetition=0.5}", "--set", "reward_length_max=4", "-k", 2)
    out, err = engine("best", *asked, *settings, "--min-reward", 0.1, "--batch-size", 3, "--overwrite", "--seed", 4)
    assert "mean_reward_kept" in out and "pass_at_2" in out and "rows in" in out and "dropped: " in out
    assert "1 lines cannot be used" in err and "line 8: broken JSON" in err and "\x1b" not in err


def test_a_reward_model_judges(engine: Engine, asked: tuple[object, ...], model: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    judge = ScalarModel(load_pretrained(model), torch.randn(1, 48))
    shutil.copytree(model, tmp_path / "judge")
    save_scalar_model(tmp_path / "judge", judge, pad_token_id=None, bos_token_id=None, eos_token_id=None)
    options = ("--set", "rewards={model=1.0}", "--set", f"reward_model={tmp_path / 'judge'}", "-k", 3)
    found = engine("best", *asked, *options, "--min-reward", -9, "--json")
    assert found["failures"] == {} and found["kept"] >= 6
    score = load_scorer(tmp_path / "judge", torch.device("cpu"))
    for row in rows_of(tmp_path / "out.jsonl"):
        (own,) = score([(row.messages[:-1], row.messages[-1].content)])
        assert row.extra["reward"] == pytest.approx(min(max(own, -3), 3), abs=1e-4)


def test_pairs_and_corrections_tell_shortcuts(engine: Engine, asked: tuple[object, ...], tmp_path: Path) -> None:
    words = tmp_path / "reward.py"
    words.write_text("def reward(prompt, answer, row):\n    return len(answer.split()) / 10\n")
    rewards = ("--set", "rewards={python=1.0}", "--set", f"reward_python={words}")
    found = engine("pairs", *asked, *rewards, "--min-gap", 0.1, "--json")
    assert set(found) == _ASKING | _JUDGED | {"shortcuts"}
    assert found["shortcuts"]["length_accuracy"] == 1.0 and found["shortcuts"]["pairs"] == found["kept"] > 1
    out, _ = engine("pairs", *asked, *rewards, "--overwrite")
    assert "length_accuracy" in out and "word_accuracy" in out and "taking the side that is longer" in out
    found = engine("corrections", *asked, "--overwrite", "--json")
    assert set(found) == _ASKING | {"shortcuts"} and found["dropped"]["the model is right"] >= 2
    assert all(row.shape == "pair" for row in rows_of(tmp_path / "out.jsonl"))
    out, _ = engine("corrections", *asked, "--overwrite", "--max-rows", 4)
    assert "length_accuracy" in out and "dropped: the model is right" in out
    assert f"2 rows in {tmp_path / 'out.jsonl'}" in out


def test_distil(engine: Engine, asked: tuple[object, ...], tmp_path: Path) -> None:
    found = engine("distil", *asked, "--json")
    assert set(found) == _ASKING and found["dropped"] == {"the answer is cut off": 1}
    assert [row.messages[-1].content for row in rows_of(tmp_path / "out.jsonl")][:4] == list(KNOWS.values())
    _, err = engine("distil", *asked, code=2)
    assert "the file exists" in err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("reward_lenght_max=4",), "did you mean 'reward_length_max'?"),
        (("learning_rate=4",), "'learning_rate' is no setting of the rewards"),
        (("rewards={words=1}",), "unknown reward 'words'"),
        (("rewards={model=1}",), "rewards has model, but reward_model is empty"),
        (("rewards={model=1}", "reward_model=nothing"), "no run"),
        (("rewards",), "has no '='"),
        (("rewards={python=1}", "reward_python=nothing.py"), "cannot read the file"),
    ],
)
def test_rewards_that_cannot_be_given(
    engine: Engine, asked: tuple[object, ...], tmp_path: Path, settings: tuple[str, ...], message: str
) -> None:
    options = [part for setting in settings for part in ("--set", setting)]
    assert message in engine("best", *asked, *options, code=2)[1]
    assert not (tmp_path / "out.jsonl").exists()


def test_what_is_missing_is_named(engine: Engine, asked: tuple[object, ...], tmp_path: Path) -> None:
    _, *options = asked
    assert "does not exist" in engine("best", tmp_path / "none.jsonl", *options, code=2)[1]
    assert "no run" in engine("distil", asked[0], "--model", "nothing", "--out", tmp_path / "o.jsonl", code=2)[1]
    assert "rows are written as JSON lines" in engine(
        "distil", asked[0], "--model", asked[2], "--out", tmp_path / "o.csv", code=2
    )[1]  # fmt: skip
    engine("pairs", *asked, "-k", 1, code=2)
    engine("pairs", *asked, "--min-gap", 0, code=2)


def test_filter(engine: Engine, model: Path, tmp_path: Path) -> None:
    rows = [
        {
            "conversations": [{"role": "user", "content": "who?"}, {"role": "assistant", "content": said}],
            "reward": worth,
        }
        for said, worth in (("the fox", 1), ("the fox", 1), ("狐狸", 1), ("the dog", 0), ("one " * 40, 1))
    ]
    data, out = write_rows(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    options = ("filter", data, "--out", out, "--overwrite")
    found = engine(
        *options, "--min-reward", 0.5, "--max-chars", 100, "--language", "en", "--no-duplicates", "--json"
    )  # fmt: skip
    assert set(found) == {"file", "out", "rows", "kept", "dropped", "mean_reward", "quarantined"}
    assert found["dropped"] == {
        "too many characters": 1, "another language": 1, "a duplicate": 1, "the reward is too low": 1
    }  # fmt: skip
    assert out.read_bytes() == data.read_bytes().splitlines(True)[0]
    judged = engine(
        *options, "--set", "rewards={repetition=1.0}", "--min-reward", -0.5, "--tokenizer", model, "--json"
    )  # fmt: skip
    assert judged["dropped"] == {"the reward is too low": 1} and judged["failures"] == judged["fallbacks"] == {}
    text, _ = engine(*options, "--max-tokens", 20, "--tokenizer", model, "--diversity", 0.3)
    assert "dropped: too many tokens" in text and "dropped: too similar to an earlier row" in text
    assert "3 rows in" in text
    assert "nothing to filter by" in engine(*options, code=2)[1]
    assert "add --min-reward" in engine(*options, "--set", "rewards={format=1.0}", code=2)[1]
    engine(*options, "--diversity", 1.5, code=2)


def test_a_filter_without_new_rewards_loads_no_torch(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "in.jsonl", [{"text": "one two"}])
    options = ["--diversity", "0.5", "--no-duplicates", "--language", "en", "--min-chars", "1"]
    arguments = ["engine", "data", "curate", "filter", str(data), "--out", str(tmp_path / "out.jsonl"), *options]
    code = f"import sys\nfrom engine.cli import main\nsys.argv = {arguments}\nmain()\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help(engine: Engine) -> None:
    out, _ = engine("--help")
    assert all(recipe in out for recipe in ("best", "pairs", "corrections", "distil", "filter"))
    out, _ = engine("best", "--help")
    assert "-k INTEGER" in out and "--min-reward" in out and "--set NAME=VALUE" in out
