"""`engine bench ladder` as it is called."""

import json
import sys

import pytest

from engine.cli import main


@pytest.fixture
def bench_ladder(ladder, monkeypatch, capsys):
    """Runs it on the tiny ladder; returns its exit code and what it prints."""
    monkeypatch.setattr("engine.ladder.rungs.LADDER", ladder)

    def run(*options):
        monkeypatch.setattr(sys, "argv", ["engine", "bench", "ladder", *options])
        try:
            main()
        except SystemExit as end:
            return end.code, *capsys.readouterr()
        return 0, *capsys.readouterr()

    return run


def test_from_the_first_rung_to_the_summary(bench_ladder):
    assert bench_ladder("--summary")[0] == 2
    code, out, err = bench_ladder("--stages", "sft", "--seed", "1")
    assert code == 0 and "| sft |" in out and "Seed 1:" in out
    assert "ladder-1-sft: measured on" in err
    code, out, _ = bench_ladder("--json")
    found = json.loads(out)
    assert code == 1  # a rung of this ladder fails
    assert [failure["rung"] for failure in found["failures"]] == ["broken"]
    assert {row["rung"] for row in found["rows"]} == {"pretrain", "sft", "lora"}
    code, out, err = bench_ladder("--summary")
    assert code == 1 and "Seed 0:" in out and "Seed 1:" in out and "2 of 2" in out
    assert "training" not in err


def test_an_unknown_rung_is_refused(bench_ladder):
    code, _, err = bench_ladder("--stages", "pretrain,loar")
    assert code == 2 and "loar" in err and "lora" in err
