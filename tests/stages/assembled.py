"""A stage put together as a run does it, to look into and to step by hand."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.generation.rollout import Rollout
from engine.model.attention import DocumentAttention
from engine.model.transformer import Transformer
from engine.rewards.reward_set import Scored
from engine.runs.control import Inbox
from engine.runs.folder import RunFolder
from engine.session.assemble import build_model, implementation, load_data
from engine.session.encoding import encode_settings
from engine.settings.profile import Settings
from engine.stages.answers import Answer
from engine.stages.context import StageContext
from engine.text.encode import Encoder
from engine.text.tokenizer import Tokenizer
from engine.training.device import pick_device, set_threads
from engine.training.precision import Precision
from engine.training.update import Outcome, Updater


@dataclass
class Assembled:
    """A stage and what makes its optimizer steps."""

    stage: Any
    update: Updater
    precision: Precision
    warned: list[tuple[str, str]]
    steps: int = 0

    def step(self, batches: Sequence[Any]) -> Outcome:
        """One optimizer step, as the loop makes it."""
        for module in self.stage.modules.values():
            module.train()
        self.steps += 1
        return self.update(self.steps - 1, batches, lambda: None)

    def gradient(self, batches: Sequence[Any]) -> dict[str, Tensor]:
        """What these micro-batches' step would go by, before clipping; the step is not made."""
        found: dict[str, Tensor] = {}

        def keep(*_: Any) -> bool:
            found.update({name: p.grad.double() for name, p in self.update.named if p.grad is not None})
            return False

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.stage, "accept", keep)
            self.step(batches)
        self.steps -= 1
        return found

    def round(self, number: int) -> list[Outcome]:
        """All steps of a round."""
        outcomes: list[Outcome] = []
        for batches in self.stage.collect(number):
            outcomes.append(self.step(batches))
            if len(outcomes) == 1:
                self.stage.settle()
        return outcomes

    def weights(self) -> dict[str, Tensor]:
        """All that is trained, copied."""
        return {name: parameter.detach().clone() for name, parameter in self.update.named}

    def moments(self) -> dict[str, Tensor]:
        """The optimizer's state, copied."""
        state = self.update.optimizer.state
        return {f"{name}.{key}": value.clone() for name, p in self.update.named if p in state
                for key, value in state[p].items()}  # fmt: skip


def assemble(run: RunFolder, meanwhile: Callable[[], None] | None = None) -> Assembled:
    """Puts the stage of a run that was begun together; `meanwhile` is called between its model and itself."""
    settings = Settings.from_json(run.read_json(run.resolved))
    set_threads(settings.training.num_threads)
    device = pick_device(settings.training.device)
    tokenizer = Tokenizer.load(run.tokenizer)
    store = load_data(run, settings, tokenizer, lambda _: None)
    model = build_model(run, settings)
    model.gradient_checkpointing = settings.training.gradient_checkpointing
    if meanwhile:
        meanwhile()
    precision = Precision(settings.training.dtype, device)
    warned: list[tuple[str, str]] = []
    context = StageContext(
        settings, model, store, Encoder(tokenizer, encode_settings(settings)), device, precision,
        Inbox(run.control, threading.Event(), fresh=True), run, lambda name, message: warned.append((name, message)),
        lambda what, done: None,
    )  # fmt: skip
    stage = implementation(settings.stage)(context)
    return Assembled(stage, Updater(stage, device, precision, stage.rounds * stage.steps_per_round), precision, warned)


def logits_of(model: Transformer, ids: Sequence[int]) -> Tensor:
    """The logits of one document alone, in evaluation mode."""
    training = model.training
    model.eval()
    tokens = torch.tensor(np.asarray(ids), dtype=torch.int64)
    hidden = model(tokens, torch.arange(len(ids)), DocumentAttention([0, len(ids)], torch.device("cpu")))
    model.train(training)
    return model.logits(hidden)


def answer_log_probs(model: Transformer, ids: Sequence[int], weights: Sequence[float], heat: float = 1.0) -> Tensor:
    """log p of each token with a weight, from whole softmaxes."""
    trained = torch.from_numpy(np.flatnonzero(np.asarray(weights)))
    log_probs = (logits_of(model, ids) / heat).log_softmax(dim=-1)
    return log_probs[trained - 1, torch.tensor(np.asarray(ids), dtype=torch.int64)[trained]]


@torch.no_grad()
def shake(module: nn.Module, size: float = 0.1, seed: int = 0) -> None:
    """Moves all weights a little, so that nothing stands where it began."""
    dice = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.add_(size * torch.randn(parameter.shape, generator=dice))


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two sets of tensors are equal to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def made_answer(stage: Any, sample: int, ids: Sequence[int], reward: float = 0.0, stop_reason: str = "stop") -> Answer:
    """An answer to a prompt as if the policy had said it; what it was sampled with is not known."""
    record = stage.judge.records[int(stage.store.columns["rows"][sample])]
    rollout = Rollout(list(ids), [0.0] * len(ids), stop_reason)
    text = stage.encoder.tokenizer.decode(rollout.words)
    return Answer(sample, record, stage.store.ids(sample).tolist(), rollout, text, Scored(reward, {}), reward, None)


def write_reward(path: Path, body: str) -> Path:
    """A file for `reward_python` with this body of `reward(prompt, answer, row)`."""
    path.write_text(f"def reward(prompt, answer, row):\n    {body}\n", encoding="utf-8")
    return path
