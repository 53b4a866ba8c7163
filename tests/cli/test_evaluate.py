"""`engine eval`, `engine eval compare` and `engine eval harness`, as scripts and people use them."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from engine.text.tokenizer import Tokenizer
from tests.evaluation.helpers import pair, save_model, without_template, write_rows

Engine = Callable[..., tuple[str, str]]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Engine:
    """Runs `engine eval …` in this process; standard output and standard error."""

    def run(*arguments: object, code: int = 0) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["engine", "eval", *map(str, arguments)])
        try:
            main()
            status: object = 0
        except SystemExit as end:
            status = end.code or 0
        out, err = capsys.readouterr()
        assert status == code, f"exit {status}, not {code}\n{out}\n{err}"
        return out, err

    return run


@pytest.fixture(scope="module")
def models(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    return save_model(folder / "a", tokenizer, 1), save_model(folder / "b", tokenizer, 2)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    rows: list[dict[str, Any]] = [
        {"prompt": f"one plus {number}?", "answer": str(number + 1), "check": "number", "lang": "en"}
        for number in range(6)
    ]
    return write_rows(tmp_path / "prompts.jsonl", rows)


_FORM = {"format_rate", "repetition_rate", "distinct_1", "distinct_2", "truncated_rate", "mean_tokens"}
_ASKED = {"model", "data", "shape", "questions", "not_asked", "exact_match", "pass_at_1", "by", "wrong", *_FORM}


def test_prompts_tell_pass_at_k(engine: Engine, models: tuple[Path, Path], prompts: Path) -> None:
    options = (models[0], "--data", prompts, "--max-new-tokens", 4)
    plain = json.loads(engine(*options, "--json")[0])
    assert set(plain) == _ASKED
    assert set(plain["by"]["lang"]["en"]) == {"questions", "exact_match", "pass_at_1"}
    sampled = json.loads(engine(*options, "--samples", 6, "--json")[0])
    assert set(sampled) == _ASKED | {"pass_at_4", "samples", "temperature"}
    chosen = json.loads(engine(*options, "--samples", 6, "--k", "2,6", "--temperature", 0.5, "--json")[0])
    assert {key for key in chosen if key.startswith("pass_at")} == {"pass_at_1", "pass_at_2", "pass_at_6"}
    assert (chosen["samples"], chosen["temperature"]) == (6, 0.5)
    out, _ = engine(*options, "--samples", 2)
    assert "pass_at_1" in out and "lang=en" in out and "wrong: 'one plus 0?'" in out


def test_more_k_than_samples_is_refused_before_anything_is_loaded(engine: Engine, prompts: Path) -> None:
    for samples in ((), ("--samples", 4)):
        _, err = engine("nothing", "--data", prompts, *samples, "--k", "1,8", code=2)
        assert "cannot be estimated" in err
    _, err = engine("nothing", "--data", prompts, "--samples", 2, "--k", "1,x", code=2)
    assert "whole numbers" in err


def test_prompts_without_answers_cannot_be_measured(engine: Engine, models: tuple[Path, Path], tmp_path: Path) -> None:
    data = write_rows(tmp_path / "prompts.jsonl", [{"messages": [{"role": "user", "content": "who?"}]}])
    assert "cannot be measured" in engine(models[0], "--data", data, code=2)[1]
    assert "no row is a question with a known answer" in engine(models[0], "--data", data, "--samples", 2, code=2)[1]


def test_pairs_are_compared(engine: Engine, models: tuple[Path, Path], tokenizer: Tokenizer, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "pairs.jsonl", [pair("who?", "the fox", "the dog"), pair("who?", "dog", "one two")])
    one, two = models
    plain = json.loads(engine(one, "--data", data, "--json")[0])
    assert set(plain) == {"model", "data", "shape", "pairs", "not_scored", "pair_accuracy", "pair_accuracy_per_token"}
    found = json.loads(engine(one, "--data", data, "--reference", two, "--beta", 0.2, "--json")[0])
    assert set(found) - set(plain) == {"implicit_accuracy", "implicit_margin", "beta"} and found["beta"] == 0.2
    assert found["pair_accuracy"] == plain["pair_accuracy"]
    bare = without_template(save_model(tmp_path / "bare", tokenizer))
    assert "no chat template" in engine(bare, "--data", data, code=2)[1]


def test_two_models_are_compared(engine: Engine, models: tuple[Path, Path], prompts: Path, tmp_path: Path) -> None:
    file = tmp_path / "out" / "compared.json"
    options = ("compare", *models, "--data", prompts, "--max-new-tokens", 4, "--max-rows", 3)
    found = json.loads(engine(*options, "--out", file, "--json")[0])
    assert json.loads(file.read_text(encoding="utf-8")) == found
    names = [str(model) for model in models]
    assert list(found["models"]) == names and set(found) == {"data", "models", "questions"}
    assert _FORM | {"exact_match", "pass_at_1"} <= set(found["models"][names[0]])
    assert [row["expected"] for row in found["questions"]] == ["1", "2", "3"]
    assert all(list(row["answers"]) == names for row in found["questions"])
    out, _ = engine(*options)
    table, figures = out.split("\n\n")
    assert table.splitlines()[0].split() == ["question", "expected", *names] and len(table.splitlines()) == 4
    assert all("✗" in line or "✓" in line for line in table.splitlines()[1:])
    assert "exact_match" in figures and "mean_tokens" in figures


def test_questions_of_a_text_file_are_asked(engine: Engine, models: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text("who?\nwhere?\n")
    out, _ = engine("compare", *models, "--questions", path, "--max-new-tokens", 2)
    assert "who?" in out and "✗" not in out and "✓" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", "--data", "x"), "two or more different models"),
        (("a", "a", "--data", "x"), "two or more different models"),
        (("a", "b"), "--data or from --questions"),
        (("a", "b", "--data", "x", "--questions", "y"), "--data or from --questions"),
        (("nothing", "neither", "--data", "x"), "no run"),
    ],
)
def test_a_comparison_needs_models_and_questions(engine: Engine, arguments: tuple[str, ...], message: str) -> None:
    assert message in engine("compare", *arguments, code=2)[1]


def test_the_harness_is_an_extra(engine: Engine, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    _, err = engine("harness", models[0], "--tasks", "arc_easy, piqa", "--limit", 2, code=2)
    assert "minimind-tui[lm-eval]" in err


def test_a_model_may_be_called_as_a_verb(
    engine: Engine, models: tuple[Path, Path], prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(models[0], tmp_path / "compare")
    monkeypatch.chdir(tmp_path)
    found = json.loads(engine("./compare", "--data", prompts, "--max-new-tokens", 1, "--json")[0])
    assert found["questions"] == 6
    assert "two or more" in engine("compare", "--data", prompts, "compare", code=2)[1]


def test_options_may_stand_before_the_model(engine: Engine, models: tuple[Path, Path], prompts: Path) -> None:
    assert json.loads(engine("--data", prompts, "--max-new-tokens", 1, "--json", models[0])[0])["questions"] == 6


def test_help_names_the_options_and_the_other_verbs(engine: Engine) -> None:
    out, _ = engine("--help")
    assert "engine eval [OPTIONS] MODEL" in out and "--max-rows" in out
    assert "compare" in out and "harness" in out
    assert "engine eval compare" in engine("compare", "--help")[0]
