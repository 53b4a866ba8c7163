"""Tiny runs of the supervised stages: golden losses, what they leave on disk, what they say."""

from typing import Any

import pytest
import torch

from engine.errors import UserError
from engine.generation.chat import ChatPartner
from engine.generation.sampling import SamplingSettings
from engine.runs.events import Evaluated, Sampled
from engine.session import begin, carry_out
from engine.text.messages import Message
from tests.training.tiny import World, losses, request

GOLDEN = {
    "pretrain": [5.755239, 5.733479, 5.673375, 5.589505, 5.551528, 5.530618],
    "mid-train": [5.753787, 5.735983, 5.666886, 5.596436, 5.559736, 5.528382],
    "sft": [5.764811, 5.724158, 5.666035, 5.593573, 5.543966, 5.524506],
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("stage", ["pretrain", "mid-train", "sft"])
def test_golden_losses(world: World, stage: str) -> None:
    """float32, one thread, a fixed seed: the numbers are those of the day they were written down."""
    run = world.trained(stage, max_steps=6, accumulation_steps=2, dropout=0.1)
    assert losses(run) == pytest.approx(GOLDEN[stage], rel=1e-4)


def test_a_checkpoint_is_a_hugging_face_folder(world: World) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = world.trained("sft")
    folder = run.select("newest")
    theirs, partner = AutoModelForCausalLM.from_pretrained(folder), ChatPartner(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    talk = [{"role": "user", "content": "who gives 小猫?"}]
    ids = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_dict=False)
    assert partner.prompt_ids([Message("user", "who gives 小猫?")]) == ids
    from tests.model.helpers import hidden_of

    with torch.no_grad():
        logits = theirs(torch.tensor([ids])).logits[0]
        assert (partner.model.logits(hidden_of(partner.model, torch.tensor(ids))) - logits).abs().max() <= 1e-4


def test_only_the_answers_are_trained_in_sft_and_everything_in_mid_training(world: World) -> None:
    shares = {}
    for stage in ("mid-train", "sft"):
        run = world.trained(stage, max_steps=1)
        shares[stage] = next(e for e in run.history() if e.type == "step").metrics["trained_share"]  # type: ignore[attr-defined]
    assert 0.1 < shares["sft"] < 0.8 < shares["mid-train"] < 1


@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_samples_answer_the_users_prompts(world: World, stage: str) -> None:
    prompts = ["who gives what?", "x" * 600, ""]
    run = world.trained(stage, max_steps=2, sample_prompts=prompts, sample_tokens=3)
    said = [event for event in run.history() if isinstance(event, Sampled)]
    assert [event.prompt for event in said] == prompts
    assert run.samples.read_text().count("\n") == len(said)


def test_a_single_validation_row(world: World) -> None:
    run = world.trained("pretrain", max_steps=2, val_fraction=0.000001)
    [evaluated] = [event for event in run.history() if isinstance(event, Evaluated)]
    assert evaluated.metrics["val_loss"] > 0


def test_no_validation(world: World) -> None:
    run = world.begun("pretrain", max_steps=2, val_fraction=0.0)
    summary = carry_out(run)
    assert summary["val_loss"] is None and run.select("best") == run.select("newest")


def test_the_next_stage_starts_from_the_weights_of_the_one_before(world: World) -> None:
    first = world.trained("pretrain", "first", max_steps=30, learning_rate=1e-2)
    own: dict[str, Any] = {"max_steps": 1}
    fresh = world.trained("sft", "fresh", **own)
    run = begin(request("sft", world.talks, world.tokenizer, "second", start_from="first", **own))
    carry_out(run)
    assert losses(run)[0] < losses(fresh)[0] - 0.5
    from engine.model.hf_config import read_config

    assert read_config(run.select("newest")) == read_config(first.select("newest"))


def test_chat_streams_whole_characters(world: World) -> None:
    """Random weights say random bytes: whatever is said, the pieces are the decoded whole."""
    partner = ChatPartner(world.trained("sft", max_steps=1).select("newest"))
    settings = SamplingSettings(temperature=3.0, top_p=1.0, max_new_tokens=120, seed=5)
    pieces = list(partner.complete("小猫", settings))
    assert pieces[-1].stop_reason and pieces[-1].tokens <= 120
    again = list(partner.complete("小猫", settings))
    assert [piece.text for piece in again] == [piece.text for piece in pieces]


def test_a_talk_longer_than_the_context_loses_its_oldest_turns(world: World) -> None:
    partner = ChatPartner(world.trained("sft", max_steps=1).select("newest"))
    talk = [Message("user" if turn % 2 == 0 else "assistant", f"{turn}: who gives what? ") for turn in range(41)]
    opened = [Message("system", "You are Bo."), *talk]
    for messages in (talk, opened):
        ids = partner.prompt_ids(messages)
        text = partner.tokenizer.decode(ids, skip_control=False)
        assert 100 < len(ids) <= 192  # of 256, a quarter is kept for the answer
        assert "40: who" in text and "\n0: who" not in text
        assert ("You are Bo." in text) is (messages is opened)
        answer = list(partner.answer(messages, SamplingSettings(temperature=0.0, max_new_tokens=4)))
        assert answer[-1].stop_reason in ("stop", "length")
    with pytest.raises(UserError, match="shorten"):
        list(partner.answer([Message("user", "who? " * 300)], SamplingSettings()))


def test_chat_text_is_the_text_of_the_tokens(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.generation import chat

    partner = ChatPartner(world.trained("sft", max_steps=1).select("newest"))
    ids = [int(token) for token in partner.tokenizer.tokenize("一只小猫 gives bread 🐈", markers=False).ids]
    steps = [[(0, token, "")] for token in ids[:-1]] + [[(0, ids[-1], "length")]]
    monkeypatch.setattr(chat, "stream", lambda *_: iter(steps))
    pieces = list(partner.continue_ids([1], SamplingSettings()))
    assert "".join(piece.text for piece in pieces) == "一只小猫 gives bread 🐈"
    assert any(not piece.text for piece in pieces) and not any("\ufffd" in piece.text for piece in pieces)
    stop = min(partner.tokenizer.stop_ids)
    monkeypatch.setattr(chat, "stream", lambda *_: iter([[(0, ids[0], "")], [(0, stop, "stop")]]))
    assert "<|" not in "".join(piece.text for piece in partner.continue_ids([1], SamplingSettings()))
