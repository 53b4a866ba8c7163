from minimind_tui.core.memory import read_plan
from tests.tui.made import plan_json


def test_a_plan_in_words() -> None:
    plan = read_plan(plan_json())
    assert plan is not None and not plan.fits
    assert plan.verdict == "does not fit, 576 MiB too much"
    assert plan.range == "1.1 to 1.6 GiB of 1.0 GiB"
    assert [name for name, _ in plan.parts] == ["weights", "gradients", "optimizer", "activations", "logits"]
    assert sum(size for _, size in plan.parts) == plan.peak
    fitting = read_plan(plan_json(limit=4 << 30, high=800 << 20))
    assert fitting is not None and fitting.fits and fitting.verdict == "fits, 3.2 GiB to spare"
    assert fitting.range == "1.1 GiB to 800 MiB of 4.0 GiB", "units stand at both where they differ"


def test_what_comes_with_a_change() -> None:
    plan = read_plan(plan_json())
    assert plan is not None
    first, _, third = plan.changes
    assert (first.number, first.title, first.saves) == (1, "batch_size=2 accumulation_steps=2", 324 << 20)
    assert first.consequences().endswith("same step · the effective batch stays")
    assert first.consequences(short=True) == first.cost
    assert "cuts 3 rows of this data" in third.consequences()
    raw = plan_json()
    raw["suggestions"][2] |= {"truncated_rows": None, "keeps_effective_batch": False}
    changed = read_plan(raw)
    assert changed is not None
    said = changed.changes[2].consequences()
    assert "another effective batch" in said and "is not known" in said


def test_what_is_no_plan_is_none() -> None:
    assert read_plan({}) is None
    for name in ("breakdown", "limit_bytes", "high_bytes"):
        assert read_plan(plan_json() | {name: "nonsense"}) is None
    assert read_plan(plan_json() | {"peak_bytes": float("nan")}) is None
