"""engine profile: what concerns runs as well."""

import json
import sys

import pytest

from engine.cli import main
from engine.runs.folder import create_run
from engine.settings.profile import load_profile, parse_assignments, resolve


@pytest.fixture
def diff(monkeypatch, capsys):
    """Runs `engine profile diff … --json`; returns what differs, or what standard error says."""

    def run(*arguments, code=0):
        monkeypatch.setattr(sys, "argv", ["engine", "profile", "diff", *map(str, arguments), "--json"])
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        out, err = capsys.readouterr()
        assert status == code, err
        return err if code else json.loads(out)

    return run


def test_a_run_is_compared_with_a_profile(diff):
    profile = load_profile("cpu/sft")
    settings = resolve(profile, parse_assignments(("batch_size=2",), profile.stage))
    run = create_run("cpu-sft")
    run.resolved.write_text(json.dumps({"profile": "cpu/sft", **settings.to_json()}), encoding="utf-8")
    assert diff("cpu/sft", "cpu-sft") == {"batch_size": {"one": 4, "other": 2}}
    assert diff(run.path, "cpu/sft") == {"batch_size": {"one": 2, "other": 4}}
    assert diff("cpu-sft", run.path) == {}


def test_what_is_neither_a_profile_nor_a_run_is_named(diff):
    assert "no profile 'cpu/sftt'" in (said := diff("cpu/sft", "cpu/sftt", code=2)) and "cpu/sft" in said
    run = create_run("old")
    run.resolved.write_text('{"stage": "sft", "settings": {}}')
    assert "another version" in diff("old", "cpu/sft", code=2)
