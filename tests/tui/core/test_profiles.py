from pathlib import Path

import pytest

from engine.errors import UserError
from engine.settings.places import user_profiles
from engine.settings.profile import load_profile
from engine.settings.registry import STAGES
from engine.settings.writing import save_profile
from minimind_tui.core.forms import Draft, new_draft
from minimind_tui.core.profiles import OWN, editor_command, free_name, grouped, heirs, read_entries


def test_profiles_stand_by_hardware_in_the_ladder_s_order_and_one_s_own_last() -> None:
    save_profile("cpu/mine", 'stage = "sft"\ntitle = "My own"\n')
    groups = grouped(read_entries())
    families = [family for family, _ in groups]
    assert families[0] == "starter" and families[-1] == OWN and families == list(dict.fromkeys(families))
    stages = [entry.stage for entry in dict(groups)["cpu"]]
    assert stages[0] == "tokenizer" and stages == sorted(stages, key=[*STAGES].index)
    assert [entry.label for entry in dict(groups)[OWN]] == ["cpu/mine"]


def test_the_filter_takes_a_stage_and_words() -> None:
    entries = read_entries()
    assert {entry.stage for _, group in grouped(entries, "sft") for entry in group} == {"sft"}
    assert [family for family, _ in grouped(entries, "", "8 GB CARD")] == ["rtx3050-8g"]
    assert grouped(entries, "tokenizer", "3090") == []


def test_a_broken_profile_is_listed_with_the_reason(tmp_path: Path) -> None:
    save_profile("broken", 'stage = "sft"\nepoch = 3\n')
    opened = tmp_path / "elsewhere.toml"
    opened.write_text('stage = "sft"\n')
    mine = dict(grouped(read_entries([str(opened), str(tmp_path / "gone.toml")])))[OWN]
    assert [(entry.profile is None, entry.reference) for entry in mine] == [
        (False, str(opened)), (True, str(tmp_path / "gone.toml")), (True, "broken")]  # fmt: skip
    assert "unknown setting 'epoch'" in mine[-1].title


def test_a_copy_s_name_is_not_taken() -> None:
    save_profile("mine", 'stage = "sft"\n')
    entries = {entry.reference: entry for entry in read_entries()}

    def draft(reference: str) -> Draft:
        profile = entries[reference].profile
        assert profile is not None
        return Draft(profile, reference)

    assert free_name(draft("cpu/sft"), entries) == "cpu-sft"
    assert free_name(draft("cpu/sft"), {*entries, "cpu-sft"}) == "cpu-sft-2"
    assert free_name(draft("mine"), entries) == "mine-2"
    assert free_name(new_draft(STAGES["sft"]), entries) == "my-sft"


def test_the_editor_is_the_user_s(monkeypatch: pytest.MonkeyPatch) -> None:
    path = user_profiles() / "mine.toml"
    monkeypatch.setenv("EDITOR", "nano -w")
    monkeypatch.delenv("VISUAL", raising=False)
    assert editor_command(path) == ["nano", "-w", str(path)]
    monkeypatch.setenv("VISUAL", "vim")
    assert editor_command(path) == ["vim", str(path)]
    monkeypatch.delenv("VISUAL")
    monkeypatch.setenv("EDITOR", " ")
    assert editor_command(path) == []
    monkeypatch.setenv("EDITOR", "vim '")
    with pytest.raises(UserError, match="cannot be read: no closing quotation") as caught:
        editor_command(path)
    assert caught.value.where == "EDITOR=vim '"


def test_those_who_extend_a_file_are_found_also_by_way_of_others(tmp_path: Path) -> None:
    base = save_profile("base", 'stage = "sft"\n')
    save_profile("a/child", 'extends = "base"\n')
    save_profile("grandchild", 'extends = "a/child"\n')
    save_profile("other", 'extends = "cpu/sft"\n')
    beside = tmp_path / "beside.toml"
    beside.write_text(f'extends = "{base}"\n')
    entries = read_entries([str(beside)])
    assert sorted(heirs(entries, base)) == sorted([str(beside), "a/child", "grandchild"])
    assert heirs(entries, user_profiles() / "a" / "child.toml") == ["grandchild"]
    assert heirs(entries, user_profiles() / "other.toml") == []


def test_what_is_changed_while_it_is_saved_stays_a_change() -> None:
    path = save_profile("mine", 'stage = "sft"\nextends = "cpu/sft"\n')
    draft = Draft(load_profile("mine"), "mine")
    for name, text in (("epochs", "4"), ("seed", "7"), ("warmup_steps", "9")):
        draft.enter(name, text)
    written, text = draft.asked, draft.revised()
    draft.enter("epochs", "5")
    draft.undo("seed")
    draft.enter("batch_size", "x")
    path.write_text(text)
    draft.mark_saved(written)
    draft.rebase(load_profile("mine"))
    assert [name for name in draft.stage.settings if draft.changed(name)] == ["batch_size", "epochs", "seed"]
    assert (draft.value("epochs"), draft.value("seed"), draft.text("batch_size")) == (5, 42, "x")
    assert draft.origin("warmup_steps") == "profile mine"
    draft.undo_all()
    assert (draft.value("epochs"), draft.value("seed")) == (4, 7)
