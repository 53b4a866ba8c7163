"""A checkpoint measured on files of every shape, watched and stopped."""

import json
import math
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.errors import DataError, Interrupted
from engine.evaluation.evaluate import evaluate
from engine.evaluation.scores import Scorer
from engine.model.config import ModelConfig
from engine.model.families import save_pretrained
from engine.model.transformer import Transformer
from engine.text.encode import Encoder, EncodeSettings
from engine.text.records import open_records
from engine.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, intermediate_size=32, max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("model")
    tokenizer.save(folder)
    save_pretrained(folder, Transformer(config), bos_token_id=None, eos_token_id=[], pad_token_id=None)
    return folder


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _talks(path: Path, count: int = 12) -> Path:
    rows = [
        [{"role": "user", "content": f"one plus {number}?"}, {"role": "assistant", "content": "three"}]
        for number in range(count)
    ]
    return _write(path, [{"messages": talk, "lang": "en"} for talk in rows])


def test_the_loss_is_that_of_every_trained_token(model: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    data = _write(tmp_path / "texts.jsonl", [{"text": "the quick fox " * count} for count in (1, 9, 40)])
    said: list[tuple[str, float]] = []
    found = evaluate(model, data, progress=lambda *heard: said.append(heard))
    assert "questions" not in found and said[0] == ("encoding", 0.0) and said[-1] == ("loss", 1.0)
    scorer, encoder = Scorer(model), Encoder(tokenizer, EncodeSettings(64, "all"))
    losses = [
        -value
        for record in open_records(data).records()
        for sample in encoder.encode(record)
        for value, weight in zip(scorer.logprobs(sample), sample.loss_weights, strict=True)
        if weight
    ]
    assert found["tokens"] == len(losses) > 100
    assert found["loss"] == pytest.approx(math.fsum(losses) / len(losses), rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))


def test_answers_are_listed_when_asked_for(model: Path, tmp_path: Path) -> None:
    data = _talks(tmp_path / "talks.jsonl")
    said: list[tuple[str, float]] = []
    found = evaluate(model, data, max_new_tokens=3, batch_size=5, answers=True, progress=lambda *a: said.append(a))
    assert [done for what, done in said if what == "questions"] == pytest.approx([0, 5 / 12, 10 / 12, 1])
    assert [answer["row"] for answer in found["answers"]] == list(range(12))
    assert found["answers"][3]["prompt"] == "one plus 3?" and found["answers"][3]["expected"] == "three"
    assert {answer["stop_reason"] for answer in found["answers"]} <= {"stop", "length"}
    assert found["exact_match"] == sum(answer["right"] for answer in found["answers"]) / 12
    assert [set(each) for each in found["wrong"]] == [{"prompt", "expected", "said"}] * 10
    assert "answers" not in evaluate(model, data, max_rows=2, max_new_tokens=1)


def test_a_right_answer_is_listed_as_right(model: Path, tmp_path: Path) -> None:
    data = _write(tmp_path / "prompts.jsonl", [{"conversations": [{"role": "user", "content": "fox?"},
                  {"role": "assistant", "content": ""}], "gt": [gt]} for gt in ("never", "?")])  # fmt: skip
    first = evaluate(model, data, max_new_tokens=4, answers=True)
    assert "loss" not in first and [answer["right"] for answer in first["answers"]] == [False, False]
    rows = [{"question": "fox?", "answer": answer["said"]} for answer in first["answers"]]
    again = evaluate(model, _write(tmp_path / "said.jsonl", rows), max_new_tokens=4, answers=True)
    assert [answer["right"] for answer in again["answers"]] == [True, True] and again["exact_match"] == 1


@pytest.mark.parametrize("moment", ["before", "encoding", "loss", "questions", "between two tokens"])
def test_it_can_be_given_up_at_any_moment(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    stop, passes = threading.Event(), 0
    if moment == "before":
        stop.set()
    forward = Transformer.forward

    def counted(*given: Any) -> torch.Tensor:
        nonlocal passes
        passes += 1
        if moment == "between two tokens" and passes == 4:  # one over the rows, then token by token
            stop.set()
        return forward(*given)

    monkeypatch.setattr(Transformer, "forward", counted)
    with pytest.raises(Interrupted):
        evaluate(
            model,
            _talks(tmp_path / "talks.jsonl"),
            max_new_tokens=40,
            stop=stop,
            progress=lambda what, _: stop.set() if what == moment else None,
        )
    assert passes == {"before": 0, "encoding": 0, "loss": 0, "questions": 1, "between two tokens": 4}[moment]


def test_what_cannot_be_measured_is_refused(model: Path, tmp_path: Path) -> None:
    data = _write(tmp_path / "prompts.jsonl", [{"messages": [{"role": "user", "content": "who?"}]}])
    with pytest.raises(DataError, match="cannot be measured"):
        evaluate(model, data)
