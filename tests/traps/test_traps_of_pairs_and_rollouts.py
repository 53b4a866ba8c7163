"""Traps 2, 4, 5 and 9 where they concern pairs and rollouts; each file of one trap shows the rest."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.objectives.log_probs import linear_log_probs
from engine.objectives.sequences import means, sums
from engine.session import begin
from engine.text.batching import Batch
from engine.text.encode import Encoder, EncodeSettings
from engine.text.records import open_records
from engine.text.sample import Sample
from engine.text.shapes import Record
from engine.text.store import SampleStore, collect
from engine.text.tokenizer import Tokenizer
from tests.stages.assembled import Assembled, answer_log_probs, assemble
from tests.training.tiny import OF_STAGE, World, request

ASKED = {"role": "user", "content": "who gives what?"}


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _pair(chosen: str, rejected: str, question: str = "") -> dict[str, Any]:
    asked = {**ASKED, "content": question or ASKED["content"]}
    sides = {"chosen": chosen, "rejected": rejected}
    return {name: [asked, {"role": "assistant", "content": said}] for name, said in sides.items()}


def _assembled(world: World, stage: str, data: Path, name: str = "", start: str = "start", **changes: Any) -> Assembled:
    settings = {**OF_STAGE[stage], "val_fraction": 0.0, **changes}
    return assemble(begin(request(stage, data, world.tokenizer, name, start, **settings)))


def _documents(made: Assembled, rounds: int = 1) -> list[Batch]:
    steps = [step for number in range(rounds) for step in made.stage.collect(number)]
    return [document for step in steps for batch in step for document in batch.documents()]


# 2: nothing to train on


class _Forgetful(Encoder):
    """Leaves nothing to train on the second side of row 1 and the first side of row 2."""

    def encode(self, record: Record) -> list[Sample]:
        samples = super().encode(record)
        for row, side in ((1, 1), (2, 0)):
            if record.row == row:
                samples[side] = replace(samples[side], loss_weights=np.zeros_like(samples[side].loss_weights))
        return samples


def test_trap_02_a_side_without_trained_tokens_takes_its_pair_with_it(world: World, tmp_path: Path) -> None:
    """The other side must not find another partner."""
    rows = [_pair("bread", "two books", str(number)) for number in range(4)]
    records = open_records(_write(tmp_path / "pairs.jsonl", rows)).records()
    tokenizer = Tokenizer.load(world.tokenizer)
    parts = collect(records, _Forgetful(tokenizer, EncodeSettings(64)), ("pair",))
    SampleStore.write(tmp_path / "store", parts, tokenizer.vocab_size)
    store = SampleStore(tmp_path / "store")
    assert store.columns["rows"].tolist() == [0, 0, 3, 3] and store.meta["counts"]["without_trained"] == 2
    said = [tokenizer.decode(store.ids(index)[store.weights(index) > 0].tolist()) for index in range(4)]
    assert said == ["bread<|im_end|>", "two books<|im_end|>"] * 2


@pytest.mark.parametrize("stage", ["dpo", "reward"])
def test_trap_02_an_empty_answer_still_ends(world: World, tmp_path: Path, stage: str) -> None:
    """With an end-of-turn token there is one token to compare: the pair is kept, and no mean is 0/0."""
    data = _write(tmp_path / "pairs.jsonl", [_pair("bread", ""), _pair("", "bread", "who?")])
    extra = {"loss_type": "sigmoid_norm"} if stage == "dpo" else {}
    made = _assembled(world, stage, data, **extra)
    lengths = [int((document.loss_weights > 0).sum()) for document in _documents(made)]
    assert len(lengths) == 4 and min(lengths) == 1 < max(lengths)
    assert np.isfinite(made.round(0)[0].loss) and made.round(1)[0].applied


def test_trap_02_nothing_in_means_nothing_out_with_a_live_graph() -> None:
    hidden, head = torch.zeros(0, 4, requires_grad=True), torch.ones(7, 4, requires_grad=True)
    log_probs, _ = linear_log_probs(hidden, head, torch.zeros(0, dtype=torch.long))
    nobody = torch.zeros(0, dtype=torch.long)
    total = sums(log_probs, nobody, 2).sum() + means(log_probs, nobody, 2).sum()
    assert float(total.detach()) == 0
    total.backward()
    assert head.grad is None or not head.grad.any()


# 4: the padding token is the end token


@pytest.fixture
def alike(world: World, tmp_path: Path) -> World:
    """A tokenizer whose padding token is its end-of-turn token, and a start run of it."""
    tokenizer = Tokenizer.load(world.tokenizer)
    tokenizer.special_tokens["pad_token"] = tokenizer.special_tokens["eos_token"]
    tokenizer.save(tmp_path / "alike")
    changed = replace(world, tokenizer=tmp_path / "alike")
    changed.trained("sft", "alike")
    assert Tokenizer.load(tmp_path / "alike").pad_id == tokenizer.eos_id
    return changed


def test_trap_04_pairs_and_answers_learn_to_end_although_pad_is_eos(world: World, alike: World) -> None:
    """The same losses as with a padding token of its own: no id decides what is trained."""
    for stage in ("dpo", "reward", "grpo", "ppo"):
        losses = []
        for start, used in (("start", world), ("alike", alike)):
            made = assemble(used.begun(stage, f"{stage}-{start}", start_from=start, max_seq_len=96))
            losses.append([outcome.loss for number in range(2) for outcome in made.round(number)])
            if stage in ("dpo", "reward"):
                ends = [document.input_ids[np.flatnonzero(document.loss_weights)[-1]] for document in _documents(made)]
                assert {int(end) for end in ends} == {made.stage.encoder.tokenizer.eos_id}
        assert losses[0] == losses[1], stage


# 5: the end-of-turn token


def test_trap_05_both_sides_of_a_pair_learn_to_end(world: World) -> None:
    """The end token's log-probability is part of each side's sum, and nothing after it is."""
    made = assemble(world.begun("dpo", max_seq_len=96))
    [[batch]] = made.stage.collect(0)
    moved = made.stage.to_device(batch)
    found = made.stage._reference_log_probs(batch, moved)
    eos = made.stage.encoder.tokenizer.eos_id
    for number, document in enumerate(batch.documents()):
        expected = answer_log_probs(made.stage.model, document.input_ids, document.loss_weights)
        own = found[moved.documents == number]
        assert torch.allclose(own, expected, atol=1e-5) and len(own) == (document.loss_weights > 0).sum()
        trained = np.flatnonzero(document.loss_weights)
        assert document.input_ids[trained[-1]] == eos and (np.diff(trained) == 1).all()
        assert trained[-1] < len(document.input_ids) - 1, "the template's line break stands behind it"


# 9: what is too long


@pytest.mark.parametrize("stage", ["grpo", "ppo", "spo"])
def test_trap_09_long_prompts_lose_their_start_and_keep_where_the_answer_begins(
    world: World, tmp_path: Path, stage: str
) -> None:
    """The very ids of the store go to the model and to the loss; nothing is decoded and read again."""
    turns = [{"role": ("user", "assistant")[n % 2], "content": f"{n}: who gives bread?"} for n in range(7)]
    rows = [{"conversations": [*turns[:length], {"role": "assistant", "content": "Bo"}]} for length in (1, 3, 5, 7)]
    made = _assembled(world, stage, _write(tmp_path / "talks.jsonl", rows), max_seq_len=40)
    store, tokenizer = made.stage.store, made.stage.encoder.tokenizer
    assert store.columns["truncated"].tolist()[0] == 0 < store.columns["truncated"].max()
    assert store.lengths.max() <= 40
    for index in range(len(store)):
        text = tokenizer.decode(store.ids(index).tolist())
        assert text.startswith("<|im_start|>user\n") and text.endswith("<|im_end|>\n<|im_start|>assistant\n")
    for group in made.stage.answer(list(range(len(store))), 2, "rollout", 0):
        for answer in group:
            assert answer.prompt == store.ids(answer.sample).tolist()
            assert answer.record.answer == "Bo" and answer.record.messages[-1].role == "user"
    for document in (document.batch for step in made.stage.collect(0) for b in step for document in b.documents()):
        prompt = store.ids(int(document.samples[0]))
        assert document.input_ids[: len(prompt)].tolist() == prompt.tolist()
        assert len(document.input_ids) <= 40 + 12


@pytest.mark.parametrize("stage", ["dpo", "reward"])
def test_trap_09_long_pairs_keep_an_answer_on_both_sides(world: World, tmp_path: Path, stage: str) -> None:
    """The same prompt on both, at least the end of each answer, and what was cut is counted."""
    rows = [_pair("bread and " * 40, "books", "who gives?"), _pair("bread", "books " * 40, "what? " * 30)]
    made = _assembled(world, stage, _write(tmp_path / "pairs.jsonl", rows), max_seq_len=24)
    documents = _documents(made)
    assert made.stage.store.columns["truncated"].max() > 100
    for chosen, rejected in zip(documents[::2], documents[1::2], strict=True):
        prompts = [side.input_ids[: np.flatnonzero(side.loss_weights)[0]].tolist() for side in (chosen, rejected)]
        assert prompts[0] == prompts[1] != []
        for side in (chosen, rejected):
            assert len(side.input_ids) <= 24 and (side.loss_weights > 0).any()
    assert np.isfinite(made.round(0)[0].loss)
