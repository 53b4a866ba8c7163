import json
from pathlib import Path

from engine.runs.folder import RunFolder
from engine.runs.summary import summarise
from minimind_tui.core.going import delete_all, going
from minimind_tui.core.run_details import RunDetails, details, value_text
from tests.tui.made import make_run


def _details(run: RunFolder, *others: RunFolder) -> RunDetails:
    return details(summarise(run), [summarise(other) for other in (run, *others)])


def test_what_a_run_was_made_of(home: Path) -> None:
    base = make_run("base", stage="pretrain")
    settings = {
        "from": (str(base.checkpoint(20)), "profile tiny/sft"), "tokenizer": (str(base.tokenizer), "default"),
        "max_steps": (20, "profile tiny/sft"), "learning_rate": (5e-4, "user"), "seed": (7, "user"),
        "hidden_size": (16, f"inherited {base.checkpoint(20)}"), "device": ("cpu", "adjusted: found here"),
    }  # fmt: skip
    child = make_run("child", settings=settings)
    found = _details(child, base)
    facts = dict(found.facts)
    assert (facts["from"], facts["tokenizer"], facts["data"]) == ("base@20", "base", "/data/talk.jsonl")
    assert facts["saved"] == "10 (best), 20" and facts["stage"] == "Supervised fine-tuning · tiny/sft"
    assert found.changed == (
        ("user", (("seed", "7"), ("learning_rate", "0.0005"))),
        ("adjusted: found here", (("device", "cpu"),)),
        ("inherited from base@20", (("hidden_size", "16"),)),
    )
    assert [sample.step for sample in found.samples] == [20]
    assert dict(_details(base, child).facts)["led to"] == "child"


def test_why_a_run_ended(home: Path) -> None:
    assert _details(make_run("done")).plight == ""
    cut = _details(make_run("cut", steps=13, status="")).plight
    assert "killed" in cut and "from step 10" in cut
    failed = _details(make_run("broken", steps=3, status="failed", error="no memory")).plight
    assert failed.startswith("no memory\nlog: ") and "begins it again" in failed
    assert "from step 10" in _details(make_run("stopped", steps=10, status="stopped")).plight
    running = make_run("running", status="")
    with running.lock():
        held = json.loads(running.lock_file.read_text())
        assert f"process {held['pid']} on {held['host']}" in _details(running).plight


def test_torn_samples_are_left_out(home: Path) -> None:
    run = make_run("one")
    with run.samples.open("ab") as file:
        file.write(b'{"step": 20, "prompt": "x"\n\xff\xfe\n[1]\n{"step": "y"}')
    assert [sample.prompt for sample in _details(run).samples] == ["What colour is the sea?"]


def test_values() -> None:
    assert [value_text(value) for value in (None, "", "a", 1e-4, 3, True, {"a": "b"})] == [
        "not set", '""', "a", "0.0001", "3", "true", '{"a": "b"}']  # fmt: skip


def test_what_goes_with_a_run(home: Path) -> None:
    base = make_run("base", stage="pretrain", steps=10)
    start = {"from": (str(base.checkpoint(10)), "user")}
    make_run("whole", settings=start)
    make_run("half", settings=start, status="stopped")
    gone = make_run("gone", settings=start)
    runs = [summarise(RunFolder(base.path.with_name(name))) for name in ("base", "whole", "half", "gone")]
    one, other = going([runs[0], runs[3]], runs)
    assert (one.children, one.stranded, other.children) == (("whole",), ("half",), ())
    assert one.bytes > 3000 and str(one).startswith("base: ") and str(one).endswith("1 checkpoint")
    with gone.lock():
        deleted, error = delete_all([one, other])
    assert deleted == [base] and error is not None and not base.path.exists() and gone.path.exists()
