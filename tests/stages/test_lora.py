"""LoRA as a stage and as a property of others: what trains, what is saved, and what still works without the start."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.errors import CheckpointError, UserError
from engine.exchange import export_model
from engine.generation.chat import ChatPartner
from engine.generation.sampling import SamplingSettings
from engine.model.families import load_pretrained
from engine.model.loading import load_model
from engine.model.lora import adapted, adapter_disabled, merge
from engine.model.transformer import Transformer
from engine.rewards.scorer import RewardScorer
from engine.runs.folder import RunFolder, find_run
from engine.session import begin, carry_out
from engine.text.messages import Message
from tests.stages.assembled import assemble, logits_of, same
from tests.training.tiny import World, losses, request, same_bits, tensors

QUESTION = [Message("user", "3: who gives what?")]
GREEDY = SamplingSettings(temperature=0.0, max_new_tokens=8)


def _base(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items() if ".lora_" not in name}


@torch.no_grad()
def _logits(model: Transformer) -> Tensor:
    return logits_of(model, range(40, 60))


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("stage", "besides"),
    [
        ("lora", set()),
        ("sft", set()),
        ("reason", set()),
        ("distill", set()),
        ("dpo", set()),
        ("reward", {"model.score.weight"}),
        ("grpo", set()),
        ("ppo", {"critic.score.weight"}),
        ("spo", set()),
    ],
)
def test_only_adapters_train_and_the_base_stays_bit_for_bit(world: World, stage: str, besides: set[str]) -> None:
    """In any stage; the optimizer holds nothing else but the heads that scores and values need."""
    start: dict[str, Any] = {"start_from": "start"} if stage == "sft" else {}
    made = assemble(world.begun(stage, lora_rank=2, weight_decay=0.1, learning_rate=1e-2, **start))
    modules = dict(made.stage.modules)
    before = {key: _base(module) for key, module in modules.items()}
    weights = made.weights()
    outcomes = [outcome for number in range(3) for outcome in made.round(number)]
    assert any(outcome.applied for outcome in outcomes)
    names = {name for name, _ in made.update.named}
    assert {name for name in names if ".lora_" not in name} == besides
    held = {id(parameter) for group in made.update.optimizer.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for _, parameter in made.update.named}
    for key, module in modules.items():
        for name, tensor in _base(module).items():
            assert f"{key}.{name}" in besides or torch.equal(tensor, before[key][name]), name
    assert not any(torch.equal(weights[name], tensor) for name, tensor in made.weights().items() if "lora_B" in name)


def test_the_checkpoint_is_an_adapter(world: World) -> None:
    """A few kilobytes beside the tokenizer; its optimizer holds the adapter's moments alone."""
    start = find_run("start").select("newest")
    before = _digest(start)
    run = world.trained("lora", learning_rate=1e-2)
    folder = run.select("newest")
    names = {path.name for path in folder.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "base.json", "tokenizer.json"} <= names
    assert "model.safetensors" not in names
    assert all(".lora_" in name for name in tensors(run) if ".step" not in name)
    assert losses(run)[-1] < losses(run)[0]
    assert _digest(start) == _digest(run.companion("start")) == before


def test_it_loads_in_chat(world: World) -> None:
    """Base and adapter; without the adapter the base says what it said before."""
    run = world.trained("lora", learning_rate=3e-2, max_steps=30)
    partner = ChatPartner(run.select("newest"))
    assert adapted(partner.model)
    base = load_pretrained(find_run("start").select("newest"))
    with adapter_disabled(partner.model):
        assert torch.equal(_logits(partner.model), _logits(base))
    assert (_logits(partner.model) - _logits(base)).abs().max() > 0.1
    said = "".join(piece.text for piece in partner.answer(QUESTION, GREEDY))
    merge(partner.model)
    assert said == "".join(piece.text for piece in partner.answer(QUESTION, GREEDY)) != ""


@pytest.mark.parametrize("stage", ["sft", "dpo", "reward", "lora"])
def test_another_stage_starts_from_it(world: World, stage: str) -> None:
    """From what base and adapter make together."""
    run = world.trained("lora", "first", learning_rate=3e-2, max_steps=30)
    made = assemble(world.begun(stage, "second", start_from="first"))
    merged = load_model(run.select("newest"))
    merge(merged)
    model = made.stage._scorer.transformer if stage == "reward" else made.stage.model
    assert (_logits(model) - _logits(merged)).abs().max() <= 1e-5
    assert adapted(model) is (stage == "lora")
    made.round(0)


def test_the_start_may_go(world: World) -> None:
    """The run keeps its base: it goes on bit for bit, and talks, also after it was moved itself."""
    settings: dict[str, Any] = {"max_steps": 8, "save_interval": 4, "keep_checkpoints": 9, "dropout": 0.1}
    whole = world.trained("lora", "whole", **settings)
    halves = world.trained("lora", "halves", **settings)
    shutil.rmtree(find_run("start").path)
    shutil.rmtree(halves.checkpoint(8))
    carry_out(halves, resume=True)
    assert same_bits(tensors(whole), tensors(halves))
    before = _logits(ChatPartner(halves.select("newest")).model)
    moved = RunFolder(halves.path.rename(halves.path.with_name("moved")))
    assert torch.equal(_logits(ChatPartner(moved.select("newest")).model), before)


@pytest.mark.parametrize("stage", ["dpo", "grpo", "ppo", "distill"])
def test_references_teachers_and_bases_may_go_too(world: World, stage: str) -> None:
    settings: dict[str, Any] = {"save_interval": 4, "keep_checkpoints": 9, "lora_rank": 2}
    if stage == "grpo":
        settings |= {"kl_coefficient": 0.1}
    run = world.trained(stage, **settings)
    before = tensors(run)
    shutil.rmtree(find_run("start").path)
    last = run.checkpoint_steps()[-1]
    for step in run.checkpoint_steps():
        if step > 4:
            shutil.rmtree(run.checkpoint(step))
    carry_out(run, resume=True)
    assert run.checkpoint_steps()[-1] == last and same_bits(before, tensors(run))


def _exchange(folder: Path) -> None:
    """Makes the model of a folder another one of the same shape."""
    path = folder / "model.safetensors"
    changed = {name: tensor + 0.01 for name, tensor in load_file(path).items()}
    path.unlink()  # it may be a link to the start run's own file
    save_file(changed, path, metadata={"format": "pt"})


def test_the_wrong_base_is_refused(world: World, tmp_path: Path) -> None:
    """In chat, as a start, when exported and when the run itself goes on."""
    run = world.begun("lora", save_interval=4, keep_checkpoints=9)
    carry_out(run)
    _exchange(run.companion("start"))
    folder = run.select("newest")
    for use in (
        lambda: ChatPartner(folder),
        lambda: carry_out(begin(request("sft", world.talks, world.tokenizer, "after", "lora"))),
        lambda: world.begun("dpo", start_from="lora"),
        lambda: export_model(folder, tmp_path / "out", None),
    ):
        with pytest.raises(CheckpointError, match="belongs to another base"):
            use()
    shutil.rmtree(run.checkpoint(8))
    with pytest.raises(CheckpointError, match="belongs to another base"):
        carry_out(run, resume=True)


def test_export_merges(world: World, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    run = world.trained("lora", learning_rate=3e-2, max_steps=30)
    export_model(run.select("newest"), tmp_path / "out", None)
    exported, partner = load_pretrained(tmp_path / "out"), ChatPartner(run.select("newest"))
    assert not adapted(exported) and not (tmp_path / "out" / "adapter_config.json").exists()
    assert (_logits(exported) - _logits(partner.model)).abs().max() <= 1e-5
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        logits = theirs(torch.tensor([list(range(40, 60))])).logits[0]
    assert (logits - _logits(exported)).abs().max() <= 1e-4


def test_peft_computes_what_the_run_computes(world: World) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    run = world.trained("lora", learning_rate=3e-2, max_steps=10, lora_targets=["q_proj", "down_proj"])
    base = AutoModelForCausalLM.from_pretrained(run.companion("start"))
    theirs = PeftModel.from_pretrained(base, str(run.select("newest"))).eval()
    with torch.no_grad():
        logits = theirs(torch.tensor([list(range(40, 60))])).logits[0]
    assert (logits - _logits(load_model(run.select("newest")))).abs().max() <= 1e-4


def test_an_adapter_needs_a_base(world: World) -> None:
    with pytest.raises(UserError, match="needs a checkpoint to start from"):
        begin(request("lora", world.talks, world.tokenizer, "none"))
    with pytest.raises(UserError, match="needs a checkpoint to start from"):
        begin(request("sft", world.talks, world.tokenizer, "none", lora_rank=4))


def test_the_scores_of_an_adapted_reward_model_survive_saving(world: World, tmp_path: Path) -> None:
    """Merged for those who use it, as an adapter for going on with it."""
    made = assemble(world.begun("reward", lora_rank=2, learning_rate=1e-2))
    for number in range(3):
        made.round(number)
    folder = tmp_path / "adapted"
    made.stage.save_model(folder)
    again = assemble(world.begun("reward", "again", lora_rank=2))
    again.stage.load_model(folder)
    assert same(again.weights(), made.weights())
    batch = made.stage.collect(0)[0][0]
    made.stage._scorer.eval()
    with torch.no_grad():
        expected = made.stage._scores(batch)
    scorer = RewardScorer(folder, torch.device("cpu"))
    moved = made.stage.to_device(batch)
    with torch.no_grad():
        values = scorer._model(moved.tokens, moved.positions, moved.attention)
    ends = [int(moved.sources[moved.documents == number].max()) + 1 for number in range(len(batch.rows))]
    assert (values[ends] - expected).abs().max() <= 1e-5
