from pathlib import Path

import pytest

from engine.settings.places import user_profiles
from engine.settings.registry import STAGES
from engine.settings.writing import save_profile
from minimind_tui.core.forms import Draft, new_draft
from minimind_tui.core.profiles import OWN, editor_command, free_name, grouped, read_entries


def test_profiles_stand_by_hardware_in_the_ladder_s_order_and_one_s_own_last() -> None:
    save_profile("cpu/mine", 'stage = "sft"\ntitle = "My own"\n')
    groups = grouped(read_entries())
    families = [family for family, _ in groups]
    assert families[0] == "starter" and families[-1] == OWN and families == list(dict.fromkeys(families))
    assert [entry.label for entry in dict(groups)["cpu"]] == ["tokenizer", "pretrain", "mid-train", "sft"]
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
