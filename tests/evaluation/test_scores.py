"""Log-probabilities of given tokens against transformers, and the figures of a pair against numbers by hand."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import UserError
from engine.evaluation.scores import Comparison, PairScore, Scorer, compare, score_pair
from engine.model.config import ModelConfig
from engine.model.families import save_pretrained
from engine.model.transformer import Transformer
from engine.text.encode import Encoder, EncodeSettings
from engine.text.messages import Message
from engine.text.records import Record
from engine.text.sample import Pair, Sample
from engine.text.tokenizer import Tokenizer
from engine.text.tokenizer_training import train_tokenizer


def _save(folder: Path, tokenizer: Tokenizer, seed: int, **changes: Any) -> Path:
    """A checkpoint with random weights, large enough that its opinions differ from token to token."""
    torch.manual_seed(seed)
    shape = {
        "vocab_size": tokenizer.vocab_size, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 32, "max_position_embeddings": 64,
        "initializer_range": 0.3, **changes,
    }  # fmt: skip
    folder.mkdir(parents=True)
    tokenizer.save(folder)
    save_pretrained(folder, Transformer(ModelConfig(**shape)), bos_token_id=None, eos_token_id=[], pad_token_id=None)
    return folder


@pytest.fixture(scope="module")
def policy(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    return Scorer(_save(tmp_path_factory.mktemp("policy") / "model", tokenizer, 1))


@pytest.fixture(scope="module")
def reference(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    return Scorer(_save(tmp_path_factory.mktemp("reference") / "model", tokenizer, 2))


@pytest.fixture
def pair(tokenizer: Tokenizer) -> Pair:
    asked = Message("user", "one plus two?")
    sides = [(asked, Message("assistant", answer)) for answer in ("three", "one, and the fox")]
    record = Record(row=0, line=1, shape="pair", format="minimind-pair", messages=sides[0], rejected=sides[1])
    return Encoder(tokenizer, EncodeSettings(max_seq_len=64)).encode_pair(record)


def _sample(ids: list[int]) -> Sample:
    return Sample(np.array(ids, dtype=np.int32), np.ones(len(ids), dtype=np.float32), ())


def test_logprobs_are_transformers_own(policy: Scorer, pair: Pair) -> None:
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(policy.folder)
    for sample, found in zip((pair.chosen, pair.rejected), policy.pair(pair), strict=True):
        ids = torch.from_numpy(sample.input_ids.astype(np.int64))
        with torch.no_grad():
            table = theirs(ids[None]).logits[0].log_softmax(-1)
        assert len(found) == len(sample) and math.isnan(found[0])
        assert found[1:] == pytest.approx(table[:-1].gather(1, ids[1:, None])[:, 0].tolist(), abs=2e-5)


def test_the_edges_of_a_sample(policy: Scorer) -> None:
    assert policy.logprobs(_sample([])) == []
    [alone] = policy.logprobs(_sample([5]))
    assert math.isnan(alone)


def test_half_precision_says_nearly_the_same(policy: Scorer, pair: Pair) -> None:
    half = Scorer(policy.folder, torch.bfloat16)
    assert half.logprobs(pair.chosen)[1:] == pytest.approx(policy.logprobs(pair.chosen)[1:], abs=0.3)


def test_a_pair_by_hand() -> None:
    chosen = Comparison([math.nan, -1.0, -2.0], [math.nan, -1.5, -4.0], 2, -3.0, -5.5)
    rejected = Comparison([math.nan, -3.0], [math.nan, -2.0], 1, -3.0, -2.0)
    found = PairScore(chosen, rejected, beta=0.1)
    assert chosen.difference[1:] == [0.5, 2.0]
    assert (found.chosen_reward, found.rejected_reward) == pytest.approx((0.25, -0.1))
    assert found.margin == pytest.approx(0.35)
    assert found.loss == pytest.approx(0.533382, abs=1e-6)  # ln(1 + e^−0.35) = ln 1.704688
    worse = PairScore(rejected, chosen, beta=0.1)
    assert worse.loss == pytest.approx(found.loss + 0.35)  # −log σ(−m) = m − log σ(m)
    assert PairScore(rejected, chosen, beta=1e5).loss == pytest.approx(3.5e5)  # no overflow


def test_only_trained_tokens_are_summed(policy: Scorer, reference: Scorer, pair: Pair) -> None:
    found = score_pair(pair, policy, reference, beta=0.5)
    for sample, side, own in zip((pair.chosen, pair.rejected), (found.chosen, found.rejected), policy.pair(pair),
                                 strict=True):  # fmt: skip
        trained = [place for place, weight in enumerate(sample.loss_weights) if weight]
        assert 0 < side.trained == len(trained) < len(sample) - 1
        assert side.policy_sum == pytest.approx(sum(own[place] for place in trained), rel=1e-6)
        other = reference.logprobs(sample)
        assert side.difference[1:] == pytest.approx([a - b for a, b in zip(own[1:], other[1:], strict=True)])
    logits = found.chosen.policy_sum - found.chosen.reference_sum
    logits -= found.rejected.policy_sum - found.rejected.reference_sum
    expected = -torch.nn.functional.logsigmoid(torch.tensor(0.5 * logits, dtype=torch.float64))
    assert found.loss == pytest.approx(float(expected), rel=1e-6)


def test_a_policy_that_is_its_reference(policy: Scorer, pair: Pair) -> None:
    found = score_pair(pair, policy, policy)
    assert (found.margin, found.loss) == (0, pytest.approx(math.log(2)))
    assert compare(pair.chosen, policy, policy).difference[1:] == [0.0] * (len(pair.chosen) - 1)


def test_too_long_and_unknown_samples_are_refused(policy: Scorer) -> None:
    policy.logprobs(_sample([3] * 64))
    with pytest.raises(UserError, match="65 tokens, this checkpoint reads at most 64"):
        policy.logprobs(_sample([3] * 65))
    for odd in (policy.tokenizer.vocab_size, -1):
        with pytest.raises(UserError, match="does not know"):
            policy.logprobs(_sample([1, odd]))


def test_another_tokenizer_is_refused(policy: Scorer, pair: Pair, tmp_path: Path) -> None:
    policy.check(policy.tokenizer)
    other = train_tokenizer(["quite other words, 完全不同的词"] * 20, 400)
    with pytest.raises(UserError, match="another tokenizer"):
        policy.check(other)
    with pytest.raises(UserError, match="another tokenizer"):
        score_pair(pair, policy, Scorer(_save(tmp_path / "other", other, 3)))
    with pytest.raises(UserError, match="the model only 250"):
        Scorer(_save(tmp_path / "small", other, 3, vocab_size=250))
