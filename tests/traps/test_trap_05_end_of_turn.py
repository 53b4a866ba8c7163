"""The end-of-turn token is trained, and nothing after it."""

import numpy as np
import pytest

from engine.text.cutting import NO_END_OF_TURN
from engine.text.encode import Encoder, EncodeSettings
from engine.text.messages import Message
from engine.text.records import Record
from engine.text.tokenizer import Tokenizer
from tests.text.chat_templates import TEMPLATES

TALK = Record(
    0, 1, "conversation", "openai",
    messages=(Message("user", "q"), Message("assistant", "a"), Message("user", "r"), Message("assistant", "b")),
)  # fmt: skip


@pytest.mark.parametrize("name", TEMPLATES)
def test_each_trained_turn_ends_with_its_end_token(tokenizer: Tokenizer, name: str) -> None:
    samples = Encoder(tokenizer, EncodeSettings(256), TEMPLATES[name]).encode(TALK)
    if name == "no end of turn":
        assert all(NO_END_OF_TURN in sample.problems for sample in samples)
        return
    turns = 0
    for sample in samples:
        trained = np.flatnonzero(sample.loss_weights)
        last_of_turn = [place for place in trained if place + 1 not in trained]
        turns += len(last_of_turn)
        assert {int(sample.input_ids[place]) for place in last_of_turn} == {tokenizer.control_tokens["<|im_end|>"]}
        for place in last_of_turn:  # the line break or the second end token behind it
            assert place + 1 == len(sample) or sample.loss_weights[place + 1] == 0
    assert turns == 2


def test_the_end_is_kept_when_the_turn_is_cut(tokenizer: Tokenizer) -> None:
    long = Record(0, 1, "conversation", "openai", messages=(Message("user", "q"), Message("assistant", "dog " * 99)))
    (sample,) = Encoder(tokenizer, EncodeSettings(16)).encode(long)
    assert sample.input_ids[-1] == tokenizer.control_tokens["<|im_end|>"] and sample.loss_weights[-1] == 1
