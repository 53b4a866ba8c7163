from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from engine.errors import DataError
from engine.text.chat import MOST_MESSAGES
from engine.text.encode import DOUBLE_BOS, SYSTEM_PROMPTS, Encoder, EncodeSettings
from engine.text.messages import Message
from engine.text.records import Record
from engine.text.sample import Sample
from engine.text.template import project_template
from engine.text.tokenizer import Tokenizer
from tests.text import tokenizer_folders
from tests.text.chat_templates import TEMPLATES

CHAT = [
    Message("system", "be brief"),
    Message("user", "what is one plus two?"),
    Message("assistant", "  three\n"),
    Message("user", "一加二"),
    Message("assistant", "三"),
]


def talk(*messages: Message, line: int = 1, **fields: Any) -> Record:
    return Record(line - 1, line, "conversation", "openai", messages=messages, **fields)


def pair(prompt: list[Message], chosen: str, rejected: str, line: int = 1) -> Record:
    sides = [(*prompt, Message("assistant", answer)) for answer in (chosen, rejected)]
    return Record(0, line, "pair", "minimind-pair", messages=sides[0], rejected=sides[1])


def text_of(tokenizer: Tokenizer, sample: Sample) -> str:
    return tokenizer.decode(sample.input_ids.tolist())


def trained_text(tokenizer: Tokenizer, sample: Sample) -> str:
    return tokenizer.decode(sample.input_ids[sample.loss_weights > 0].tolist())


def check_sample(sample: Sample, length: int) -> None:
    assert len(sample) == len(sample.loss_weights) <= length
    assert sample.loss_weights[0] == 0
    assert sample.input_ids.dtype == np.int32 and sample.loss_weights.dtype == np.float32
    edges = [0, *(span.end for span in sample.spans)]
    assert [span.start for span in sample.spans] == edges[:-1] and edges[-1] == len(sample)


@pytest.fixture
def make(tokenizer: Tokenizer) -> Callable[..., Encoder]:
    return lambda length=4096, template=None, **settings: Encoder(
        tokenizer, EncodeSettings(length, **settings), template
    )


def test_a_conversation_by_hand(tokenizer: Tokenizer, make: Callable[..., Encoder]) -> None:
    (sample,) = make().encode(talk(*CHAT))
    check_sample(sample, 4096)
    assert text_of(tokenizer, sample) == (
        "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nwhat is one plus two?<|im_end|>\n"
        "<|im_start|>assistant\n  three\n<|im_end|>\n<|im_start|>user\n一加二<|im_end|>\n"
        "<|im_start|>assistant\n三<|im_end|>\n"
    )
    assert trained_text(tokenizer, sample) == "  three\n<|im_end|>三<|im_end|>"
    assert sample.truncated == 0 and sample.problems == ()


def test_ids_equal_transformers_up_to_the_generation_prompt(
    tokenizer: Tokenizer, tokenizer_folder: str, make: Callable[..., Encoder]
) -> None:
    reference: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(tokenizer_folder)
    encoder = make()
    for count in (2, 4):
        messages = [message.as_dict() for message in CHAT[:count]]
        expected = reference.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        first_prompt = len(reference.apply_chat_template(messages[:2], add_generation_prompt=True, return_dict=False))
        assert encoder.prompt_ids(CHAT[:count])[:first_prompt] == expected[:first_prompt]
    (sample,) = encoder.encode(talk(*CHAT))
    assert sample.input_ids[:first_prompt].tolist() == expected[:first_prompt]
    assert not sample.loss_weights[:first_prompt].any() and sample.loss_weights[first_prompt] == 1


@pytest.mark.parametrize("content", ["x", "  x", "\n\nx", "\tx  ", "<think>\n1\n</think>\n\nx"])
def test_content_that_begins_with_white_space_is_trained_whole(
    tokenizer: Tokenizer, make: Callable[..., Encoder], content: str
) -> None:
    (sample,) = make().encode(talk(Message("user", "q"), Message("assistant", content)))
    assert trained_text(tokenizer, sample) == content + "<|im_end|>"


def test_markers_that_are_typed_are_no_tokens(tokenizer: Tokenizer, make: Callable[..., Encoder]) -> None:
    typed = "<|im_end|>\n<|im_start|>assistant\n<think>yes</think>"
    (sample,) = make().encode(
        talk(Message("system", typed), Message("user", typed), Message("assistant", typed), tools=({"name": typed},))
    )
    counts = {
        name: int((sample.input_ids == tokenizer.control_tokens[name]).sum()) for name in ("<|im_start|>", "<|im_end|>")
    }
    assert counts == {"<|im_start|>": 3, "<|im_end|>": 3}
    thinks = np.flatnonzero(sample.input_ids == tokenizer.tags["<think>"])
    assert len(thinks) == 1 and sample.loss_weights[thinks[0]] == 1
    assert text_of(tokenizer, sample).count(typed) == 3 and sample.one_string_differs
    assert trained_text(tokenizer, sample) == typed + "<|im_end|>"


def test_private_characters_in_content_survive(tokenizer: Tokenizer, make: Callable[..., Encoder]) -> None:
    content = "".join(map(chr, range(0xF0000, 0xF0040))) + "<|im_end|>"
    (sample,) = make().encode(talk(Message("user", content), Message("assistant", content)))
    assert text_of(tokenizer, sample).count(content) == 2


def test_one_string_tokens_that_differ_are_noticed(make: Callable[..., Encoder]) -> None:
    same, differing = (
        make().encode(talk(Message("user", "q"), Message("assistant", content)))[0] for content in ("x", "\n\nx")
    )
    assert not same.one_string_differs and differing.one_string_differs


def test_mid_training_trains_every_token_and_loses_none(tokenizer: Tokenizer, make: Callable[..., Encoder]) -> None:
    (whole,) = make(train_on="all").encode(talk(*CHAT))
    assert whole.trained == len(whole) - 1
    windows = make(20, train_on="all").encode(talk(*CHAT))
    assert sum(window.trained for window in windows) == len(whole) - 1
    assert [*windows[0].input_ids, *(token for window in windows[1:] for token in window.input_ids[1:])] == [
        *whole.input_ids
    ]
    (old,) = make(template=TEMPLATES["drops old thoughts"], train_on="all").encode(talk(*CHAT))
    assert old.trained == len(old) - 1


@pytest.mark.parametrize("length", [4, 5, 7, 64])
def test_long_texts_come_in_windows_and_each_token_is_predicted_once(
    tokenizer: Tokenizer, make: Callable[..., Encoder], length: int
) -> None:
    text = "the dog sleeps in the sun. 一加二等于三。" * 3
    whole = make().document(text)
    windows = make(length).encode_text(text)
    for window in windows:
        check_sample(window, length)
    assert text_of(tokenizer, whole) == f"<|endoftext|>{text}<|endoftext|>"
    predicted = [token for window in windows for token in window.input_ids[1:]]
    assert predicted == whole.input_ids[1:].tolist()
    assert sum(window.trained for window in windows) == len(whole) - 1
    assert make(length).encode_texts([text, "a"], [0, 1])[0][-1].input_ids.tolist() == windows[-1].input_ids.tolist()


def test_markers_in_raw_text(tokenizer: Tokenizer, make: Callable[..., Encoder]) -> None:
    text = "<|endoftext|><|im_start|>user"
    plain, parsed = make().document(text), make(parse_special_tokens=True).document(text)
    assert tokenizer.control_tokens["<|im_start|>"] not in plain.input_ids
    assert tokenizer.control_tokens["<|im_start|>"] in parsed.input_ids
    assert plain.problems == () and parsed.problems == (DOUBLE_BOS,)


def turns(count: int, size: int = 3) -> list[Message]:
    words = "dog " * size
    return [Message("user" if i % 2 == 0 else "assistant", f"{words}{i}") for i in range(count)]


@pytest.mark.parametrize("name", ["project", "always thinks", "drops old thoughts", "default system"])
def test_a_long_conversation_loses_its_oldest_turns(
    tokenizer: Tokenizer, make: Callable[..., Encoder], name: str
) -> None:
    messages = [Message("system", "stay"), *turns(20)]
    whole = make(template=TEMPLATES[name]).encode(talk(*messages))[-1]
    longest = 0
    for length in (60, 90, 120, 200):
        sample = make(length, template=TEMPLATES[name]).encode(talk(*messages))[-1]
        check_sample(sample, length)
        text = text_of(tokenizer, sample)
        assert text.startswith("<|im_start|>system\nstay<|im_end|>\n<|im_start|>user\ndog")
        assert trained_text(tokenizer, sample).endswith("dog dog dog 19<|im_end|>")
        assert sample.truncated == len(whole) - len(sample) > 0
        assert len(sample) > length - 45, "one more exchange would have fitted"
        assert len(sample) >= longest
        longest = len(sample)


def test_what_follows_the_last_answer_goes_first(tokenizer: Tokenizer, make: Callable[..., Encoder]) -> None:
    messages = [*turns(4), Message("user", "dog " * 50)]
    (sample,) = make(80).encode(talk(*messages))
    assert text_of(tokenizer, sample).startswith("<|im_start|>user\ndog dog dog 0")
    assert trained_text(tokenizer, sample).count("<|im_end|>") == 2 and sample.truncated > 50


def test_an_answer_longer_than_the_sample_keeps_its_end(tokenizer: Tokenizer, make: Callable[..., Encoder]) -> None:
    messages = [Message("user", "dog " * 9), Message("assistant", "dog " * 30)]
    for length in (4, 10, 20):
        (sample,) = make(length).encode(talk(*messages))
        check_sample(sample, length)
        assert sample.input_ids[-1] == tokenizer.control_tokens["<|im_end|>"]
        assert sample.trained == length - 1 and sample.truncated > 30


def test_very_long_conversations_are_cut_before_they_are_rendered(make: Callable[..., Encoder]) -> None:
    encoder = make(200)
    (sample,) = encoder.encode(talk(*turns(4 * MOST_MESSAGES, 1)))
    check_sample(sample, 200)
    assert sample.trained and sample.truncated > 4 * MOST_MESSAGES
    (window, *_) = make(200, train_on="all").encode(talk(*turns(4 * MOST_MESSAGES, 1)))
    assert window.trained == 199


def test_a_conversation_without_an_answer_trains_nothing(make: Callable[..., Encoder]) -> None:
    for messages in ([Message("user", "q")], [Message("user", "q"), Message("assistant", "")]):
        assert [sample.trained for sample in make().encode(talk(*messages))] == [0]


def test_random_system_prompts_are_a_function_of_seed_and_line(
    tokenizer: Tokenizer, make: Callable[..., Encoder]
) -> None:
    def systems(**settings: Any) -> list[str]:
        encoder = make(system_prompt_ratio=0.5, **settings)
        texts = [
            text_of(tokenizer, encoder.encode(talk(Message("user", "q"), Message("assistant", "a"), line=line))[0])
            for line in range(1, 61)
        ]
        return [text.partition("user\nq")[0] for text in texts]

    first = systems(seed=1)
    assert first == systems(seed=1) != systems(seed=2)
    assert 15 < sum("system" in text for text in first) < 45
    assert len({text for text in first if "system" in text}) > 5
    assert all(any(prompt in text for prompt in SYSTEM_PROMPTS) for text in first if "system" in text)
    always = make(system_prompt_ratio=1.0)
    for fields in ({"tools": ({"name": "f"},)}, {}):
        own = [] if fields else [Message("system", "mine")]
        record = talk(*own, Message("user", "q"), Message("assistant", "a"), **fields)
        assert text_of(tokenizer, always.encode(record)[0]) == text_of(tokenizer, make().encode(record)[0])


def test_augmentations_are_the_same_on_both_sides_of_a_pair(tokenizer: Tokenizer, make: Callable[..., Encoder]) -> None:
    encoder = make(template=TEMPLATES["always thinks"], system_prompt_ratio=0.5, empty_think_ratio=0.5)
    seen = set()
    for line in range(1, 41):
        both = encoder.encode_pair(pair([Message("user", "q")], "yes", "no", line))
        texts = [text_of(tokenizer, side) for side in (both.chosen, both.rejected)]
        assert texts[0].replace("yes", "no") == texts[1]
        seen.add(("system" in texts[0], "<think>" in texts[0]))
    assert len(seen) == 4


def test_a_pair_trains_its_last_turn_only(tokenizer: Tokenizer, make: Callable[..., Encoder]) -> None:
    both = make().encode_pair(pair([*turns(2), Message("user", "more")], "yes", ""))
    assert trained_text(tokenizer, both.chosen) == "yes<|im_end|>"
    assert trained_text(tokenizer, both.rejected) == "<|im_end|>"


def test_the_sides_of_a_long_pair_keep_the_same_prompt(tokenizer: Tokenizer, make: Callable[..., Encoder]) -> None:
    record = pair([Message("system", "stay"), *turns(10), Message("user", "dog?")], "yes", "no " * 12)
    for length in (30, 48, 70, 100):
        both = make(length).encode_pair(record)
        prompts = []
        for side in (both.chosen, both.rejected):
            check_sample(side, length)
            assert side.trained and side.truncated
            prompts.append(side.input_ids[: np.flatnonzero(side.loss_weights)[0]].tolist())
        assert prompts[0] == prompts[1]
        assert tokenizer.decode(prompts[0]).endswith("<|im_start|>assistant\n")
        if length == 100:
            assert tokenizer.decode(prompts[0]).startswith("<|im_start|>system\nstay<|im_end|>\n<|im_start|>user\ndog")
            assert trained_text(tokenizer, both.rejected).endswith("<|im_end|>")


def test_prompts_lose_their_oldest_turns(tokenizer: Tokenizer, make: Callable[..., Encoder]) -> None:
    record = replace(talk(*turns(9)), shape="prompt", answer="42", check="number")
    whole, cut = make().encode_prompt(record), make(60).encode_prompt(record)
    assert (whole.answer, whole.check, whole.sample.trained) == ("42", "number", 0)
    assert text_of(tokenizer, cut.sample).startswith("<|im_start|>user\ndog")
    assert text_of(tokenizer, cut.sample).endswith("dog dog dog 8<|im_end|>\n<|im_start|>assistant\n")
    assert cut.sample.truncated == len(whole.sample) - len(cut.sample) > 0
    assert whole.sample.input_ids.tolist() == make().prompt_ids(record.messages)


@pytest.mark.parametrize("kind", ["qwen", "sentencepiece", "metaspace"])
def test_other_kinds_of_tokenizers(tmp_path: Path, kind: str) -> None:
    tokenizer = Tokenizer.load(getattr(tokenizer_folders, kind)(tmp_path / kind))
    encoder = Encoder(tokenizer, EncodeSettings(4096), project_template())
    messages = [Message("user", "the quick <|im_end|> fox"), Message("assistant", "从前 jumps"), *CHAT[1:]]
    (sample,) = encoder.encode(talk(*messages))
    check_sample(sample, 4096)
    assert trained_text(tokenizer, sample).replace("<|im_end|>", "|").split("|")[:2] == ["从前 jumps", "  three\n"]
    assert (sample.input_ids == tokenizer.control_tokens["<|im_end|>"]).sum() == len(messages)
    last = np.flatnonzero(sample.input_ids == tokenizer.control_tokens["<|im_end|>"])[-1]
    assert sample.loss_weights[last] == 1 and not sample.loss_weights[last + 1 :].any()
    assert encoder.prompt_ids(messages[:1]) == sample.input_ids[: len(encoder.prompt_ids(messages[:1]))].tolist()


def test_without_a_template_conversations_are_refused(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_folders.qwen(tmp_path))
    with pytest.raises(DataError, match="no chat template"):
        Encoder(tokenizer, EncodeSettings(64)).encode(talk(*CHAT))
    assert Encoder(tokenizer, EncodeSettings(64)).encode_text("fox")[0].trained
