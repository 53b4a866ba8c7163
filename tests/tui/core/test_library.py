import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.runs.folder import RunFolder
from engine.runs.summary import summarise
from engine.settings.registry import STAGES
from minimind_tui.core.library import Library, ladder, next_stage
from tests.tui.made import make_run


def test_the_run_that_spoke_last_stands_first(home: Path) -> None:
    make_run("one", at=1e9)
    make_run("two", at=1e9 + 500)
    make_run("three", at=1e9 + 200)
    assert [summary.name for summary in Library().runs()] == ["two", "three", "one"]


def test_what_has_not_changed_is_not_read_again(home: Path) -> None:
    done, cut = make_run("done"), make_run("cut", status="")
    library = Library()
    before = {summary.name: summary for summary in library.runs()}
    for run in (done, cut):
        stat = run.events.stat()
        run.events.write_bytes(b" " * (stat.st_size - 1) + b"\n")
        os.utime(run.events, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert {summary.name: summary for summary in library.runs()} == before
    with cut.lock():
        assert {summary.name: summary.state for summary in library.runs()} == {"done": "done", "cut": "running"}
    os.utime(cut.events)
    assert summarise(cut).step == 0, "it really says nothing any more"


def test_a_run_that_goes_on_is_read_from_where_it_was(home: Path) -> None:
    run, longer = make_run("one", steps=10, status=""), make_run("longer", steps=30, status="")
    library = Library()
    library.runs()
    run.events.write_bytes(longer.events.read_bytes())
    found = {summary.name: summary for summary in library.runs()}
    assert (found["one"].step, found["one"].best) == (30, 1.0)


def test_a_damaged_run_is_left_out(home: Path) -> None:
    make_run("one")
    make_run("two").resolved.write_text("{")
    assert [summary.name for summary in Library().runs()] == ["one"]


def test_sizes_are_measured_once_for_each_checkpoint(home: Path) -> None:
    run = make_run("one", steps=10)
    library = Library()
    before = library.sizes(library.runs())[run]
    assert before > 3000
    (run.path / "more").write_bytes(bytes(500))
    assert library.sizes(library.runs())[run] == before
    run.checkpoint(20).mkdir()
    os.utime(run.events)
    assert library.sizes(library.runs())[run] == before + 500
    assert library.sizes([]) == {}


def test_two_threads_that_ask_measure_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run("one")
    library, measured = Library(), list[RunFolder]()

    def measure(run: RunFolder) -> int:
        measured.append(run)
        time.sleep(0.2)
        return 7

    monkeypatch.setattr("minimind_tui.core.library.disk_use", measure)
    runs = library.runs()
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(library.sizes, [runs, runs])) == [{run: 7}] * 2
    assert measured == [run]


def test_the_ladder_says_what_comes_next(home: Path) -> None:
    library = Library()
    make_run("one", stage="tokenizer")
    advice = {rung.stage.name: rung.advice for rung in ladder(library.runs())}
    assert (advice["tokenizer"], advice["pretrain"]) == ("", "next")
    assert (advice["sft"], advice["reason"], advice["spo"]) == ("after pretrain", "after sft", "after sft")
    make_run("two", stage="pretrain")
    rungs = {rung.stage.name: rung for rung in ladder(library.runs())}
    assert rungs["sft"].advice == "next"
    assert rungs["mid-train"].advice == "possible"
    assert rungs["pretrain"].newest is not None and rungs["pretrain"].newest.name == "two"


def test_the_ladder_is_climbed_rung_by_rung() -> None:
    done, climbed = set[str](), list[str]()
    while (stage := next_stage(done)) is not None:
        climbed.append(stage.name)
        done.add(stage.name)
    optional = ["mid-train"]  # fine-tuning can do without
    assert [*climbed[:2], *optional, *climbed[2:]] == [*STAGES]


def test_next_stage_comes_to_an_end() -> None:
    assert next_stage(STAGES) is None
