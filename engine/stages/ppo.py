"""Proximal policy optimization: a critic says what to expect, every token is judged by how much better it went."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.errors import UserError
from engine.model.heads import ScalarModel, is_scalar_model, restore_scalar_model, save_scalar_model
from engine.model.lora import LoraConfig, adapted, adapters, attach
from engine.objectives.advantage import generalised_advantages, whitened
from engine.objectives.divergence import kl_estimate
from engine.objectives.policy import PolicyLoss, aggregate, aggregated_count, value_losses
from engine.randomness import derive_seed
from engine.settings.ppo import PpoSettings
from engine.stages.answers import Answer, PolicyBatch, policy_batch
from engine.stages.context import StageContext
from engine.stages.policy import PolicyStage
from engine.text.tokenizer import Tokenizer
from engine.training.batch import DeviceBatch
from engine.training.distributed import sum_over_ranks
from engine.training.stage import Measures, Term

_HEAD_FILE = "value_head.safetensors"


class Ppo(PolicyStage):
    """A round: one answer to each prompt, then `ppo_epochs` passes of `mini_batches` optimizer steps over them."""

    def __init__(self, context: StageContext) -> None:
        own = self._own = context.settings.part(PpoSettings)
        self.steps_per_round = own.ppo_epochs * own.mini_batches
        if own.mini_batches > context.settings.training.accumulation_steps:
            raise UserError(
                f"mini_batches ({own.mini_batches}) is more than accumulation_steps "
                f"({context.settings.training.accumulation_steps}): a mini-batch holds one micro-batch at least",
                where="mini_batches",
                hint=f"raise accumulation_steps to {own.mini_batches}",
            )
        loss = PolicyLoss("clip", own.aggregation)
        super().__init__(context, loss, (own.clip_ratio, own.clip_ratio), needs_reference=True)
        self._critic = self._make_critic()
        self.modules = {"model": self.model, "critic": self._critic}
        self.rates = {"critic": own.critic_lr_ratio}
        self._stopped = False

    def _make_critic(self) -> nn.Module:
        """A model of its own, or a head on the policy's hidden states; values begin at 0 or as a reward model's."""
        kept = self.context.run.companion("critic")
        if self._own.critic == "shared":
            head = nn.Linear(self.model.config.hidden_size, 1, bias=False)
            nn.init.zeros_(head.weight)
            return self.placed(head)
        if kept.is_dir() and Tokenizer.load(kept).fingerprint != self.encoder.tokenizer.fingerprint:
            raise UserError(
                "the critic has another tokenizer than the policy: the values it knows are of other tokens",
                where="critic_from",
                hint="take a reward model that was made of a checkpoint with the policy's tokenizer, or none",
            )
        if kept.is_dir() and is_scalar_model(kept):
            critic = self.read_scalar_model(kept)
        else:
            critic = ScalarModel(self.frozen("critic").requires_grad_(True) if kept.is_dir() else self.start_model())
        critic.transformer.gradient_checkpointing = self.model.gradient_checkpointing
        if adapted(self.model):
            config = next(iter(adapters(self.model).values())).config
            attach(critic.transformer, LoraConfig(config.rank, config.alpha, config.dropout, config.targets))
        return self.placed(critic)

    # Collecting

    @property
    def accumulates(self) -> bool:
        """Whether a mini-batch may hold several micro-batches."""
        return self.micro_batches > self._own.mini_batches

    def known(self) -> list[str]:
        """Values and returns besides."""
        return [*super().known(), "value", "return"]

    def prompts_of(self, round: int) -> list[list[int]]:
        """The sampler's prompts, which it sorts by length, in random order: mini-batches are to be alike."""
        micro = super().prompts_of(round)
        key = derive_seed(self.settings.training.seed, "mini-batches", round)
        dice = np.random.Generator(np.random.Philox(key=key))
        mixed: list[int] = dice.permutation(np.concatenate(micro)).tolist()
        return [mixed[start:end] for start, end in pairwise(np.cumsum([0, *map(len, micro)]).tolist())]

    def make_round(self, round: int) -> tuple[Iterable[list[PolicyBatch]], Callable[[], None]]:
        """Passes over the round's answers, in mini-batches."""
        answers, batches = self._judged_batches(round)

        def settle() -> None:
            values = np.concatenate([batch.tokens["advantage"] for batch in batches])
            ends = np.cumsum([len(answer.rollout.ids) for answer in answers])[:-1]
            self.keep_answers(round, answers, [float(own.mean()) for own in np.split(values, ends)])
            self.note(explained_variance=_explained_variance(batches))

        return self._steps(batches), settle

    def _steps(self, batches: Sequence[PolicyBatch]) -> Iterator[list[PolicyBatch]]:
        """The round's mini-batches; after a step that was not taken the rest of the round is left out."""
        self._stopped, mini = False, self._own.mini_batches
        bounds = np.linspace(0, len(batches), mini + 1).round().astype(int).tolist()
        for _ in range(self._own.ppo_epochs):
            for first, last in pairwise(bounds):
                yield [] if self._stopped else list(batches[first:last])
                self.note(stopped_early=float(self._stopped))

    def _judged_batches(self, round: int) -> tuple[list[Answer], list[PolicyBatch]]:
        """Answers with old and reference log-probabilities, values, advantages and returns of every token."""
        micro = self.prompts_of(round)
        answers = [group[0] for group in self.answer([one for some in micro for one in some], 1, "rollout", round)]
        batches: list[PolicyBatch] = []
        start = 0
        for prompts in micro:
            some = answers[start : start + len(prompts)]
            start += len(prompts)
            batch = policy_batch([(answer, 0.0) for answer in some])
            assert batch is not None
            batches.append(self._with_advantages(self.with_scores(batch, old=True), some))
        if self._own.whiten:
            advantages = self._whitened([batch.tokens["advantage"] for batch in batches])
            batches = [batch.with_tokens(advantage=values) for batch, values in zip(batches, advantages, strict=True)]
        return answers, batches

    def _with_advantages(self, batch: PolicyBatch, answers: Sequence[Answer]) -> PolicyBatch:
        """The reward stands on an answer's last token; the divergence from the reference may cost at each."""
        values, beyond = self._values(batch)
        ratios = batch.tokens["old"] - batch.tokens["reference"]
        costs = np.zeros_like(ratios)
        if self._own.kl_in == "reward":
            estimate = kl_estimate(torch.from_numpy(ratios), self.kl.kl_estimator).numpy()
            costs = self.kl.kl_coefficient * estimate
        advantages, start = [], 0
        for answer, after in zip(answers, beyond.tolist(), strict=True):
            own = slice(start, start + len(answer.rollout.ids))
            start = own.stop
            rewards = -costs[own]
            cut_off = answer.rollout.truncated and self.sampling.truncated == "mask"
            if not cut_off:
                rewards[-1] += answer.reward
            advantages += generalised_advantages(
                rewards.tolist(), values[own].tolist(), gamma=self._own.gamma, lam=self._own.gae_lambda,
                beyond=after if cut_off else 0.0,
            )  # fmt: skip
        found = np.array(advantages, dtype=np.float32)
        return batch.with_tokens(advantage=found, value=values, **{"return": found + values})

    @torch.no_grad()
    def _values(self, batch: PolicyBatch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """V of the state before each answer token, and of the state after each answer."""
        moved = self.to_device(batch.batch)
        self._critic.eval()
        self.model.eval()
        with self.precision.autocast():
            hidden = self.model(moved.tokens, moved.positions, moved.attention) if self._shares else None
            values = self._critic_values(moved, hidden)
        return values[moved.sources].cpu().numpy(), values[moved.bounds[1:] - 1].cpu().numpy()

    @property
    def _shares(self) -> bool:
        return self._own.critic == "shared"

    def _critic_values(self, moved: DeviceBatch, hidden: Tensor | None) -> Tensor:
        """A value for every token of the batch, float32 (tokens,)."""
        if hidden is not None:
            values: Tensor = self._critic(hidden)[:, 0].float()
            return values
        found: Tensor = self._critic(moved.tokens, moved.positions, moved.attention)
        return found

    def _whitened(self, advantages: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Over all answer tokens of the round and of all processes."""
        whole = np.concatenate(advantages).astype(np.float64)
        own = {"count": float(len(whole)), "total": float(whole.sum()), "squares": float((whole**2).sum())}
        sums = sum_over_ranks(own, self.device.torch_device)
        return [whitened(torch.from_numpy(values), **sums).numpy() for values in advantages]

    # The loss

    def measure(self, batch: PolicyBatch) -> Measures:
        """The value loss is averaged as the policy loss is."""
        found = super().measure(batch)
        count = aggregated_count(batch.count, len(batch), self.sampling.max_new_tokens, self._own.aggregation)
        found.counts["value_loss"] = count
        if self.model.config.num_experts:
            found.counts["critic_balance"] = float(found.tokens)
        return found

    def loss(self, batch: PolicyBatch) -> dict[str, Term]:
        """Clipped policy loss and clipped value loss."""
        moved = self.to_device(batch.batch)
        hidden, terms = self.hidden(moved)
        found, more = (
            (self._critic_values(moved, hidden), {})
            if self._shares
            else self.routed(self._critic, moved, "critic_balance")
        )
        values = found[moved.sources]
        known = {name: torch.from_numpy(batch.tokens[name]).to(values.device) for name in ("value", "return")}
        losses = value_losses(values, known["value"], known["return"], self._own.value_clip)
        total = aggregate(losses, moved.documents, len(batch), self._own.aggregation)
        value_loss = Term(total, self._own.value_coefficient)
        return self.policy_terms(batch, moved, hidden) | {"value_loss": value_loss} | terms | more

    def reference_losses(self, ratios: Tensor) -> Tensor:
        """The divergence, where it is not in the reward already."""
        return super().reference_losses(ratios) if self._own.kl_in == "loss" else torch.zeros_like(ratios)

    def accept(self, terms: dict[str, float]) -> bool:
        """A step that comes too late, from a policy too far from what sampled, is not taken."""
        super().accept(terms)
        self._stopped = bool(self._own.early_stop_kl) and terms["kl_old"] > self._own.early_stop_kl
        return not self._stopped

    # Checkpoints

    def save_model(self, folder: Path) -> None:
        """The policy's folder, with the critic in critic/."""
        super().save_model(folder)
        tokenizer = self.encoder.tokenizer
        ids: dict[str, Any] = {"bos_token_id": tokenizer.bos_id, "eos_token_id": sorted(tokenizer.stop_ids)}
        if isinstance(self._critic, ScalarModel):
            save_scalar_model(folder / "critic", self._critic, pad_token_id=tokenizer.pad_id, **ids)
        else:
            (folder / "critic").mkdir()
            save_file({name: tensor.cpu() for name, tensor in self._critic.state_dict().items()},
                      folder / "critic" / _HEAD_FILE)  # fmt: skip

    def load_model(self, folder: Path) -> None:
        """Reads both back."""
        super().load_model(folder)
        if isinstance(self._critic, ScalarModel):
            restore_scalar_model(self._critic, folder / "critic")
        else:
            self._critic.load_state_dict(load_file(folder / "critic" / _HEAD_FILE))


def _explained_variance(batches: Sequence[PolicyBatch]) -> float:
    """The share of the returns' variance that the critic foresaw; 0 where they are all equal."""
    returns = np.concatenate([batch.tokens["return"] for batch in batches])
    errors = returns - np.concatenate([batch.tokens["value"] for batch in batches])
    return float(1 - errors.var() / returns.var()) if returns.var() > 1e-12 else 0.0
