"""The rungs as they are, and the table made of results by hand."""

import pytest

from engine.errors import DataError
from engine.ladder.results import Result, Results, all_results
from engine.ladder.rungs import LADDER
from engine.ladder.table import markdown, tabulate
from engine.settings.profile import load_profile, parse_assignments, resolve
from engine.settings.values import value_text
from engine.text.starter import STARTER_FILES

SUMS, FACTS = "starter:eval_arithmetic.jsonl", "starter:eval_phrasing.jsonl"


@pytest.mark.parametrize("rung", LADDER.values(), ids=lambda rung: rung.name)
def test_every_rung_is_sound(rung):
    loaded = load_profile(rung.profile)
    newest = {name for name, (value, _) in loaded.values.items() if str(value).startswith("newest:")}
    assert newest <= rung.uses.keys() | rung.settings.keys()  # the ladder's own runs, not whatever is the newest
    assigned = {**rung.settings, **rung.uses}
    settings = parse_assignments(tuple(f"{name}={value_text(value)}" for name, value in assigned.items()), loaded.stage)
    resolve(loaded, settings)
    names = list(LADDER)
    assert all(names.index(need) < names.index(rung.name) for need in rung.needs)
    for line in rung.lines:
        other = rung.before(line)
        assert not other or other in LADDER
        if other and other != rung.start:  # what is compared is measured there too
            own = {(each.figure.file, each.figure.key) for each in LADDER[other].lines}
            assert not line.figure.file or (line.figure.file, line.figure.key) in own
        assert not line.figure.file or line.figure.file in {f"starter:{file.name}" for file in STARTER_FILES}


def put(seed, name, began=None, error="", figures=None, **measured):
    """A result by hand; its figures by file."""
    began = float(list(LADDER).index(name)) if began is None else began
    by_file = {{"sums": SUMS, "facts": FACTS}[file]: found for file, found in measured.items()}
    Results(LADDER, seed).put(
        name, Result(f"ladder-{seed}-{name}", began, began, 60.0 + seed, 30.0, figures or {}, by_file, {}, error)
    )


def by_trial(seed, before, after, form=0.99, facts=(0.9, 0.87)):
    """The rungs up to grpo with these figures."""
    for name in ("tokenizer", "pretrain"):
        put(seed, name)
    put(seed, "weak", sums={"pass_at_1": before, "format_rate": 0.9}, facts={"exact_match": facts[0]})
    put(seed, "grpo", sums={"pass_at_1": after, "format_rate": form}, facts={"exact_match": facts[1]})


def verdicts(seed, rung):
    found = tabulate(LADDER, [Results(LADDER, seed)])
    return [row["reached"][0] for row in found["rows"] if row["rung"] == rung]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (dict(before=0.40, after=0.55), [True, True, True]),
        (dict(before=0.40, after=0.549), [False, True, True]),
        (dict(before=0.40, after=0.60, form=0.949), [True, False, True]),
        (dict(before=0.40, after=0.60, facts=(0.90, 0.869)), [True, True, False]),
    ],
)
def test_claims(given, expected):
    by_trial(0, **given)
    assert verdicts(0, "grpo") == expected
    assert verdicts(0, "weak") == [True]


def test_the_start_of_reinforcement_learning_is_neither_too_good_nor_too_bad():
    for seed, before in enumerate((0.29, 0.30, 0.60, 0.61)):
        by_trial(seed, before, 0.9)
    assert [verdicts(seed, "weak") for seed in range(4)] == [[False], [True], [True], [False]]


def test_the_table_of_one_seed():
    by_trial(0, 0.40, 0.55)
    put(0, "own-samples", sums={"pass_at_1": 0.5, "format_rate": 1.0}, facts={"exact_match": 0.4})
    put(0, "sft", error="out of | memory\n  → halve it")
    lines = markdown(tabulate(LADDER, [Results(LADDER, 0)])).splitlines()
    assert lines[0] == "| rung | seconds: training + measuring | figure | before | after | claim | reached? |"
    assert "| grpo | 60 + 30 | sums, new operands | 40.0 % | 55.0 % | +15 points | yes |" in lines
    assert "|  |  | well-formed answers to sums | 90.0 % | 99.0 % | ≥ 95 % | yes |" in lines
    assert "|  |  | sums, new operands | grpo: 55.0 % | 50.0 % |  |  |" in lines
    assert "| sft |  | seed 0 failed: out of \\| memory |  |  |  |  |" in lines
    assert lines[-2:] == ["", "Seed 0: 7.5 minutes."]


def test_the_table_of_several_seeds():
    by_trial(0, 0.40, 0.55)
    by_trial(1, 0.41, 0.50)
    by_trial(10, 0.60, 0.90)
    seeds = all_results(LADDER)
    assert [each.seed for each in seeds] == [0, 1, 10]
    lines = markdown(tabulate(LADDER, seeds)).splitlines()
    assert "| grpo | 60–70 + 30 | sums, new operands | 40.0–60.0 % | 50.0–90.0 % | +15 points | 2 of 3 |" in lines


def test_what_is_not_known_is_not_judged():
    for name in ("tokenizer", "pretrain"):
        put(0, name)
    put(0, "moe", figures={"val_loss": "NaN", "expert_load_max": 1.5, "expert_load_min": 0.4})
    loss, busiest, idlest = (row for row in tabulate(LADDER, [Results(LADDER, 0)])["rows"] if row["rung"] == "moe")
    assert loss["reached"] == [None]  # the dense run's is not there
    assert (busiest["reached"], idlest["reached"]) == ([True], [False])
    put(0, "pretrain", figures={"val_loss": 2.0})
    assert verdicts(0, "moe")[0] is False  # no number is no more


def test_a_damaged_result_is_named(tmp_path):
    put(0, "tokenizer")
    path = Results(LADDER, 0).folder / "tokenizer.json"
    path.write_text('{"run": "x"}')
    with pytest.raises(DataError, match="cannot be read") as error:
        Results(LADDER, 0).is_done("tokenizer")
    assert str(path) in str(error.value)
