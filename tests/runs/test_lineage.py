import json

from engine.runs.folder import RunFolder, create_run
from engine.runs.lineage import ancestry, place_name, run_of, started_from
from engine.runs.summary import summarise


def _run(name: str, start: str = "") -> RunFolder:
    run = create_run(name)
    run.resolved.write_text(json.dumps({"stage": "sft", "settings": {"from": {"value": start, "origin": "user"}}}))
    return run


def test_from_a_run_to_its_first_ancestor() -> None:
    base = _run("base")
    middle = _run("middle", str(base.checkpoint(30)))
    assert ancestry(str(middle.checkpoint(7))) == ["middle@7", "base@30"]
    assert ancestry("") == []
    assert ancestry("/models/from-elsewhere") == ["/models/from-elsewhere"]
    assert ancestry(str(base.path.parent / "gone" / "checkpoints" / "step-00000001")) == ["gone@1"]


def test_a_circle_ends() -> None:
    run = _run("ring")
    run.resolved.write_text(json.dumps({"settings": {"from": {"value": str(run.checkpoint(1))}}}))
    assert set(ancestry(str(run.checkpoint(1)))) == {"ring@1"}


def test_what_was_started_from_a_run() -> None:
    base, like = _run("base"), _run("base-2")
    child, other = _run("child", str(base.checkpoint(30))), _run("other", str(like.checkpoint(30)))
    runs = [summarise(run) for run in (base, like, child, other)]
    assert [each.name for each in started_from(runs, base)] == ["child"]
    assert [each.name for each in started_from(runs, like)] == ["other"]


def test_names_of_places() -> None:
    base = _run("base")
    assert place_name(str(base.checkpoint(1200))) == "base@1200"
    assert place_name(str(base.tokenizer)) == "base" and run_of(str(base.tokenizer)) == base
    assert place_name("/d/words.json") == "/d/words.json" and run_of("/d/words.json") is None
