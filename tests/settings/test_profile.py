"""Profiles: TOML in, checked settings with origins out."""

import pytest

from engine.errors import ProfileError
from engine.settings.profile import (
    Settings,
    built_in_profiles,
    list_profiles,
    load_profile,
    parse_assignments,
    resolve,
)
from engine.settings.registry import STAGES, find_stage


def write(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def settings_of(tmp_path, text, *assignments):
    profile = load_profile(write(tmp_path, text))
    return resolve(profile, parse_assignments(assignments, profile.stage))


@pytest.mark.parametrize("name", built_in_profiles())
def test_every_built_in_profile_is_valid(name):
    profile = load_profile(name)
    settings = resolve(profile)
    assert profile.title
    assert settings.origins.keys() == settings.stage.settings.keys()


TRAINED = set(STAGES) - {"tokenizer"}
SETS = {
    "starter": {*STAGES, "direct", "weak"},
    "cpu": set(STAGES),
    "rtx3050-8g": TRAINED,
    "rtx3090-24g": TRAINED,
    "minimind2": TRAINED - {"mid-train"} | {"pretrain-104m", "pretrain-moe", "sft-104m"},
    "minimind3": TRAINED - {"mid-train", "reason", "spo"} | {"pretrain-moe"},
    "nanochat": {"rl"},
    "course": {"sft", "dpo", "grpo"},
}
OWN = ("data", "tokenizer", "from", "teacher", "guard_data", "critic_from", "reward_python", "sample_prompts")
"""What only the user can name; the starter world names its own."""


def test_every_stage_and_hardware_class_has_a_profile():
    found = {folder: {name.partition("/")[2] for name in built_in_profiles() if name.startswith(f"{folder}/")}
             for folder in SETS}  # fmt: skip
    assert found == SETS
    assert sum(map(len, SETS.values())) == len(list(built_in_profiles()))


@pytest.mark.parametrize("name", built_in_profiles())
def test_a_built_in_profile_is_called_after_its_stage_and_leaves_the_user_s_affairs_to_the_user(name):
    folder, _, own = name.partition("/")
    settings = resolve(load_profile(name))
    assert own in SETS[folder] - set(STAGES) or own == settings.stage.name
    values = settings.values()
    if folder != "starter":
        assert not any(values.get(key) for key in OWN)


@pytest.mark.parametrize("name", built_in_profiles())
def test_a_built_in_profile_can_be_run_as_it_stands(name):
    values = resolve(load_profile(name)).values()
    assert values.get("mini_batches", 1) <= values.get("accumulation_steps", 1)
    if "d_half" in values and not values["max_steps"]:
        assert values["epochs"] >= 4  # visits to each prompt
    judge = values.get("reward_model", "")
    if judge:
        assert load_profile(judge.removeprefix("newest:")).stage.name == "reward"


def test_values_carry_their_origin(tmp_path):
    settings = settings_of(tmp_path, 'stage = "sft"\n[training]\nlearning_rate = 1e-4\n', "batch_size=8")
    assert settings.training.learning_rate == 1e-4
    assert settings.origins["learning_rate"] == "profile mine"
    assert settings.origins["batch_size"] == "user"
    assert settings.origins["epochs"] == "default"


def test_a_profile_extends_another(tmp_path):
    text = 'extends = "minimind2/sft"\nlearning_rate = 2e-6\n'
    settings = settings_of(tmp_path, text)
    assert settings.stage.name == "sft"
    assert (settings.training.learning_rate, settings.training.batch_size) == (2e-6, 16)
    assert settings.origins["batch_size"] == "profile minimind2/sft"


def test_extending_in_a_circle_is_refused(tmp_path):
    (tmp_path / "a.toml").write_text('extends = "b.toml"')
    (tmp_path / "b.toml").write_text('extends = "a.toml"')
    with pytest.raises(ProfileError, match="circle"):
        load_profile(tmp_path / "a.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('stage = "sft"\n[training]\nlearnig_rate = 1e-4', "did you mean 'learning_rate'"),
        ('stage = "sft"\n[model]\nlearning_rate = 1e-4', r"belongs in \[training\]"),
        ('stage = "sft"\nlearning_rate = 1e-4\n[training]\nlearning_rate = 1e-4', "twice"),
        ('stage = "sfd"', "did you mean 'sft'"),
        ("learning_rate = 1e-4", "no stage"),
        ('stage = "sft"\n[training', "not valid TOML"),
        ("stage = 3", "must be a text"),
    ],
)
def test_a_bad_profile_is_refused_with_the_reason(tmp_path, text, message):
    with pytest.raises(ProfileError, match=message) as caught:
        settings_of(tmp_path, text)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("learning_rate=-1", "greater than 0"),
        ("learning_rate=fast", "valid number"),
        ("batch_size=1.5", "valid integer"),
        ("dtype=float8", "'float32'"),
        ("packing=perhaps", "valid boolean"),
        ("hidden_size=100", "not a multiple"),
        ("num_key_value_heads=3", "not a multiple"),
        ("batchsize=3", "did you mean 'batch_size'"),
        ("batch_size", "has no '='"),
    ],
)
def test_a_bad_assignment_is_refused_with_the_reason(tmp_path, assignment, message):
    with pytest.raises(ProfileError, match=message):
        settings_of(tmp_path, 'stage = "sft"\nmax_steps = 100\n', assignment)


def test_assignments_take_their_setting_s_type():
    stage = find_stage("sft")
    given = ("data=123.jsonl", "packing=false", "learning_rate=1e-4", 'sample_prompts=["a", "b"]', "max_steps = 5")
    assert parse_assignments(given, stage) == {
        "data": "123.jsonl",
        "packing": False,
        "learning_rate": 1e-4,
        "sample_prompts": ["a", "b"],
        "max_steps": 5,
    }


def test_what_is_inherited_cannot_be_contradicted(tmp_path):
    profile = load_profile(write(tmp_path, 'stage = "sft"\n'))
    shape = {"hidden_size": 64, "num_hidden_layers": 2}
    settings = resolve(profile, {"hidden_size": 64}, shape, "run-a")
    assert settings.model.hidden_size == 64
    assert settings.origins["hidden_size"] == "inherited run-a"
    with pytest.raises(ProfileError, match="contradicts the checkpoint"):
        resolve(profile, {"hidden_size": 128}, shape, "run-a")


def test_settings_survive_json(tmp_path):
    settings = settings_of(tmp_path, 'stage = "sft"\n[data.mapping]\ntext = "body"\n', "batch_size=8")
    again = Settings.from_json(settings.to_json())
    assert again == settings
    assert again.data.mapping == {"text": "body"}


def test_names_are_unique_within_a_stage_and_have_all_answers():
    for stage in STAGES.values():
        names = [name for kind in stage.sections.values() for name in kind.model_fields]
        assert len(names) == len(set(names))
        for info in stage.settings.values():
            assert all(len(text) > 0 for text in (info.controls, info.high, info.low, info.start)), info.name


def test_a_missing_profile_suggests_the_nearest():
    with pytest.raises(ProfileError, match="no profile") as caught:
        load_profile("starter/pretrian")
    assert "starter/pretrain" in caught.value.hint


def test_the_user_s_own_profiles_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIMIND_HOME", str(tmp_path))
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "mine.toml").write_text('stage = "sft"\nepochs = 3\n')
    assert "mine" in list_profiles()
    assert resolve(load_profile("mine")).training.epochs == 3
