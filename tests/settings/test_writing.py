"""Profiles out: only what differs, atomically, and never over something else."""

import resource

import pytest
import tomli

from engine.errors import ProfileError
from engine.settings.places import user_profiles
from engine.settings.profile import build, load_profile, resolve
from engine.settings.registry import STAGES, find_stage
from engine.settings.writing import profile_toml, revised_toml, save_profile

SFT = find_stage("sft")
WRITTEN = """\
# what I found
stage = "sft"
title = "Mine"
extends = "cpu/sft"

[data]
max_seq_len = 256  # short rows

[training]
learning_rate = 1e-4  # too high above
sample_prompts = [
    "who are you?",  # the first
    "你是谁？",
]
"""


def mine(text=WRITTEN):
    save_profile("mine", text, overwrite=True)
    return load_profile("mine")


def values_of(text):
    profile = mine(text)
    return {name: value for name, (value, _) in profile.values.items()}


def test_only_what_differs_from_the_defaults_is_written():
    values = build(SFT, {}).values() | {"batch_size": 8, "head_dim": 32, "from": "my-run"}
    assert profile_toml(SFT, "Mine", values) == (
        'stage = "sft"\ntitle = "Mine"\n\n'
        '[model]\nhead_dim = 32\n\n[data]\nfrom = "my-run"\n\n[training]\nbatch_size = 8\n'
    )


def test_only_what_differs_from_the_parent_is_written():
    parent = resolve(load_profile("minimind2/sft")).values()
    text = profile_toml(SFT, "", parent | {"epochs": 3, "intermediate_size": None}, "minimind2/sft")
    assert tomli.loads(text) == {
        "stage": "sft", "extends": "minimind2/sft",
        "model": {"intermediate_size": "unset"}, "training": {"epochs": 3}}  # fmt: skip
    settings = resolve(mine(text))
    assert settings.model.intermediate_size is None and settings.training.epochs == 3
    assert settings.model.qk_norm is False
    assert settings.origins["epochs"] == "profile mine"


_OTHER = {"str": 'a "quoted" \\ 文', "list[str]": ["a\nb", "c"], "dict[str, str]": {"text": "b c"},
          "dict[str, float]": {"format": 0.5}}  # fmt: skip


def another(info):
    """A value that is not the default."""
    if info.type == "bool":
        return not info.default
    if info.choices:
        return next(choice for choice in info.choices if choice != info.default)
    return _OTHER[info.type] if info.type in _OTHER else (info.default or 16) + 1


@pytest.mark.parametrize("name", STAGES)
def test_every_value_survives(name):
    stage = STAGES[name]
    values = {name: another(info) for name, info in stage.settings.items()}
    assert values_of(profile_toml(stage, "", values)) == values


def test_a_revised_profile_keeps_its_comments_and_its_order():
    profile = mine()
    changes = {"learning_rate": 2e-4, "max_seq_len": 512, "batch_size": 2, "seed": 7, "hidden_size": 256}
    text = revised_toml(profile, changes)
    assert (
        text
        == WRITTEN.replace("max_seq_len = 256  # short rows\n", "")
        .replace("learning_rate = 1e-4  #", "learning_rate = 0.0002  #")
        .rstrip("\n")
        + "\nbatch_size = 2\nseed = 7\n\n[model]\nhidden_size = 256\n"
    )
    assert values_of(text) == {name: value for name, (value, _) in profile.values.items()} | changes


def test_a_value_over_several_lines_is_replaced_whole():
    text = revised_toml(mine(), {"sample_prompts": ["why?"]})
    assert 'sample_prompts = ["why?"]\n' in text and "who are you" not in text and "# what I found" in text


@pytest.mark.parametrize(
    "text",
    [
        'stage = "sft"\ntraining.learning_rate = 1e-4\n',
        'stage = "sft"\ntraining = { learning_rate = 1e-4 }\n',
        'stage = "sft"\n[data]\ndata = """\nlearning_rate = 3"""\n[training]\nlearning_rate = 1e-4',
    ],
)
def test_what_cannot_be_revised_in_place_is_written_anew(text):
    profile = mine(text)
    again = values_of(revised_toml(profile, {"learning_rate": 5e-3}))
    assert again == {name: value for name, (value, _) in profile.values.items()} | {"learning_rate": 5e-3}


@pytest.mark.parametrize(
    "name", ["", "../x", "/etc/x", "a/../b", "a//b", "a/", ".hidden", "x.toml", "a b", "a\nb", "x" * 201]
)
def test_a_name_that_leads_elsewhere_is_refused(name):
    with pytest.raises(ProfileError, match="name"):
        save_profile(name, "")


def test_what_is_there_is_not_replaced_silently():
    with pytest.raises(ProfileError, match="built-in"):
        save_profile("cpu/sft", "", overwrite=True)
    with pytest.raises(ProfileError, match="stage's name"):
        save_profile("sft", "")
    save_profile("own/one", 'stage = "sft"\n')
    with pytest.raises(ProfileError, match="already"):
        save_profile("own/one", "")
    path = save_profile("own/one", 'stage = "pretrain"\n', overwrite=True)
    assert load_profile("own/one").stage.name == "pretrain"
    assert load_profile("own/one").path == path == user_profiles() / "own" / "one.toml"
    assert [entry.name for entry in path.parent.iterdir()] == ["one.toml"]


def test_a_folder_that_cannot_be_written_is_named():
    user_profiles().parent.mkdir(parents=True, exist_ok=True)
    user_profiles().write_text("a file where the folder would be")
    with pytest.raises(ProfileError, match="cannot be written") as caught:
        save_profile("mine", "")
    assert "mine.toml" in caught.value.where


def test_a_failure_leaves_neither_a_part_nor_a_change():
    path = save_profile("mine", WRITTEN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(ProfileError, match="cannot be written"):
            save_profile("mine", WRITTEN + "# more", overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text(encoding="utf-8") == WRITTEN
    assert [entry.name for entry in path.parent.iterdir()] == ["mine.toml"]


def test_built_in_profiles_have_no_file_of_the_user_s_but_a_parent():
    profile = load_profile("cpu/sft")
    assert (profile.path, profile.extends) == (None, "cpu/_model")
