"""What is given and what is said are tokenised apart, as in generation; there is one begin-of-text token."""

import pytest

from engine.text.encode import Encoder, EncodeSettings
from engine.text.messages import Message
from engine.text.records import Record
from engine.text.tokenizer import Tokenizer
from tests.text.chat_templates import TEMPLATES


@pytest.mark.parametrize("answer", ["dog", " dog", "\n\ndog", "\n\n\n", "1\n"])
@pytest.mark.parametrize("name", ["project", "begin of text", "always thinks"])
def test_a_sample_begins_with_the_prompt_s_ids(tokenizer: Tokenizer, name: str, answer: str) -> None:
    encoder = Encoder(tokenizer, EncodeSettings(256), TEMPLATES[name])
    messages = (Message("user", "the fox?\n\n"), Message("assistant", answer + "!"))
    (sample,) = encoder.encode(Record(0, 1, "conversation", "openai", messages=messages))
    prompt = encoder.prompt_ids(messages[:1])
    assert sample.input_ids[: len(prompt)].tolist() == prompt
    assert not sample.loss_weights[: len(prompt)].any() and sample.loss_weights[len(prompt)] == 1


def test_one_begin_of_text_on_each_side_of_a_pair(tokenizer: Tokenizer) -> None:
    bos = "<|endoftext|>"
    special = {**tokenizer.special_tokens, "bos_token": bos}
    other = Tokenizer(tokenizer._state(), special_tokens=special, chat_template=TEMPLATES["begin of text"])
    sides = [(Message("user", "q"), Message("assistant", answer)) for answer in ("yes", "no")]
    record = Record(0, 1, "pair", "minimind-pair", messages=sides[0], rejected=sides[1])
    pair = Encoder(other, EncodeSettings(64)).encode_pair(record)
    for side in (pair.chosen, pair.rejected):
        assert (side.input_ids == other.control_tokens[bos]).sum() == 1 and side.input_ids[0] == other.bos_id
        assert (side.input_ids[side.loss_weights > 0] == other.control_tokens["<|im_end|>"]).sum() == 1


def test_a_text_begins_and_ends_once(tokenizer: Tokenizer) -> None:
    ids = Encoder(tokenizer, EncodeSettings(64)).document("dog").input_ids.tolist()
    assert ids.count(tokenizer.control_tokens["<|endoftext|>"]) == 2 and ids[0] == ids[-1]
