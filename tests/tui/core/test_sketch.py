from pathlib import Path

import pytest

from engine.session import TrainRequest, train
from engine.settings.profile import load_profile
from engine.settings.registry import STAGES
from engine.training.schedule import learning_rate
from minimind_tui.core.forms import Draft, new_draft
from minimind_tui.core.lookups import Lookups
from minimind_tui.core.sketch import Sketch, learning_rates, sketch


def _sketch(draft: Draft) -> Sketch:
    return sketch(draft.stage, draft.asked, Lookups())


def test_parameters_steps_and_tokens() -> None:
    draft = Draft(load_profile("minimind2/sft"), "minimind2/sft")
    seen = _sketch(draft)
    assert round(sum(seen.parts.values()) / 1e6, 2) == 25.83
    assert seen.parts["embedding"] == 6400 * 512 and seen.vocabulary == 6400
    assert (seen.batch, seen.tokens, seen.steps) == (16, 16 * 340, 0)
    draft.enter("accumulation_steps", "4")
    draft.enter("max_steps", "50")
    seen = _sketch(draft)
    assert (seen.tokens, seen.steps, seen.drawn_steps) == (64 * 340, 50, 50)


def test_without_a_tokenizer_the_embedding_is_left_out_and_it_says_so() -> None:
    seen = _sketch(Draft(load_profile("cpu/pretrain"), "cpu/pretrain"))
    assert seen.vocabulary is None and "embedding" not in seen.parts and seen.parts["mlp"] > 0
    assert seen.vocabulary_problem == "no tokenizer is named"
    seen = _sketch(Draft(load_profile("starter/pretrain"), "starter/pretrain"))
    assert "starter/tokenizer" in seen.vocabulary_problem


def test_what_does_not_fit_is_said() -> None:
    draft = new_draft(STAGES["pretrain"])
    draft.enter("num_key_value_heads", "3")
    assert "not a multiple" in _sketch(draft).problem


def test_stages_without_a_model_have_no_figures() -> None:
    assert _sketch(new_draft(STAGES["tokenizer"])) == Sketch()


def test_every_stage_can_be_sketched() -> None:
    for stage in STAGES.values():
        seen = _sketch(new_draft(stage))
        assert seen.problem == "" and bool(seen.rates) == ("training" in stage.sections)


@pytest.mark.parametrize("steps", [1, 2, 30, 100_000])
def test_the_learning_rate_is_the_schedule_s(steps: int) -> None:
    draft = new_draft(STAGES["sft"])
    draft.enter("warmup_steps", "7")
    training = draft.settings().training
    points = learning_rates(training, steps)
    assert points[0][0] == 0 and points[-1][0] == steps - 1
    assert points == sorted(points) and len(points) <= 161
    assert all(rate == learning_rate(training, int(step), steps) for step, rate in points)


def test_a_start_checkpoint_and_a_tokenizer_are_looked_up(home: Path) -> None:
    draft = Draft(load_profile("tiny/pretrain"), "tiny/pretrain")
    assert "tiny-tokenizer" in _sketch(draft).vocabulary_problem
    train(TrainRequest("tiny/tokenizer"))
    seen = _sketch(draft)
    assert seen.vocabulary == 300 and seen.parts["embedding"] == 300 * 16
    train(TrainRequest("tiny/pretrain", assignments=("max_steps=1", "warmup_steps=0")))
    draft.enter("from", "tiny-pretrain")
    draft.enter("hidden_size", "64")
    seen = _sketch(draft)
    assert seen.start == "tiny-pretrain" and seen.start_problem == ""
    assert seen.inherited["hidden_size"] == 16 and seen.inherited["vocab_size"] == 300
    assert "dropout" not in seen.inherited
    assert seen.parts["embedding"] == 300 * 16
    draft.enter("from", "nothing")
    seen = _sketch(draft)
    assert seen.inherited == {} and "nothing" in seen.start_problem
