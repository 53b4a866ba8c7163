import json

from engine.runs.folder import create_run
from engine.settings.profile import load_profile, resolve
from minimind_tui.core.differences import ABSENT, differences, run_entries
from minimind_tui.core.forms import Draft, default_entries, entries_of


def test_a_draft_against_its_parent_and_its_defaults() -> None:
    draft = Draft(load_profile("cpu/sft"), "cpu/sft")
    draft.enter("batch_size", "8")
    rows = {row.name: row for row in differences(draft.entries, entries_of(load_profile("cpu/_model")))}
    assert set(rows) == {"batch_size", "learning_rate", "warmup_steps", "epochs"}
    assert (rows["batch_size"].one, rows["batch_size"].other) == ("8", "4")
    assert (rows["batch_size"].one_origin, rows["batch_size"].other_origin) == ("user", "profile cpu/_model")
    assert "batch_size" in {row.name for row in differences(draft.entries, default_entries(draft.stage))}
    assert differences(draft.saved, entries_of(draft.profile)) == []


def test_stages_with_other_settings_can_be_compared() -> None:
    rows = differences(entries_of(load_profile("cpu/tokenizer")), entries_of(load_profile("cpu/sft")))
    by_name = {row.name: row for row in rows}
    assert by_name["vocab_size"].one == "6400" and by_name["vocab_size"].other == "unset"
    assert by_name["learning_rate"].one == ABSENT and "data" not in by_name


def test_a_run_also_of_another_version() -> None:
    settings = resolve(load_profile("cpu/sft")).replace({"batch_size": 2}, "adjusted: after OOM").to_json()
    settings["settings"]["of_another_time"] = {"value": 1, "origin": "default"}
    del settings["settings"]["packing"]
    run = create_run("old")
    run.resolved.write_text(json.dumps(settings))
    rows = {row.name: row for row in differences(entries_of(load_profile("cpu/sft")), run_entries(run))}
    assert set(rows) == {"batch_size", "of_another_time", "packing"}
    assert (rows["batch_size"].other, rows["batch_size"].other_origin) == ("2", "adjusted: after OOM")
    run.resolved.write_text('{"settings": 3}')
    assert run_entries(run) == {}
