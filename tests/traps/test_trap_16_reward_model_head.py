"""A reward model's score is read at the last real token: by length, never by a padding id, in training and after."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.rewards.scorer import RewardScorer
from engine.runs.folder import RunFolder
from engine.text.batching import Batch, make_batch
from engine.text.messages import Message
from engine.text.records import open_records
from engine.text.tokenizer import Tokenizer
from tests.stages.assembled import Assembled, assemble, shake
from tests.training.tiny import World


def _shaken(world: World, name: str = "", **settings: Any) -> Assembled:
    """A reward stage whose weights are all about, so that scores differ from token to token."""
    made = assemble(world.begun("reward", name, **settings))
    shake(made.stage._scorer, 0.2)
    made.stage._scorer.eval()
    return made


@torch.no_grad()
def _values(made: Assembled, ids: NDArray[np.int64]) -> Tensor:
    """A value for each token of one document alone."""
    one = Batch(ids, np.ones(len(ids), dtype=np.float32), np.array([0, len(ids)]), np.zeros(1), np.zeros(1), 0)  # type: ignore[arg-type]
    moved = made.stage.to_device(one)
    found: Tensor = made.stage._scorer(moved.tokens, moved.positions, moved.attention)
    return found


def _end(document: Batch) -> int:
    """The place of the end-of-turn token."""
    return int(np.flatnonzero(document.loss_weights)[-1])


@torch.no_grad()
def test_it_is_read_at_the_end_of_turn_token_whatever_else_is_in_the_batch(world: World) -> None:
    made = _shaken(world)
    stops, store = made.stage.encoder.tokenizer.stop_ids, made.stage.store
    whole = make_batch(store, np.arange(12), slots=0)
    scores = made.stage._scores(whole)
    for number, document in enumerate(whole.documents()):
        end = _end(document)
        assert document.input_ids[end] in stops
        values = _values(made, document.input_ids)
        assert float(scores[number]) == pytest.approx(float(values[end]), abs=1e-5)
        assert abs(float(values[end] - values[end - 1])) > 1e-3 < abs(float(values[end] - values[-1]))
        alone = made.stage._scores(make_batch(store, np.array([number]), slots=0))
        assert float(scores[number]) == pytest.approx(float(alone[0]), abs=1e-5)


@torch.no_grad()
def test_what_follows_the_answer_is_not_read(world: World) -> None:
    """The line break of the template, or anything else that stands there."""
    made = _shaken(world)
    [document] = make_batch(made.stage.store, np.array([3]), slots=0).documents()
    assert _end(document) < len(document.input_ids) - 1
    changed = document.input_ids.copy()
    changed[_end(document) + 1 :] = 77
    assert torch.equal(made.stage._scores(document), made.stage._scores(replace(document, input_ids=changed)))
    changed[_end(document) - 1] = 77
    assert not torch.equal(made.stage._scores(document), made.stage._scores(replace(document, input_ids=changed)))


def test_the_loss_is_of_these_scores(world: World) -> None:
    made = _shaken(world, learning_rate=1e-30)
    [batches] = made.stage.collect(0)
    scores = [float(_values(made, d.input_ids)[_end(d)]) for batch in batches for d in batch.documents()]
    margins = np.array(scores[::2]) - np.array(scores[1::2])
    outcome = made.step(batches)
    assert outcome.loss == pytest.approx(np.log1p(np.exp(-margins)).mean(), rel=1e-4)
    assert outcome.terms["accuracy"] == pytest.approx((margins > 0).mean())
    assert outcome.terms["score"] == pytest.approx(np.mean(scores), abs=1e-4)


def _padded_alike(world: World, folder: Path) -> World:
    """The world with a tokenizer whose padding token is its end-of-turn token, as SmolLM2's."""
    tokenizer = Tokenizer.load(world.tokenizer)
    tokenizer.special_tokens["pad_token"] = tokenizer.special_tokens["eos_token"]
    tokenizer.save(folder)
    changed = replace(world, tokenizer=folder)
    loaded = Tokenizer.load(folder)
    assert loaded.pad_id == loaded.eos_id
    return changed


@pytest.mark.parametrize("alike", [False, True], ids=["pad", "pad is eos"])
@pytest.mark.parametrize(
    "shape", [{"qk_norm": True}, {"qk_norm": False, "tie_word_embeddings": False}], ids=["qwen3", "llama"]
)
def test_transformers_gives_the_same_scores_of_padded_rows(
    world: World, alike: bool, shape: dict[str, Any], tmp_path: Path
) -> None:
    """The saved folder with its own tokenizer: rows that end with their end-of-turn token, padded to one length."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    used = _padded_alike(world, tmp_path / "alike") if alike else world
    used.trained("sft", "shaped", max_steps=1, **shape)
    made = _shaken(used, start_from="shaped", max_steps=1)
    folder = tmp_path / "saved"
    folder.mkdir()
    made.stage.save_model(folder)
    theirs, padding = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert type(theirs).__name__ == ("Qwen3" if shape["qk_norm"] else "Llama") + "ForSequenceClassification"
    batch = make_batch(made.stage.store, np.arange(8), slots=0)
    rows = [document.input_ids[: _end(document) + 1].tolist() for document in batch.documents()]
    assert len({len(row) for row in rows}) > 2
    assert {row[-1] for row in rows} == {made.stage.encoder.tokenizer.eos_id}
    with torch.no_grad():
        ours = made.stage._scores(batch)
        for side in ("right", "left"):
            padding.padding_side = side
            found = theirs(**padding.pad({"input_ids": rows}, return_tensors="pt")).logits[:, 0]
            assert (found - ours).abs().max() <= 1e-5


@pytest.fixture
def judge(world: World) -> RunFolder:
    """A reward model that tells answers apart."""
    return world.trained("reward", "judge", max_steps=20, learning_rate=1e-2)


def _rows(world: World) -> list[tuple[tuple[Message, ...], str]]:
    """Prompts and answers of the pairs."""
    records = list(open_records(world.pairs).records())[:10]
    return [(side[:-1], side[-1].content) for record in records for side in (record.messages, record.rejected)]


def test_answers_of_reinforcement_learning_are_scored_where_training_reads(world: World, judge: RunFolder) -> None:
    """The text of an answer goes through the same template and is read at the same token as the pairs were."""
    made = assemble(world.begun("reward", "again", start_from="judge", max_seq_len=128))
    made.stage.load_model(judge.select("newest"))
    made.stage._scorer.eval()
    scorer = RewardScorer(judge.select("newest"), torch.device("cpu"))
    scores = scorer(_rows(world))
    assert np.std(scores) > 0.05
    with torch.no_grad():
        expected = made.stage._scores(make_batch(made.stage.store, np.arange(20), slots=0)).tolist()
    assert scores == pytest.approx(expected, abs=1e-5)


def test_a_score_does_not_depend_on_what_is_scored_beside_it(world: World, judge: RunFolder) -> None:
    scorer, rows = RewardScorer(judge.select("newest"), torch.device("cpu")), _rows(world)
    together = scorer(rows)
    assert [scorer([row])[0] for row in rows] == pytest.approx(together, abs=1e-5)
    assert scorer(rows[::-1])[::-1] == pytest.approx(together, abs=1e-5)


def test_an_empty_answer_is_read_at_its_end_of_turn_token_too(world: World, judge: RunFolder) -> None:
    """What a policy says that ends at once: the line break after its end is not what training read."""
    scorer = RewardScorer(judge.select("newest"), torch.device("cpu"))
    prompt, _ = _rows(world)[0]
    for text in ("", " ", "bread"):
        sample = scorer._sample(prompt, text)
        assert sample.input_ids[np.flatnonzero(sample.loss_weights)[-1]] == Tokenizer.load(judge.tokenizer).eos_id


def test_stages_use_it_so(world: World, judge: RunFolder) -> None:
    """The part `model` of the reward in a real round."""
    settings: dict[str, Any] = {"rewards": {"model": 1.0}, "reward_model": "judge", "reward_model_clip": 100.0}
    made = assemble(world.begun("grpo", **settings))
    shutil.rmtree(judge.path)  # the run keeps its own
    scorer = RewardScorer(made.stage.context.run.companion("reward_model"), torch.device("cpu"))
    groups = made.stage.answer([0, 1], 4, "rollout", 0)
    for answer in (answer for group in groups for answer in group):
        [score] = scorer([(answer.record.messages, answer.text)])
        assert answer.scored.parts["model"] == pytest.approx(score, abs=1e-5)
