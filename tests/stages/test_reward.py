"""The reward model as a stage: what it learns, how it is measured, what is saved and what may start from it."""

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import CheckpointError, Interrupted
from engine.model.heads import is_scalar_model, load_scalar_model
from engine.objectives.preference import calibration_error
from engine.runs.events import Evaluated, Event, Step
from engine.runs.folder import RunFolder
from engine.session import begin, carry_out
from tests.stages.assembled import assemble, same, shake
from tests.training.tiny import NAMES, World, request, same_bits, tensors


def _write_bread(path: Path, rows: int = 40) -> Path:
    """Pairs in which the answer about bread is the better one."""
    lines = []
    for number in range(rows):
        asked, who = {"role": "user", "content": f"{number}: who gives what?"}, NAMES[number % len(NAMES)]
        sides = {"chosen": f"{who} gives bread.", "rejected": f"{who} gives two books."}
        lines.append({name: [asked, {"role": "assistant", "content": text}] for name, text in sides.items()})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_it_learns_which_answer_is_better(world: World, tmp_path: Path) -> None:
    """Before: a head of zeros, every score 0. After: held-out pairs are told apart."""

    def begun(name: str) -> RunFolder:
        asked: dict[str, Any] = {"max_steps": 30, "learning_rate": 1e-2, "val_fraction": 0.2}
        return begin(request("reward", _write_bread(tmp_path / "bread.jsonl"), world.tokenizer, name, "start", **asked))

    before = assemble(begun("before")).stage.evaluate().metrics
    assert before["val_accuracy"] == 0.5 and before["val_loss"] == pytest.approx(np.log(2))
    assert before["val_score_std"] == before["val_margin"] == 0
    run = begun("after")
    carry_out(run)
    [found] = [event.metrics for event in run.history() if isinstance(event, Evaluated)]
    assert found["val_accuracy"] == 1 and found["val_margin"] > 1 and found["val_score_std"] > 0.5
    first = next(event.metrics for event in run.history() if isinstance(event, Step))
    assert first["loss"] == pytest.approx(np.log(2), abs=1e-6) and first["accuracy"] == 0.5


@torch.no_grad()
def test_validation_by_hand(world: World) -> None:
    made = assemble(world.begun("reward", val_fraction=0.3, batch_size=3, eval_rows=0))
    shake(made.stage._scorer, 0.2)
    made.stage._scorer.eval()
    scores = torch.cat([made.stage._scores(batch) for batch in made.stage.held_out_pairs()])
    margins = scores[::2] - scores[1::2]
    metrics = made.stage.evaluate().metrics
    assert metrics["val_accuracy"] == pytest.approx(float((margins > 0).double().mean()))
    assert metrics["val_margin"] == pytest.approx(float(margins.mean()), abs=1e-6)
    assert metrics["val_score_std"] == pytest.approx(float(scores.std(correction=0)), rel=1e-5)
    assert metrics["val_calibration_error"] == pytest.approx(calibration_error(margins), abs=1e-6)


def test_the_checkpoint_is_a_sequence_classifier(world: World) -> None:
    run = world.trained("reward", learning_rate=1e-2)
    folder = run.select("newest")
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"][0].endswith("ForSequenceClassification") and config["id2label"] == {"0": "score"}
    assert is_scalar_model(folder) and (folder / "tokenizer.json").exists()
    loaded = load_scalar_model(folder)
    made = assemble(world.begun("reward", "again"))
    made.stage.load_model(folder)
    assert same(dict(loaded.state_dict()), dict(made.stage._scorer.state_dict()))
    assert loaded.score.weight.abs().max() > 0


@pytest.mark.parametrize("shape", [{"tie_word_embeddings": True}, {"tie_word_embeddings": False}])
def test_no_table_of_words_is_kept(world: World, shape: dict[str, Any]) -> None:
    """Nor trained; what saves memory in the model still does."""
    world.trained("sft", "shaped", max_steps=1, **shape)
    made = assemble(world.begun("reward", start_from="shaped", gradient_checkpointing=True))
    assert not any("lm_head" in name for name in made.weights())
    assert made.stage._scorer.transformer.gradient_checkpointing
    assert made.round(0)[0].applied


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_going_on_from_a_reward_model_keeps_what_it_knows(world: World, lora_rank: int) -> None:
    """Its head too: before the first step pairs are scored as they were; a resume needs the start no more."""
    judge = world.trained("reward", "judge", learning_rate=1e-2, max_steps=20)
    known = load_scalar_model(judge.select("newest"))
    made = assemble(world.begun("reward", "next", start_from="judge", lora_rank=lora_rank))
    assert known.score.weight.abs().max() > 0 and torch.equal(made.stage._scorer.score.weight, known.score.weight)
    assert made.stage._scorer.score.weight.requires_grad
    last = [event.metrics for event in judge.history() if isinstance(event, Evaluated)][-1]
    assert made.stage.evaluate().metrics == pytest.approx(last, rel=1e-5)
    whole = world.trained("reward", "whole", start_from="judge", lora_rank=lora_rank)
    cut, interrupt = world.begun("reward", "cut", start_from="judge", lora_rank=lora_rank), threading.Event()

    def watch(event: Event) -> None:
        if isinstance(event, Step) and event.step == 3:
            interrupt.set()

    with pytest.raises(Interrupted):
        carry_out(cut, interrupt=interrupt, listener=watch)
    shutil.rmtree(judge.path)
    carry_out(cut, resume=True)
    assert same_bits(tensors(cut), tensors(whole))


def test_who_may_start_from_it(world: World) -> None:
    """Another reward model goes on from its blocks; a stage that speaks is refused."""
    world.trained("reward", "judge", learning_rate=1e-2, max_steps=20)
    made = assemble(world.begun("reward", "next", start_from="judge"))
    kept = load_scalar_model(made.stage.context.run.path.parent / "judge" / "checkpoints" / "step-00000020")
    assert same(dict(kept.transformer.state_dict()), dict(made.stage._scorer.transformer.state_dict()))
    with pytest.raises(CheckpointError, match="this is a reward model"):
        carry_out(begin(request("sft", world.talks, world.tokenizer, "speaks", "judge")))


def test_adapted_it_trains_adapter_and_head(world: World) -> None:
    run = world.trained("reward", lora_rank=4, learning_rate=3e-2, max_steps=40)
    steps = [event.metrics for event in run.history() if isinstance(event, Step)]
    assert np.mean([found["accuracy"] for found in steps[-5:]]) > 0.8
    folder = run.select("newest")
    assert is_scalar_model(folder) and (folder / "adapter" / "adapter_config.json").exists()
