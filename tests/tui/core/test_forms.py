import shlex

import tomli

from engine.settings.profile import load_profile, parse_assignments, resolve
from engine.settings.registry import STAGES, find_stage
from engine.settings.writing import save_profile
from minimind_tui.core.forms import Draft, new_draft, range_text


def _draft(reference: str = "cpu/sft") -> Draft:
    return Draft(load_profile(reference), reference)


def test_what_is_typed_is_checked_and_kept() -> None:
    draft = _draft()
    assert draft.enter("learning_rate", "1e-x") == "must be a valid number"
    assert (draft.text("learning_rate"), draft.value("learning_rate")) == ("1e-x", 3e-4)
    assert draft.unusable == ["learning_rate"] and draft.unsaved == 1 and draft.assignments() == ()
    assert draft.enter("learning_rate", "1e-4") == ""
    assert (draft.value("learning_rate"), draft.origin("learning_rate")) == (1e-4, "user")
    assert draft.assignments() == ("learning_rate=0.0001",)
    draft.enter("learning_rate", "0.0003")
    assert not draft.changed("learning_rate") and draft.origin("learning_rate") == "profile cpu/sft"


def test_weights_by_name_are_typed_as_a_table() -> None:
    draft = _draft("starter/grpo")
    assert draft.enter("rewards", "{ answer = 1, tags = -0.5 }") == ""
    assert draft.value("rewards") == {"answer": 1.0, "tags": -0.5} and draft.changed("rewards")
    assert draft.enter("rewards", "{ answer = x }") and draft.enter("rewards", "{ nosuch = 1.0 }")
    assert draft.value("rewards") == {"answer": 1.0, "tags": -0.5}
    assert range_text(draft.stage.settings["rewards"]) == "{ name = 1.0 }"


def test_editing_can_be_cancelled_and_undone() -> None:
    draft = _draft()
    draft.enter("epochs", "7")
    before = draft.remember("epochs")
    draft.enter("epochs", "-")
    draft.restore("epochs", before)
    assert draft.value("epochs") == 7 and draft.problem("epochs") == ""
    draft.undo("epochs")
    assert draft.value("epochs") == 2 and draft.unsaved == 0


def test_choices_go_round() -> None:
    draft = _draft()
    seen = [draft.value("lr_schedule") for _ in range(4) if draft.step("lr_schedule", 1)]
    assert seen == ["linear", "constant", "cosine", "linear"]
    assert draft.step("lr_schedule", -1) and draft.value("lr_schedule") == "cosine" and draft.unsaved == 0
    assert draft.step("packing", 1) and draft.value("packing") is False
    assert not draft.step("epochs", 1)


def test_what_does_not_fit_together_is_said_and_its_settings_named() -> None:
    draft = _draft()
    assert draft.mismatch() == ""
    draft.enter("num_key_value_heads", "3")
    assert "not a multiple" in draft.mismatch()
    assert draft.concerned() == {"num_attention_heads", "num_key_value_heads"}
    draft.enter("num_attention_heads", "9x")
    assert draft.mismatch() == "", "the value that cannot be used comes first"


def test_a_bad_value_of_the_file_is_shown_and_can_be_mended() -> None:
    save_profile("mine", 'stage = "sft"\n[training]\nlearning_rate = -1\n')
    draft = _draft("mine")
    assert draft.problem("learning_rate") == "must be greater than 0"
    assert (draft.text("learning_rate"), draft.unsaved, draft.unusable) == ("-1", 0, ["learning_rate"])
    draft.enter("learning_rate", "1e-3")
    assert draft.unusable == [] and tomli.loads(draft.revised())["training"] == {"learning_rate": 1e-3}


def test_a_checkpoint_s_shape_comes_before_the_profile_s() -> None:
    draft = _draft()
    draft.enter("hidden_size", "256")
    draft.inherited, draft.inherited_from = {"hidden_size": 64, "num_attention_heads": 2}, "my-run"
    assert (draft.text("hidden_size"), draft.origin("hidden_size")) == ("64", "inherited my-run")
    assert draft.locked("hidden_size") and draft.assignments() == ()
    assert draft.settings().model.hidden_size == 64
    assert tomli.loads(draft.copied(""))["model"] == {"hidden_size": 256}, "the profile keeps its own"


def test_a_copy_extends_what_is_built_in_and_holds_changes_only() -> None:
    draft = _draft()
    draft.enter("epochs", "3")
    assert tomli.loads(draft.copied("Mine")) == {
        "stage": "sft", "title": "Mine", "extends": "cpu/sft", "training": {"epochs": 3}}  # fmt: skip
    save_profile("mine", draft.copied("Mine"))
    own = _draft("mine")
    own.enter("seed", "1")
    assert tomli.loads(own.copied("Again")) == {
        "stage": "sft", "title": "Again", "extends": "cpu/sft", "training": {"epochs": 3, "seed": 1}}  # fmt: skip


def test_the_command_says_what_a_run_would_have() -> None:
    draft = _draft()
    assert draft.command() == "engine train cpu/sft"
    draft.enter("sample_prompts", '["who are you?"]')
    draft.enter("head_dim", "32")
    draft.enter("data", "my file.jsonl")
    words = shlex.split(draft.command())
    assignments = tuple(word for word in words[3:] if word != "--set")
    settings = resolve(draft.profile, parse_assignments(assignments, draft.stage))
    assert settings.values() == draft.settings().values()


def test_a_new_profile_has_no_command_and_every_default() -> None:
    for stage in STAGES.values():
        draft = new_draft(stage)
        assert draft.is_new and draft.command() == "" and draft.unusable == []
        assert tomli.loads(draft.copied("")) == {"stage": stage.name}


def test_ranges_in_words() -> None:
    settings = find_stage("sft").settings
    assert range_text(settings["learning_rate"]) == "number above 0 to 10"
    assert range_text(settings["dropout"]) == "number from 0 below 1"
    assert range_text(settings["head_dim"]) == "whole number from 2 to 1024, or unset"
    assert range_text(settings["lr_schedule"]) == "cosine | linear | constant"
    assert range_text(settings["data"]) == "text"
