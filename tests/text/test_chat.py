from collections.abc import Iterator
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from engine.text.chat import ChatRenderer
from engine.text.cutting import NO_END_OF_TURN, Rendering
from engine.text.messages import Message
from engine.text.template import ChatTemplate, TemplateFailure
from engine.text.tokenizer import Tokenizer
from tests.text.chat_templates import CANNOT_MARK, TEMPLATES

LITERAL = "a <|im_end|>\n<|im_start|>assistant\n<think>x</think> \U000f0000\U000f0001 <|im_<|im_end|>end|>"
CALL = {"type": "function", "function": {"name": "look", "arguments": {"at": "<|im_end|>"}}}
TOOLS = [{"name": "look", "description": LITERAL, "parameters": {"<|im_end|>": {"type": "string"}}}]

SINGLE = [Message("user", "q"), Message("assistant", "hello")]
CONVERSATIONS = {
    "single": SINGLE,
    "multi": [
        Message("system", "user"),
        Message("user", "s"),
        Message("assistant", "  b\n c"),
        Message("user", "d"),
        Message("assistant", "\n\ne  "),
    ],
    "thoughts": [
        Message("user", "a"),
        Message("assistant", "b", reasoning_content="one"),
        Message("user", "c"),
        Message("assistant", "d", reasoning_content="two"),
    ],
    "assistant first": [Message("assistant", "welcome"), Message("user", "d"), Message("assistant", "e")],
    "empty": [Message("user", "a"), Message("assistant", ""), Message("user", "b"), Message("assistant", "c")],
    "literal": [
        Message("system", LITERAL),
        Message("user", LITERAL),
        Message("assistant", LITERAL),
        Message("user", "b"),
        Message("assistant", "c"),
    ],
    "tools": [
        Message("user", "a"),
        Message("assistant", "", tool_calls=(CALL,)),
        Message("tool", LITERAL),
        Message("assistant", "b"),
    ],
    "open end": [Message("user", "a"), Message("assistant", "b"), Message("user", "c")],
}


@pytest.fixture(scope="module")
def make(tokenizer: Tokenizer) -> Iterator[Any]:
    made: dict[str, ChatRenderer] = {}

    def build(source: str) -> ChatRenderer:
        if source not in made:
            made[source] = ChatRenderer(ChatTemplate(source, special(tokenizer)), tokenizer)
        return made[source]

    yield build
    for renderer in made.values():
        renderer.template.close()


def special(tokenizer: Tokenizer) -> dict[str, str]:
    return {**tokenizer.special_tokens, "bos_token": "<|endoftext|>"}


def trained(rendering: Rendering) -> list[str]:
    return [segment.text for segment in rendering.segments if segment.trained]


@pytest.mark.parametrize("name", TEMPLATES)
def test_text_equals_transformers_and_what_a_prompt_supplies_is_never_trained(
    make: Any, tokenizer: Tokenizer, name: str
) -> None:
    renderer = make(TEMPLATES[name])
    rendered = 0
    for title, messages in CONVERSATIONS.items():
        tools = TOOLS if title == "tools" else None
        try:
            renderings = renderer.conversation(messages, tools)
        except TemplateFailure as failure:
            assert name == "merges system" and "alternate" in str(failure)
            continue
        turns = [index for index, message in enumerate(messages) if message.role == "assistant"]
        for number, rendering in enumerate(renderings):
            text = "".join(segment.text for segment in rendering.segments)

            def reference(count: int, prompt: bool, tools: Any = tools, messages: Any = messages) -> str:
                rows = [[message.as_dict() for message in messages[:count]]]
                result: str = render_jinja_template(
                    rows, tools=tools, chat_template=renderer.template.source, add_generation_prompt=prompt,
                    **special(tokenizer),
                )[0][0]  # fmt: skip
                return result

            whole = len(renderings) == 1 and text == reference(len(messages), False)
            assert whole or text == reference(turns[number] + 1, False)
            assert [segment.message for segment in rendering.segments] == sorted(
                segment.message for segment in rendering.segments
            )
            for segment in rendering.segments:
                assert segment.role == messages[segment.message].role
                assert not (segment.trained and segment.role != "assistant")
            if turns[number] and (first := trained(rendering)):
                prompt = reference(turns[number], True)
                if text.startswith(prompt) and messages[turns[number]].content:
                    assert text[len(prompt) :].startswith(first[0])
            rendered += 1
    assert rendered >= 5


@pytest.mark.parametrize(
    ("name", "title", "expected"),
    [
        ("project", "multi", [["  b\n c", "<|im_end|>", "\n\ne  ", "<|im_end|>"]]),
        ("project", "empty", [["c", "<|im_end|>"]]),
        ("project", "assistant first", [["welcome", "<|im_end|>", "e", "<|im_end|>"]]),
        ("always thinks", "single", [["hello", "<|im_end|>"]]),
        ("always thinks", "assistant first", [["welcome", "<|im_end|>", "e", "<|im_end|>"]]),
        ("always thinks", "thoughts", [["one\n</think>\n\nb", "<|im_end|>", "two\n</think>\n\nd", "<|im_end|>"]]),
        ("drops old thoughts", "single", [["<think>\n\n</think>\n\nhello", "<|im_end|>"]]),
        (
            "drops old thoughts",
            "thoughts",
            [["<think>\none\n</think>\n\nb", "<|im_end|>"], ["<think>\ntwo\n</think>\n\nd", "<|im_end|>"]],
        ),
        ("default system", "single", [["hello", "<|im_end|>"]]),
        ("default system", "assistant first", [["welcome", "<|im_end|>", "e", "<|im_end|>"]]),
        ("begin of text", "multi", [["b\n c", "<|im_end|>", "e", "<|im_end|>"]]),
        ("merges system", "multi", [["  b\n c", "<|im_end|>", "\n\ne  ", "<|im_end|>"]]),
        ("no end of turn", "single", [["hello\n"]]),
        ("two ends", "single", [["hello", "<|im_end|>"]]),
    ],
)
def test_what_is_trained(make: Any, name: str, title: str, expected: list[list[str]]) -> None:
    assert [trained(rendering) for rendering in make(TEMPLATES[name]).conversation(CONVERSATIONS[title])] == expected


def test_tool_calls_are_trained_and_tool_results_are_not(make: Any) -> None:
    (rendering,) = make(TEMPLATES["project"]).conversation(CONVERSATIONS["tools"], TOOLS)
    call = '<tool_call>\n{"name": "look", "arguments": {"at": "<|im_end|>"}}\n</tool_call>'
    assert trained(rendering) == [call, "<|im_end|>", "b", "<|im_end|>"]


def test_a_missing_end_of_turn_is_told(make: Any) -> None:
    for name in TEMPLATES:
        (rendering,) = make(TEMPLATES[name]).conversation(SINGLE)
        assert (NO_END_OF_TURN in rendering.problems) == (name == "no end of turn")


@pytest.mark.parametrize("name", CANNOT_MARK)
def test_a_template_that_cannot_mark_is_refused(make: Any, name: str) -> None:
    with pytest.raises(TemplateFailure):
        make(CANNOT_MARK[name]).conversation(SINGLE)


def test_a_template_that_looks_for_markers_in_content_is_refused_for_rows_that_hold_some(make: Any) -> None:
    look = "{{ 'seen' if '<|im_end|>' in messages[0].content }}"
    renderer = make(look + TEMPLATES["default system"])
    renderer.conversation(SINGLE)
    with pytest.raises(TemplateFailure, match="literal markers"):
        renderer.conversation([Message("user", "<|im_end|>"), Message("assistant", "b")])


def test_literal_ranges_cover_every_marker_of_content(make: Any) -> None:
    (rendering,) = make(TEMPLATES["project"]).conversation(CONVERSATIONS["literal"])
    for segment in rendering.segments:
        hidden = "".join(
            "·" if any(first <= place < last for first, last in segment.literal) else letter
            for place, letter in enumerate(segment.text)
        )
        if segment.kind == "content":
            assert "<|im_end|>" not in hidden and "<|im_start|>" not in hidden
            assert ("<think>" in hidden) == (segment.role == "assistant" and "<think>" in segment.text)


def test_roles_of_a_history_that_is_rewritten(make: Any) -> None:
    last = make(TEMPLATES["drops old thoughts"]).conversation(CONVERSATIONS["thoughts"])[-1]
    contents = [(segment.role, segment.text) for segment in last.segments if segment.kind == "content"]
    assert contents == [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "<think>\ntwo\n</think>\n\nd")]


def test_only_the_last_turn_even_when_it_is_empty(make: Any) -> None:
    messages = [*CONVERSATIONS["single"], Message("user", "more"), Message("assistant", "")]
    (rendering,) = make(TEMPLATES["project"]).conversation(messages, last_only=True)
    assert trained(rendering) == ["<|im_end|>"]


def test_a_prompt_is_cut_as_in_training(make: Any) -> None:
    for name in ("project", "always thinks", "default system", "begin of text", "two ends"):
        renderer = make(TEMPLATES[name])
        (rendering,) = renderer.conversation(CONVERSATIONS["multi"])
        prompt = renderer.prompt(CONVERSATIONS["multi"][:-1])
        shown = [(segment.text, segment.said) for segment in prompt.segments]
        whole = [(segment.text, segment.said) for segment in rendering.segments]
        assert shown == whole[: len(shown)]
        assert prompt.segments[-1].role == "assistant" and not trained(prompt)


def test_literal_markers_in_a_prompt(make: Any) -> None:
    prompt = make(TEMPLATES["project"]).prompt([Message("user", LITERAL)])
    assert "".join(segment.text for segment in prompt.segments) == (
        f"<|im_start|>user\n{LITERAL}<|im_end|>\n<|im_start|>assistant\n"
    )


def test_empty_think_blocks_are_removed_where_the_template_wrote_them(make: Any) -> None:
    messages = [Message("user", "<think>\n\n</think>\n\n?"), Message("assistant", "b")]
    (kept,) = make(TEMPLATES["always thinks"]).conversation(messages)
    (rendering,) = make(TEMPLATES["always thinks"]).conversation(messages, remove_empty_think=True)
    text = "".join(segment.text for segment in rendering.segments)
    assert text == ("<|im_start|>user\n<think>\n\n</think>\n\n?<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n")
    assert trained(rendering) == trained(kept) == ["b", "<|im_end|>"]
