"""Several models asked the same questions."""

from pathlib import Path

import pytest

from engine.errors import CheckpointError, DataError
from engine.evaluation.asking import ask
from engine.evaluation.side_by_side import listed_questions, questions_of, side_by_side
from engine.generation.chat import ChatPartner
from engine.text.tokenizer import Tokenizer
from engine.text.tokenizer_training import train_tokenizer
from tests.evaluation.helpers import pair, save_model, without_template, write_rows


@pytest.fixture(scope="module")
def models(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two models with different tokenizers."""
    other = train_tokenizer(["user assistant who? the fox and the dog"] * 4, 300)
    return {
        "one": save_model(tmp_path_factory.mktemp("one"), tokenizer, 1),
        "two": save_model(tmp_path_factory.mktemp("two"), other, 2),
    }


def test_answers_stand_beside_each_other(models: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"question": f"{who}?", "answer": "never said"} for who in ("who", "fox", "dog")]
    questions = questions_of(write_rows(tmp_path / "rows.jsonl", rows), 2)
    told: list[tuple[str, float]] = []
    found = side_by_side(models, questions, max_new_tokens=3, progress=lambda *each: told.append(each))
    assert told == [("one", 1), ("two", 1)]
    assert [(row["row"], row["prompt"], row["expected"]) for row in found["questions"]] == [
        (0, "who?", "never said"), (1, "fox?", "never said"),
    ]  # fmt: skip
    for name, folder in models.items():
        alone = ask(ChatPartner(folder), questions, max_new_tokens=3, answers=True)
        for row, answer in zip(found["questions"], alone["answers"], strict=True):
            assert row["answers"][name] == {key: answer[key] for key in ("said", "right", "passed", "stop_reason")}
        figures = found["models"][name]
        assert figures["folder"] == str(folder) and figures["mean_tokens"] == alone["mean_tokens"]
    assert found["questions"][0]["answers"]["one"]["said"] != found["questions"][0]["answers"]["two"]["said"]


def test_a_list_of_mere_questions_has_no_right_answers(models: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text("who?\n\n  where is the fox?\n", encoding="utf-8")
    questions = listed_questions(path)
    assert [(each.row, each.messages[-1].content) for each in questions] == [(0, "who?"), (2, "where is the fox?")]
    found = side_by_side(models, questions, max_new_tokens=2)
    assert found["models"]["one"]["exact_match"] is None
    assert {answer["passed"] for row in found["questions"] for answer in row["answers"].values()} == {None}


def test_files_without_questions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no row is a question"):
        questions_of(write_rows(tmp_path / "pairs.jsonl", [pair("who?", "fox", "dog")]))
    empty, binary = tmp_path / "empty.txt", tmp_path / "binary.txt"
    empty.write_text("\n \n")
    binary.write_bytes(b"\xff\xfe\x00")
    for path, why in ((empty, "holds no question"), (binary, "cannot be read"), (tmp_path / "none", "cannot be read")):
        with pytest.raises(DataError, match=why):
            listed_questions(path)


def test_a_model_that_cannot_be_asked_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    bare = without_template(save_model(tmp_path / "bare", tokenizer))
    path = write_rows(tmp_path / "rows.jsonl", [{"question": "who?", "answer": "fox"}])
    with pytest.raises(CheckpointError, match="no chat template"):
        side_by_side({"bare": bare}, questions_of(path))
