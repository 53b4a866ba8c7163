"""A template that drops old thoughts gives one sample a turn, each exactly what the model sees when it speaks."""

from engine.text.encode import Encoder, EncodeSettings
from engine.text.messages import Message
from engine.text.records import Record
from engine.text.template import ChatTemplate, RenderRequest
from engine.text.tokenizer import Tokenizer
from tests.text.chat_templates import TEMPLATES

MESSAGES = (
    Message("user", "a"),
    Message("assistant", "b", reasoning_content="one"),
    Message("user", "c"),
    Message("assistant", "d", reasoning_content="two"),
)
RECORD = Record(0, 1, "conversation", "openai", messages=MESSAGES)


def test_one_sample_a_turn(tokenizer: Tokenizer) -> None:
    template = ChatTemplate(TEMPLATES["drops old thoughts"], tokenizer.special_tokens)
    samples = Encoder(tokenizer, EncodeSettings(256), template.source).encode(RECORD)
    assert len(samples) == 2
    for sample, count in zip(samples, (2, 4), strict=True):
        rows = [message.as_dict() for message in MESSAGES[:count]]
        text, prompt = template.render([RenderRequest(rows), RenderRequest(rows[:-1], None, True)])
        assert tokenizer.decode(sample.input_ids.tolist()) == text and text.startswith(prompt)
        said = tokenizer.decode(sample.input_ids[sample.loss_weights > 0].tolist())
        assert said == text[len(prompt) : -1]
    assert "one" not in tokenizer.decode(samples[1].input_ids.tolist())
    template.close()


def test_one_sample_for_a_template_that_keeps_history(tokenizer: Tokenizer) -> None:
    (sample,) = Encoder(tokenizer, EncodeSettings(256), TEMPLATES["always thinks"]).encode(RECORD)
    said = tokenizer.decode(sample.input_ids[sample.loss_weights > 0].tolist())
    assert said == "one\n</think>\n\nb<|im_end|>two\n</think>\n\nd<|im_end|>"
