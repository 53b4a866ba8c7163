"""Pairs scored in batches against row by row."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2ForSequenceClassification

from engine.errors import CheckpointError, DataError, UserError
from engine.evaluation import pairs
from engine.evaluation.evaluate import evaluate
from engine.evaluation.pairs import preferred_share
from engine.evaluation.passes import Trials
from engine.evaluation.scores import Scorer, score_pair
from engine.generation.settings import SamplingSettings
from engine.model.attention import DocumentAttention
from engine.model.families import load_pretrained
from engine.model.heads import ScalarModel, save_scalar_model
from engine.rewards.scorer import load_scorer
from engine.text.encode import Encoder, EncodeSettings
from engine.text.records import open_records
from engine.text.tokenizer import Tokenizer
from engine.text.tokenizer_training import train_tokenizer
from tests.evaluation.helpers import pair, save_model, without_template, write_rows


@pytest.fixture(scope="module")
def policy(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("policy"), tokenizer, 1)


@pytest.fixture(scope="module")
def reference(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("reference"), tokenizer, 2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of many lengths, some longer than what the models read."""
    dice, words = random.Random(3), ["one", "two", "three", "fox", "dog", "sun", "小狐狸", "等于", "?"]
    texts = [[" ".join(dice.choices(words, k=dice.randint(1, 30))) for _ in range(3)] for _ in range(40)]
    return write_rows(tmp_path_factory.mktemp("data") / "pairs.jsonl", (pair(*each) for each in texts))


def test_accuracies_are_those_of_scoring_row_by_row(
    policy: Path, reference: Path, data: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "_BATCH_TOKENS", 200)  # many batches
    told: list[tuple[str, float]] = []
    found = evaluate(policy, data, reference=reference, beta=0.3, progress=lambda *each: told.append(each))
    encoder, scorers = Encoder(tokenizer, EncodeSettings(64)), (Scorer(policy), Scorer(reference))
    scores = [score_pair(encoder.encode_pair(record), *scorers, beta=0.3) for record in open_records(data).records()]
    sums = [each.chosen.policy_sum > each.rejected.policy_sum for each in scores]
    means = [
        each.chosen.policy_sum / each.chosen.trained > each.rejected.policy_sum / each.rejected.trained
        for each in scores
    ]
    assert sums != means and 0 < sum(sums) < 40
    assert (found["shape"], found["pairs"], found["not_scored"]) == ("pair", 40, 0)
    assert found["pair_accuracy"] == sum(sums) / 40
    assert found["pair_accuracy_per_token"] == sum(means) / 40
    assert found["implicit_accuracy"] == sum(each.margin > 0 for each in scores) / 40
    assert found["implicit_margin"] == pytest.approx(math.fsum(each.margin for each in scores) / 40, rel=1e-4)
    assert [what for what, done in told if done == 1] == ["pairs", "reference"] and len(told) > 20


def test_a_model_beside_itself_prefers_nothing(policy: Path, data: Path) -> None:
    found = evaluate(policy, data, reference=policy, max_rows=7)
    assert (found["pairs"], found["implicit_accuracy"], found["implicit_margin"], found["beta"]) == (7, 0.5, 0, 0.1)


def test_a_reward_model_scores_the_end_of_each_answer(
    policy: Path, data: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "_BATCH_TOKENS", 200)
    torch.manual_seed(5)
    model = ScalarModel(load_pretrained(policy), torch.randn(1, 16))
    tokenizer.save(tmp_path)
    save_scalar_model(tmp_path, model, pad_token_id=None, bos_token_id=None, eos_token_id=None)
    found = evaluate(tmp_path, data)
    encoder, margins = Encoder(tokenizer, EncodeSettings(64)), []
    for record in open_records(data).records():
        sides = encoder.encode_pair(record)
        scores = []
        for sample in (sides.chosen, sides.rejected):
            ids = torch.from_numpy(sample.input_ids.astype(np.int64))[: np.flatnonzero(sample.loss_weights)[-1] + 1]
            with torch.no_grad():
                scores.append(float(model(ids, torch.arange(len(ids)), DocumentAttention([0, len(ids)]))[-1]))
        margins.append(scores[0] - scores[1])
    assert found["pairs"] == 40 and found["margin"] == pytest.approx(sum(margins) / 40, rel=1e-4)
    assert found["pair_accuracy"] == sum(margin > 0 for margin in margins) / 40
    assert 0 < found["calibration_error"] < 1
    with pytest.raises(UserError, match="no reference"):
        evaluate(tmp_path, data, reference=policy)


def test_a_reward_model_of_another_family_scores_by_messages(
    data: Path, tokenizer: Tokenizer, policy: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "gpt2"
    tokenizer.save(folder)
    torch.manual_seed(3)
    config = GPT2Config(vocab_size=tokenizer.vocab_size, n_embd=16, n_layer=1, n_head=2, initializer_range=0.5)
    config.num_labels = 1
    GPT2ForSequenceClassification(config).save_pretrained(folder)
    odd = [pair("who?", "fox", "dog") | {"rejected": [{"role": "user", "content": "who?"}]}, pair("who?", "a", "a")]
    rows = write_rows(tmp_path / "pairs.jsonl", [*map(json.loads, data.read_text().splitlines()), *odd, {"text": "a"}])
    told: list[tuple[str, float]] = []
    found = evaluate(folder, rows, progress=lambda *each: told.append(each))
    scorer = load_scorer(folder, torch.device("cpu"))
    margins = []
    for record in open_records(data).records():
        sides = [(side[:-1], side[-1].content) for side in (record.messages, record.rejected)]
        chosen, rejected = scorer(sides)
        margins.append(chosen - rejected)
    assert (found["pairs"], found["not_scored"]) == (40, 3) and told[-1] == ("pairs", 1.0)
    assert found["margin"] == pytest.approx(sum(margins) / 40, rel=1e-4)
    assert found["pair_accuracy"] == sum(margin > 0 for margin in margins) / 40
    with pytest.raises(UserError, match="whole conversations"):
        evaluate(folder, rows, max_seq_len=20)
    with pytest.raises(DataError, match="no pair has two answers"):
        evaluate(folder, write_rows(tmp_path / "none.jsonl", odd))


def test_equal_scores_count_half() -> None:
    assert preferred_share(np.array([1.0, 1e-12, 0.0, -1.0, 0.0])) == pytest.approx((1 + 1 + 0.5 + 0 + 0.5) / 5)


def test_without_a_reference_there_is_no_implicit_reward(policy: Path, data: Path) -> None:
    found = evaluate(policy, data, max_rows=3)
    assert set(found) == {
        "model", "data", "shape", "pairs", "not_scored", "pair_accuracy", "pair_accuracy_per_token",
    }  # fmt: skip


def test_rows_without_two_answers_are_counted(policy: Path, tmp_path: Path) -> None:
    unanswered = pair("who?", "fox", "dog") | {"rejected": [{"role": "user", "content": "who?"}]}
    odd = [unanswered, {"text": "no pair"}, pair("who?", "fox", "fox")]
    rows = [pair("who?", "fox", "dog"), *odd, pair("where?", "in the sun", "one")]
    found = evaluate(policy, write_rows(tmp_path / "pairs.jsonl", rows))
    assert (found["pairs"], found["not_scored"]) == (2, 3)
    with pytest.raises(DataError, match="no pair has two answers"):
        evaluate(policy, write_rows(tmp_path / "none.jsonl", [unanswered]))


def test_a_tokenizer_without_a_template_is_refused(tokenizer: Tokenizer, data: Path, tmp_path: Path) -> None:
    bare = without_template(save_model(tmp_path / "bare", tokenizer))
    with pytest.raises(DataError, match="no chat template"):
        evaluate(bare, data)


def test_a_reference_with_another_tokenizer_is_refused(policy: Path, data: Path, tmp_path: Path) -> None:
    other = save_model(tmp_path / "other", train_tokenizer(["other words, other tokens"] * 4, 300))
    with pytest.raises(CheckpointError, match="another tokenizer"):
        evaluate(policy, data, reference=other)


def test_longer_sides_than_a_model_reads_are_refused(policy: Path, data: Path) -> None:
    assert evaluate(policy, data, max_seq_len=20)["pairs"] == 40
    with pytest.raises(UserError, match="no more than 64 tokens"):
        evaluate(policy, data, max_seq_len=65)


def test_samples_and_references_need_their_shapes(policy: Path, data: Path, tmp_path: Path) -> None:
    trials = Trials(2, (1,), SamplingSettings())
    with pytest.raises(DataError, match="no questions to sample answers to"):
        evaluate(policy, data, trials=trials)
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": "the fox"}])
    with pytest.raises(DataError, match="no two sides"):
        evaluate(policy, texts, reference=policy)
    prompts = write_rows(tmp_path / "prompts.jsonl", [{"messages": [{"role": "user", "content": "who?"}]}])
    with pytest.raises(DataError, match="no row is a question with a known answer"):
        evaluate(policy, prompts, trials=trials)
