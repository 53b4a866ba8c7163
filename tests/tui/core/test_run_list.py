from pathlib import Path

import pytest

from engine.runs.summary import RunSummary, summarise
from minimind_tui.core.run_list import COLUMNS, Filter, Order, age, best_text, best_value, choices, steps_text
from tests.tui.made import make_run


@pytest.fixture
def runs(home: Path) -> list[RunSummary]:
    return [
        summarise(run)
        for run in (
            make_run("beta", stage="sft", losses=[0.5, 0.7], at=1e9 + 300),
            make_run("Alpha", stage="pretrain", status="stopped", total=1500, at=1e9 + 100),
            make_run("gamma", stage="sft", status="failed", losses=[0.9, 0.8], at=1e9 + 200),
        )
    ]


def _sorted(runs: list[RunSummary], order: Order) -> list[str]:
    sizes = {run.run: 100 * place for place, run in enumerate(runs)}
    return [run.name for run in order.sort(runs, sizes)]


def test_every_column_sorts_both_ways(runs: list[RunSummary]) -> None:
    assert _sorted(runs, Order()) == ["beta", "gamma", "Alpha"], "the newest first"
    assert _sorted(runs, Order("name")) == ["Alpha", "beta", "gamma"]
    assert _sorted(runs, Order("best")) == ["beta", "gamma", "Alpha"], "the lowest loss first"
    assert _sorted(runs, Order("state")) == ["gamma", "Alpha", "beta"], "what wants attention first"
    assert _sorted(runs, Order("size")) == ["gamma", "Alpha", "beta"]
    for name in COLUMNS:
        assert sorted(_sorted(runs, Order(name, True))) == sorted(_sorted(runs, Order(name)))
    assert _sorted(runs, Order("name").clicked("name")) == ["gamma", "beta", "Alpha"]
    assert Order("name").clicked("when") == Order("when") and Order("profile").following() == Order("name")


def test_filters(runs: list[RunSummary]) -> None:
    def shown(filter: Filter) -> list[str]:
        return [run.name for run in runs if filter.fits(run)]

    assert shown(Filter("ALPHA")) == ["Alpha"] and shown(Filter("sft talk fail")) == ["gamma"]
    assert shown(Filter(state="done")) == ["beta"] and shown(Filter("a", stage="sft")) == ["beta", "gamma"]
    assert not Filter("  ") and str(Filter("x ", "done", "sft")) == "done sft “x”"
    assert choices(runs) == [
        ("state", "failed", 1), ("state", "stopped", 1), ("state", "done", 1), ("stage", "sft", 2),
        ("stage", "pretrain", 1),
    ]  # fmt: skip


def test_words(runs: list[RunSummary]) -> None:
    assert [age(0, seconds) for seconds in (-5, 59, 60, 3599, 7200, 86400 * 6, 86400 * 20, 86400 * 800)] == [
        "now", "now", "1m", "59m", "2h", "6d", "2w", "2y"]  # fmt: skip
    assert (best_text(runs[0]), best_value(runs[0]), steps_text(runs[1])) == ("0.5 val loss", "0.5", "20/1,500")


def test_a_run_without_numbers_has_a_dash(home: Path) -> None:
    empty = summarise(make_run("none", steps=0, status=""))
    assert (best_text(empty), best_value(empty), steps_text(empty)) == ("–", "–", "0")
