"""The formulas against trl's own trainers, on tiny models with the same hidden states."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.objectives.advantage import group_advantages
from engine.objectives.divergence import kl_estimate
from engine.objectives.log_probs import linear_log_probs
from engine.objectives.policy import GRPO_LOSSES, aggregate, aggregated_count, surrogate
from engine.objectives.preference import bradley_terry, dpo, takes_mean
from engine.objectives.sequences import means, sums

trl = pytest.importorskip("trl")
transformers = pytest.importorskip("transformers")
datasets = pytest.importorskip("datasets")

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

WORDS = [
    ("Who are you?", " I am a small model.", " A dog."),
    ("One plus two?", " three", " The fox sleeps in the sun."),
]


@pytest.fixture(autouse=True)
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainers report what is trained to Hugging Face unless told not to."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)


def _model(kind: str, tokenizer: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_labels=1, initializer_range=0.5, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return getattr(transformers, kind)(config)


@pytest.fixture
def words(tokenizer_folder: str) -> Any:
    """The tokenizer."""
    return transformers.AutoTokenizer.from_pretrained(tokenizer_folder)


def _config(kind: str, folder: Path, **more: Any) -> Any:
    return getattr(trl, kind)(output_dir=str(folder), use_cpu=True, bf16=False, report_to="none", **more)


def _pairs() -> Any:
    return datasets.Dataset.from_list([dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in WORDS])


def _log_probs(model: Any, ids: Tensor, attention: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """Ours, of the masked tokens, flat; `mask` tells for each token whether its prediction counts."""
    hidden = model.model(input_ids=ids, attention_mask=attention).last_hidden_state[:, :-1]
    wanted = mask[:, 1:].bool()
    head = model.get_output_embeddings().weight
    return linear_log_probs(hidden[wanted], head, ids[:, 1:][wanted], chunk=3, temperature=temperature)[0]


def _sequences(mask: Tensor) -> Tensor:
    """The row of each masked token."""
    return torch.arange(len(mask)).repeat_interleave(mask.sum(dim=1))


def _same_gradients(model: Any, ours: Tensor, theirs: Tensor) -> None:
    parameters = list(model.parameters())
    found, expected = (torch.autograd.grad(loss, parameters) for loss in (ours, theirs))
    for mine, wanted in zip(found, expected, strict=True):
        assert wanted.any()
        assert torch.linalg.vector_norm(mine - wanted) < 1e-4 * torch.linalg.vector_norm(wanted)


@pytest.mark.parametrize("loss_type", ["sigmoid", "ipo", "sigmoid_norm"])
def test_dpo(loss_type: str, words: Any, tmp_path: Path) -> None:
    beta = 0.3
    model, reference = (_model("LlamaForCausalLM", words, seed) for seed in (0, 1))
    config = _config("DPOConfig", tmp_path, loss_type=loss_type, beta=beta, per_device_train_batch_size=2)
    trainer = trl.DPOTrainer(model, reference, args=config, train_dataset=_pairs(), processing_class=words)
    batch = next(iter(trainer.get_train_dataloader()))
    theirs = trainer.compute_loss(model, dict(batch))

    ids, attention, mask = batch["input_ids"], batch["attention_mask"], batch["completion_mask"]
    lengths = mask.sum(dim=1)
    assert len(set(lengths.tolist())) > 2, "sums and means must differ"
    with torch.no_grad():
        known = _log_probs(trainer.ref_model, ids, attention, mask)
    ratios = _log_probs(model, ids, attention, mask) - known
    sides = (means if takes_mean(loss_type) else sums)(ratios, _sequences(mask), len(ids))
    # trl puts all chosen sides before all rejected ones
    found = dpo(*sides.chunk(2), beta, loss_type)
    torch.testing.assert_close(found.losses.mean(), theirs)
    _same_gradients(model, found.losses.mean(), theirs)

    # trl's rewards are of sums for every loss, ours of what the loss sees
    scale = lengths if takes_mean(loss_type) else torch.ones_like(lengths)
    chosen, rejected = (scale * torch.cat([found.chosen_rewards, found.rejected_rewards])).chunk(2)
    figures = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    assert figures["rewards/chosen"] == pytest.approx(chosen.mean().item(), rel=1e-4)
    assert figures["rewards/rejected"] == pytest.approx(rejected.mean().item(), rel=1e-4)
    assert figures["rewards/margins"] == pytest.approx((chosen - rejected).mean().item(), rel=1e-4)


def test_reward_model(words: Any, tmp_path: Path) -> None:
    model = _model("LlamaForSequenceClassification", words, 0)
    config = _config("RewardConfig", tmp_path, per_device_train_batch_size=2)
    trainer = trl.RewardTrainer(model, args=config, train_dataset=_pairs(), processing_class=words)
    batch = next(iter(trainer.get_train_dataloader()))
    theirs = trainer.compute_loss(model, dict(batch))

    # The score is read at the last real token of each side
    hidden = model.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    ends = batch["attention_mask"].sum(dim=1) - 1
    scores = model.score(hidden[torch.arange(len(ends)), ends])[:, 0]
    ours = bradley_terry(*scores.chunk(2)).mean()
    torch.testing.assert_close(ours, theirs)
    _same_gradients(model, ours, theirs)
    margins = scores[:2] - scores[2:]
    assert trainer._metrics["train"]["margin"][-1] == pytest.approx(margins.mean().item(), rel=1e-4)
    assert trainer._metrics["train"]["accuracy"][-1] == pytest.approx((margins > 0).float().mean().item())


LONGEST = 8


def _grpo(words: Any, folder: Path, reward: Any, **more: Any) -> Any:
    """A trainer of two groups of four answers; the divergence is not weighed by ratios, as in the GRPO paper."""
    config = _config(
        "GRPOConfig", folder, num_generations=4, max_completion_length=LONGEST, per_device_train_batch_size=8,
        temperature=0.8, epsilon=0.2, epsilon_high=0.3, use_bias_correction_kl=False, **more,
    )  # fmt: skip
    data = datasets.Dataset.from_list([{"prompt": prompt} for prompt, *_ in WORDS])
    model = _model("LlamaForCausalLM", words, 0)
    return trl.GRPOTrainer(model, reward_funcs=reward, args=config, train_dataset=data, processing_class=words)


@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo", "cispo"])
def test_grpo_loss(loss_type: str, beta: float, words: Any, tmp_path: Path) -> None:
    """Ragged answers, left-padded prompts, an old policy far enough away for either clip to decide."""
    trainer = _grpo(words, tmp_path, lambda completions, **_: [0.0] * len(completions), loss_type=loss_type)
    trainer.current_gradient_accumulation_steps, trainer.beta = 1, beta
    if loss_type == "cispo":
        trainer.epsilon_high = 1.3  # trl caps the ratio there, the paper at 1 + ε
    generator = torch.Generator().manual_seed(3)
    lengths = torch.tensor([1, 3, 8, 5])
    mask = (torch.arange(LONGEST) < lengths[:, None]).long()
    pads = torch.tensor([0, 2, 1, 0])
    inputs = {
        "prompt_ids": torch.randint(10, 100, (4, 5), generator=generator),
        "prompt_mask": (torch.arange(5) >= pads[:, None]).long(),
        "completion_ids": torch.randint(10, 100, (4, LONGEST), generator=generator),
        "completion_mask": mask,
        "advantages": torch.tensor([1.2, -0.7, 0.4, -0.9]),
        "num_items_in_batch": mask.sum(),
    }
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    attention = torch.cat([inputs["prompt_mask"], mask], dim=1)
    answers = torch.cat([torch.zeros_like(inputs["prompt_mask"]), mask], dim=1)

    log_probs = _log_probs(trainer.model, ids, attention, answers, temperature=0.8)
    old = log_probs.detach() + 0.4 * torch.randn(len(log_probs), generator=generator)
    reference = log_probs.detach() + 0.4 * torch.randn(len(log_probs), generator=generator)
    for name, values in (("old_per_token_logps", old), ("ref_per_token_logps", reference)):
        inputs[name] = torch.zeros(mask.shape).masked_scatter(mask.bool(), values)
    theirs = trainer.compute_loss(trainer.model, inputs)

    kind, sequence = GRPO_LOSSES[loss_type], _sequences(mask)
    advantages = inputs["advantages"][sequence]
    found = surrogate(kind.surrogate, log_probs, old, advantages, clip_low=0.2, clip_high=0.3)
    losses = found.losses + beta * kl_estimate(log_probs - reference, "k3")
    count = aggregated_count(len(losses), 4, LONGEST, kind.aggregation)
    ours = aggregate(losses, sequence, 4, kind.aggregation) / count
    torch.testing.assert_close(ours, theirs)
    _same_gradients(trainer.model, ours, theirs)

    figures = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    assert 0 < found.clipped.sum() < len(losses)
    if loss_type == "cispo":  # trl counts only the answers that are to become likelier
        share = (found.clipped * (advantages > 0)).mean().item()
        assert figures["cispo_clip_ratio"] == pytest.approx(share)
    else:
        assert figures["clip_ratio/region_mean"] == pytest.approx(found.clipped.mean().item())
    if beta:
        assert figures["kl"] == pytest.approx(kl_estimate(log_probs - reference, "k3").mean().item(), rel=1e-4)


@pytest.mark.parametrize(("scale", "std"), [("group", "sample"), ("none", "none")])
def test_grpo_advantages(scale: str, std: str, words: Any, tmp_path: Path) -> None:
    """What trl makes of the rewards of a real rollout, a group without signal among them."""
    rewards = [0.0, 1.0, 0.25, 0.5, 2.0, 2.0, 2.0, 2.0]
    trainer = _grpo(words, tmp_path, lambda **_: rewards, scale_rewards=scale)
    theirs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))["advantages"]
    ours = group_advantages(torch.tensor(rewards).view(2, 4), std, floor=1e-4)
    # trl shuffles the answers of a rollout
    torch.testing.assert_close(ours.flatten().sort().values, theirs.sort().values)
