"""What all stages that train a language model have in common: modules, forward pass, checkpoints, samples."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from engine.generation.chat import opening_ids
from engine.generation.generate import generate
from engine.generation.sampling import SamplingSettings
from engine.model.adapters import check_base, read_adapter, refill_adapter, save_adapter
from engine.model.config import matmul_flops_per_token
from engine.model.families import load_pretrained, save_pretrained
from engine.model.fingerprint import fingerprint
from engine.model.heads import ScalarModel, load_scalar_model
from engine.model.hf_config import write_config
from engine.model.loading import load_model
from engine.model.lora import adapted, merge
from engine.model.moe import load_balancing, router_figures
from engine.model.transformer import Transformer
from engine.objectives.cross_entropy import linear_cross_entropy
from engine.stages.context import StageContext
from engine.stages.experts import ExpertUse
from engine.stages.precomputed import Ask, Columns, Precomputed
from engine.stages.reference import Reference
from engine.text.batching import Batch, Indices, Sampler, fill_batches, make_batch, split_rows
from engine.text.messages import Message
from engine.text.store import token_byte_lengths
from engine.training.batch import DeviceBatch, to_device
from engine.training.device import DTYPES
from engine.training.stage import Measures, Said, Term
from engine.training.validate import held_out_loss

M = TypeVar("M", bound=nn.Module)

_SAMPLES = 3
_PROMPT_TOKENS = 16


class ModelStage:
    """The parts of `engine.training.stage.Stage` that do not depend on what is learnt.

    Attributes:
        settings: The run's.
        modules: What is trained, by name.
        rates: By module: its learning rate, in times of the run's; 1 where it is not named.
        train_rows: Indices of the samples to train on.
        held_out: Those to validate on, `eval_rows` of them.
        sampler: The order of what is trained on.
    """

    sampler: Sampler

    steps_per_round = 1
    measures_start = False
    together = 1
    """Samples that are one row: 2 of a pair."""
    best_metric = "val_loss"

    def __init__(self, context: StageContext) -> None:
        self.context, self.settings = context, context.settings
        self.model, self.store, self.encoder = context.model, context.store, context.encoder
        self.device, self.precision = context.device, context.precision
        self.modules: Mapping[str, nn.Module] = {"model": context.model}
        self.rates: Mapping[str, float] = {}
        training, data = context.settings.training, context.settings.data
        keys = context.store.columns["keys"]
        self.train_rows, held_out = split_rows(keys, data.val_fraction)
        if training.eval_rows:
            nearest = np.argsort(keys[held_out], kind="stable")
            held_out = np.sort(held_out[nearest[: self.together * training.eval_rows]])
        self.held_out: Indices = held_out
        self._byte_lengths = token_byte_lengths(context.encoder.tokenizer)
        self._figures: dict[str, list[float]] = {}
        self._experts = ExpertUse()

    # The way through the data

    @property
    def rounds(self) -> int:
        """Rounds of the whole run."""
        return self.settings.training.max_steps or self.settings.training.epochs * self.sampler.steps_per_epoch

    def epoch(self, round: int) -> float:
        """Passes over the data so far."""
        return self.sampler.epoch(round)

    def largest(self) -> Sequence[Any]:
        """The sampler's largest micro-batches."""
        return [make_batch(self.store, np.concatenate(rows), slots=0) for rows in self.sampler.largest(self.rounds)]

    @property
    def accumulates(self) -> bool:
        """Whether a step may take several micro-batches."""
        return self.micro_batches > 1

    @property
    def micro_batches(self) -> int:
        """How many a round takes at most."""
        return min(self.sampler.accumulation_steps, -(-len(self.sampler.units) // self.sampler.batch_size))

    # The forward pass

    def hidden(self, moved: DeviceBatch) -> tuple[Tensor, dict[str, Term]]:
        """The final hidden states [tokens, width], and the load-balancing term of a model with experts."""
        return self.routed(self.model, moved)

    def routed(self, module: nn.Module, moved: DeviceBatch, term: str = "balance") -> tuple[Tensor, dict[str, Term]]:
        """What a module with the model's blocks makes of a batch; with experts, how evenly it used them as a term."""
        config = self.model.config
        if not config.num_experts or not torch.is_grad_enabled():
            return module(moved.tokens, moved.positions, moved.attention), {}
        routers: list[Tensor] = []
        found: Tensor = module(moved.tokens, moved.positions, moved.attention, routers)
        if not routers:  # a critic without experts beside a policy that has some
            return found, {}
        balance = load_balancing(routers, moved.bounds, config.num_experts_per_tok)
        if term == "balance":
            self._experts.count(*router_figures(routers, config.num_experts_per_tok), len(moved.tokens))
        return found, {term: Term(balance, config.router_aux_loss_coef)}

    def cross_entropy(self, moved: DeviceBatch, hidden: Tensor) -> Tensor:
        """The weighted negative log-likelihood of the trained tokens, summed."""
        return linear_cross_entropy(
            hidden[moved.sources],
            self.model.head_weight,
            moved.targets,
            moved.weights,
            chunk=self.settings.training.loss_chunk_size,
            dtype=self.precision.dtype,
        )

    def to_device(self, batch: Batch) -> DeviceBatch:
        """A batch where the model is."""
        return to_device(batch, self.device.torch_device)

    def measured(self, batch: Batch, counts: dict[str, float]) -> Measures:
        """The measures of a batch with these counts; `counts` need not name the load balance."""
        lengths, tokens = np.diff(batch.cu_seqlens), len(batch.input_ids)
        context = float((lengths * (lengths + 1) / 2).sum() / lengths.sum())
        return Measures(
            counts=counts | ({"balance": float(tokens)} if self.model.config.num_experts else {}),
            tokens=tokens,
            trained=int(np.count_nonzero(batch.loss_weights)),
            slots=batch.slots,
            flops=matmul_flops_per_token(self.model.config, context) * tokens,
            rows=batch.rows.tolist(),
        )

    def parts(self, batch: Any) -> Iterator[Any]:
        """Its documents."""
        yield from batch.documents()

    def settle(self) -> None:
        """Collecting changes nothing."""

    def accept(self, terms: dict[str, float]) -> bool:
        """Every step is taken."""
        return True

    # What the loop asks for between steps

    def note(self, **figures: float) -> None:
        """Keeps figures for the next report, which gives their mean."""
        for name, value in figures.items():
            self._figures.setdefault(name, []).append(value)

    @contextmanager
    def unnoted(self) -> Iterator[None]:
        """Within it, what `loss` notes is forgotten."""
        experts, self._experts = self._experts, ExpertUse()
        try:
            yield
        finally:
            self._experts = experts

    def metrics(self) -> dict[str, float]:
        """The means of what was noted since the last report, and how experts were used."""
        found = {name: fmean(values) for name, values in self._figures.items()} | self._experts.metrics()
        self._figures, self._experts = {}, ExpertUse()
        return found

    def state(self) -> dict[str, Any]:
        """What was noted and not reported yet; the order of the data is a function of the step."""
        return {"figures": self._figures, "experts": self._experts.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores it."""
        self._figures = {name: list(values) for name, values in state["figures"].items()}
        self._experts = ExpertUse(**state["experts"])

    # Checkpoints

    def save_model(self, folder: Path) -> None:
        """Writes a Hugging Face folder: weights, shape, tokenizer; of a model with an adapter the adapter alone."""
        tokenizer = self.encoder.tokenizer
        tokenizer.save(folder)
        ends: dict[str, Any] = {
            "bos_token_id": tokenizer.bos_id,
            "eos_token_id": sorted(tokenizer.stop_ids),
            "pad_token_id": tokenizer.pad_id,
        }
        if not adapted(self.model):
            save_pretrained(folder, self.model, **ends)
            return
        write_config(folder, self.model.config, **ends, dtype="float32")
        save_adapter(folder, self.model, str(self.context.run.companion("start")), self._base_fingerprint)

    def load_model(self, folder: Path) -> None:
        """Reads the weights back.

        Raises:
            CheckpointError: They do not fit, or the adapter belongs to another base than the run keeps.
        """
        if not adapted(self.model):
            self.model.load_state_dict(load_pretrained(folder).state_dict())
            return
        adapter = read_adapter(folder)
        check_base(adapter, self.model, str(self.context.run.companion("start")))
        refill_adapter(self.model, adapter)

    @cached_property
    def _base_fingerprint(self) -> str:
        """Of what the adapter is put on, which does not change."""
        return fingerprint(self.model)

    # Companions: what is read of them, a trace replaces by their shapes

    def read_model(self, folder: Path) -> Transformer:
        """A checkpoint's language model, adapters merged."""
        model = load_model(folder)
        merge(model)
        return model

    def read_scalar_model(self, folder: Path) -> ScalarModel:
        """A reward model, or the critic that is made of it."""
        return load_scalar_model(folder)

    def placed(self, module: M, dtype: torch.dtype = torch.float32) -> M:
        """A module where the run computes."""
        return module.to(self.device.torch_device, dtype)

    def ask_once(
        self, folder: str, model: Transformer, key: Sequence[object], columns: Columns, *, ask: Ask, what: str
    ) -> Precomputed:
        """What a frozen model says of all trained tokens; see `Precomputed`."""
        return Precomputed(self.context, folder, model, key, columns, ask=ask, what=what)

    def companions(self) -> Iterable[nn.Module]:
        """None but for stages that compare with another model."""
        return ()

    def frozen(self, name: str, dtype: str = "float32") -> Transformer:
        """A model that the run keeps beside its own, in evaluation mode; it takes no gradients.

        Raises:
            CheckpointError: It cannot be read.
        """
        model = self.read_model(self.context.run.companion(name))
        return self.placed(model, DTYPES[dtype]).eval().requires_grad_(False)

    def reference(self) -> Reference:
        """The checkpoint that the run started from: the base under the adapter, or a frozen copy beside the model."""
        if adapted(self.model):
            return Reference(self.model)
        return Reference(self.placed(self.start_model()).eval().requires_grad_(False))

    def start_model(self) -> Transformer:
        """The checkpoint that the run started from, in float32; its positions are stretched as the run's are."""
        model = Transformer(replace(self.model.config, dropout=0.0))
        model.load_state_dict(self.frozen("start").state_dict())
        return model

    # Validation

    def held_out_batches(self) -> Iterator[Batch]:
        """Validation samples, as many tokens at a time as in training."""
        room = self.settings.training.batch_size * self.settings.data.max_seq_len
        for batch in fill_batches(self.store, self.held_out.tolist(), room):
            self.context.inbox.hurry()
            yield batch

    def likelihood(self) -> dict[str, float]:
        """Loss and bits per byte of the held-out rows."""
        return held_out_loss(
            self.model,
            self.held_out_batches(),
            self._byte_lengths,
            autocast=self.precision.autocast(),
            dtype=self.precision.dtype,
            chunk=self.settings.training.loss_chunk_size,
        )

    def say(self) -> list[Said]:
        """Greedy answers to the user's prompts, or to beginnings of held-out rows."""
        length = self.settings.training.sample_tokens
        prompts = self._prompts() if length else []
        if not prompts:
            return []
        tokenizer = self.encoder.tokenizer
        settings = SamplingSettings(temperature=0.0, max_new_tokens=length)
        self.model.eval()
        answers = generate(self.model, [ids for ids, _ in prompts], settings, tokenizer.stop_ids)
        return [
            Said(shown, tokenizer.decode(answer.ids), answer.stop_reason)
            for (_, shown), answer in zip(prompts, answers, strict=True)
        ]

    def _prompts(self) -> list[tuple[list[int], str]]:
        """Token ids and text of what the model is asked."""
        tokenizer, room = self.encoder.tokenizer, self.model.config.max_position_embeddings - 1
        own = self.settings.training.sample_prompts
        talks = self.encoder.settings.train_on != "all"
        if own and talks:
            asked = [(self.encoder.prompt_ids([Message("user", text)]), text) for text in own]
        elif own:
            asked = [(opening_ids(self.encoder, text), text) for text in own]
        else:
            begun = [self._beginning(index) for index in spread(self.held_out).tolist()]
            asked = [(ids, tokenizer.decode(ids, skip_control=not talks)) for ids in begun]
        return [(ids[-room:], text) for ids, text in asked if ids]

    def _beginning(self, index: int) -> list[int]:
        """What stands before a sample's answer; of running text, its first tokens."""
        ids, trained = self.store.ids(index), np.flatnonzero(self.store.weights(index))
        end = min(_PROMPT_TOKENS, len(ids) // 2)
        if self.encoder.settings.train_on != "all":
            end = int(trained[0]) if len(trained) else len(ids)
        return [int(token) for token in ids[:end]]


def spread(indices: Indices, count: int = _SAMPLES) -> Indices:
    """A few indices from all over."""
    if not len(indices):
        return indices
    return indices[np.unique(np.linspace(0, len(indices) - 1, count).round().astype(np.int64))]
