"""Single values: text in, checked values out, and back."""

import pytest

from engine.errors import ProfileError
from engine.settings.registry import STAGES, find_stage
from engine.settings.values import parse_value, validate_value, value_text

SFT = find_stage("sft")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("learning_rate", "1e-4", 1e-4),
        ("learning_rate", "1", 1),
        ("batch_size", " 8 ", 8),
        ("packing", "false", False),
        ("lr_schedule", "linear", "linear"),
        ("data", "123.jsonl", "123.jsonl"),
        ("head_dim", "", None),
        ("head_dim", "unset", None),
        ("from", "newest:starter/pretrain", "newest:starter/pretrain"),
        ("sample_prompts", '["a", "你好"]', ["a", "你好"]),
        ("mapping", '{ text = "body" }', {"text": "body"}),
        ("hidden_size", "100", 100),  # does not fit to 8 heads, which is another matter
    ],
)
def test_a_text_is_read_as_its_setting_s_type(name, text, value):
    assert validate_value(SFT, name, text) == value


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("learning_rate", "", "valid number"),
        ("learning_rate", "0", "greater than 0"),
        ("batch_size", "1.5", "valid integer"),
        ("batch_size", "unset", "valid integer"),
        ("dtype", "float8", "'float32'"),
        ("packing", "perhaps", "valid boolean"),
        ("sample_prompts", '["a"', "valid list"),
        ("batchsize", "8", "did you mean 'batch_size'"),
    ],
)
def test_what_a_setting_cannot_be_is_refused(name, text, message):
    with pytest.raises(ProfileError) as caught:
        validate_value(SFT, name, text)
    assert message in f"{caught.value.what} {caught.value.hint}"


def test_every_default_survives_its_text():
    for stage in STAGES.values():
        for info in stage.settings.values():
            assert parse_value(value_text(info.default), info) == info.default, info.name


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-6, "1e-6"),
        (0.0005, "0.0005"),
        (True, "true"),
        (None, "unset"),
        ("a b", "a b"),
        (["a", 'b"c'], '["a", "b\\"c"]'),
    ],
)
def test_a_value_s_text(value, text):
    assert value_text(value) == text


def test_descriptions_are_made_once():
    assert SFT.settings is SFT.settings
    assert SFT.settings["seed"] is find_stage("pretrain").settings["seed"]
    optional = [name for name, info in SFT.settings.items() if info.optional]
    assert optional == ["head_dim", "intermediate_size", "vocab_size", "moe_intermediate_size", "norm_topk_prob"]
