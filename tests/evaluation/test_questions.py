"""What counts as a question, and as its right answer."""

import json
from pathlib import Path

import pytest
import torch

from engine.evaluation.questions import Question, exact_match, is_right, question_of
from engine.generation.chat import ChatPartner
from engine.model.config import ModelConfig
from engine.model.families import save_pretrained
from engine.model.transformer import Transformer
from engine.text.messages import Message
from engine.text.records import Record, open_records
from engine.text.tokenizer import Tokenizer


def _records(path: Path, rows: list[dict[str, object]]) -> list[Record]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return list(open_records(path).records())


def test_questions_are_found_in_every_shape_that_has_an_answer(tmp_path: Path) -> None:
    asked = {"role": "user", "content": "1+1?"}
    rows: list[dict[str, object]] = [
        {"question": "1+1?", "answer": "2", "lang": "en"},
        {"prompt": "1+1?", "completion": "2"},
        {"instruction": "1+1?", "input": "", "output": "2"},
        {"conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]},
        {"messages": [asked, {"role": "assistant", "content": "2"}]},
        {"conversations": [asked, {"role": "assistant", "content": ""}], "gt": ["2"]},
    ]
    found = [question_of(record) for record in _records(tmp_path / "rows.jsonl", rows)]
    assert [(each.messages[-1].content, each.expected) for each in found if each] == [("1+1?", "2")] * len(rows)
    assert [each.bare for each in found if each] == [False] * 5 + [True]
    assert found[0] and found[0].labels == {"lang": "en"}


def test_rows_without_a_known_answer_are_no_questions(tmp_path: Path) -> None:
    asked = {"role": "user", "content": "1+1?"}
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "add", "arguments": {}}]}
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    rows: list[dict[str, object]] = [
        {"text": "1+1=2"},
        {"messages": [asked]},
        {"messages": [asked, call], "tools": [tool]},
        {"messages": [asked, {"role": "assistant", "content": "2"}], "tools": [tool]},
    ]
    assert [question_of(record) for record in _records(tmp_path / "rows.jsonl", rows)] == [None] * len(rows)


@pytest.mark.parametrize(
    ("expected", "bare", "said", "right"),
    [
        ("2", False, " 2\n", True),
        ("2", False, "2.", False),
        ("2", True, "1+1 is <answer> 2 </answer>", True),
        ("2", True, "<answer>3</answer> 2", False),
        ("2", False, "<answer>2</answer>", False),
        ("2", False, "<think>\nhm\n</think>\n\n2", True),
        ("2", True, "<think><answer>3</answer></think><answer>2</answer>", True),
        ("<think>hm</think>2", False, "<think>hm</think>2", True),
        ("<think>hm</think>2", False, "2", False),
    ],
)
def test_right_answers(expected: str, bare: bool, said: str, right: bool) -> None:
    assert is_right(Question((), expected, bare, {}), said) is right


def test_questions_that_cannot_be_asked_count_as_wrong(tokenizer: Tokenizer, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    tokenizer.save(tmp_path)
    save_pretrained(tmp_path, Transformer(config), bos_token_id=None, eos_token_id=[], pad_token_id=None)
    partner = ChatPartner(tmp_path)
    questions = [
        Question((Message("user", text),), "never said", False, {"size": size})
        for text, size in (("who?", "short"), ("who? " * 200, "long"))
    ]
    found = exact_match(partner, questions, max_new_tokens=4)
    assert (found["questions"], found["not_asked"], found["exact_match"]) == (2, 1, 0)
    assert found["wrong"][1]["said"] == ""
    assert found["by"]["size"]["long"] == {"questions": 1, "exact_match": 0}
