import shutil
from pathlib import Path

import pytest

from engine.errors import CheckpointError
from engine.runs.events import Evaluated, Finished
from engine.runs.history import EventWriter
from minimind_tui.core.compare import Comparison, Row
from tests.tui.made import make_run


def _row(rows: list[Row], name: str) -> Row:
    return next(row for row in rows if row.name == name)


def test_numbers_and_which_is_better(home: Path) -> None:
    one = make_run("one", losses=[0.5, 0.9])
    two = make_run("two", losses=[0.6, 0.7], steps=30)
    comparison = Comparison([one, two])
    assert comparison.names() == [("A", "one"), ("B", "two")]
    rows = comparison.numbers()
    best, last = _row(rows, "best val loss"), _row(rows, "last val loss")
    assert [cell.text for cell in best.cells] == ["0.5", "0.6"] and [cell.best for cell in best.cells] == [True, False]
    assert [cell.text for cell in last.cells] == ["0.9", "1"], "the third validation is 30 / 30"
    assert [cell.best for cell in last.cells] == [True, False]
    assert [cell.best for cell in _row(rows, "best speed").cells] == [False, True], "the higher speed is better"
    same = _row(rows, "last learning rate")
    assert {cell.text for cell in same.cells} == {"1e-3"} and not any(cell.best for cell in same.cells)
    assert [cell.text for cell in _row(rows, "step").cells] == ["20/20", "30/30"]
    assert [cell.text for cell in _row(rows, "time worked").cells] == ["20s", "30s"]


def test_what_is_better_is_what_one_can_see(home: Path) -> None:
    runs = [make_run(name, losses=[loss]) for name, loss in (("a", 0.123451), ("b", 0.123452), ("c", 0.2))]
    comparison = Comparison(runs)
    assert [cell.best for cell in _row(comparison.numbers(), "best val loss").cells] == [True, True, False]
    equal = Comparison(runs[:2])
    assert not any(cell.best for cell in _row(equal.numbers(), "best val loss").cells)


def test_settings_that_differ_with_their_origins(home: Path) -> None:
    one = make_run("one", settings={"learning_rate": (1e-3, "profile p"), "max_steps": (20, "default")})
    two = make_run("two", settings={"learning_rate": (5e-4, "user"), "max_steps": (20, "user")})
    three = make_run("three", stage="pretrain", settings={"from": (str(one.checkpoint(20)), "user")})
    (row,) = Comparison([one, two]).settings()
    assert row.name == "learning_rate", "the same value from elsewhere is no difference"
    assert [(cell.text, cell.origin) for cell in row.cells] == [("0.001", "profile p"), ("0.0005", "user")]
    rows = Comparison([one, three]).settings()
    assert [row.name for row in rows] == ["stage", "profile", "learning_rate", "max_steps", "from"]
    start = _row(rows, "from")
    assert [cell.text for cell in start.cells] == ["–", "one@20"] and str(start.cells[1]) == str(one.checkpoint(20))


def test_samples_by_prompt(home: Path) -> None:
    one, two = make_run("one", answer="It is blue."), make_run("two", answer="Green.")
    tokenizer = make_run("t", stage="tokenizer", steps=0)
    (answers,) = Comparison([one, two, tokenizer]).answers()
    assert [sample and (sample.step, sample.text) for sample in answers.samples] == [
        (20, "It is blue."), (20, "Green."), None]  # fmt: skip


def test_metrics_of_any_run_the_leading_ones_first(home: Path) -> None:
    comparison = Comparison([make_run("one"), make_run("t", stage="tokenizer", steps=0)])
    assert [metric.name for metric in comparison.metrics()] == [
        "val_loss", "loss", "tokens_per_second", "learning_rate"]  # fmt: skip
    curves = comparison.curves(comparison.metrics()[0])
    assert curves[0] is not None and len(curves[0]) == 2 and curves[1] is None


def test_a_stage_without_steps_is_compared_by_its_end(home: Path) -> None:
    runs = []
    for name, value in (("one", 3.0), ("two", 3.5)):
        run = make_run(name, stage="tokenizer", steps=0, status="")
        EventWriter(run)(Finished(status="done", step=1, summary={"characters_per_token": value}))
        runs.append(run)
    row = _row(Comparison(runs).numbers(), "characters a token")
    assert [(cell.text, cell.best) for cell in row.cells] == [("3", False), ("3.5", True)]


def test_runs_that_go_on_are_followed(home: Path) -> None:
    one, two = make_run("one"), make_run("two", status="")
    comparison = Comparison([one, two])
    assert not comparison.feed(comparison.poll())
    assert [cell.text for cell in _row(comparison.numbers(), "time worked").cells] == ["20s", "20s"]
    with two.lock():
        EventWriter(two)(Evaluated(step=21, metrics={"val_loss": 0.01}))
        assert comparison.feed(comparison.poll()) and comparison.going_on
    assert [cell.text for cell in _row(comparison.numbers(), "best val loss").cells] == ["1.5", "0.01"]


@pytest.mark.parametrize(("status", "going_on"), [("done", False), ("stopped", True), ("failed", True), ("", True)])
def test_what_may_be_resumed_may_go_on(home: Path, status: str, going_on: bool) -> None:
    assert Comparison([make_run("one"), make_run("two", status=status)]).going_on == going_on


def test_a_deleted_run_stays_and_the_others_are_followed(home: Path) -> None:
    one, two = make_run("one", status=""), make_run("two", status="")
    comparison = Comparison([one, two])
    shutil.rmtree(one.path)
    EventWriter(two)(Evaluated(step=21, metrics={"val_loss": 0.01}))
    assert comparison.feed(comparison.poll())
    rows = comparison.numbers()
    assert [cell.text for cell in _row(rows, "best val loss").cells] == ["1.5", "0.01"]
    assert _row(rows, "step").cells[0].text == "20/20"


def test_a_run_that_cannot_be_read_is_refused(home: Path) -> None:
    one, two = make_run("one"), make_run("two")
    two.resolved.write_text("{")
    with pytest.raises(CheckpointError):
        Comparison([one, two])
