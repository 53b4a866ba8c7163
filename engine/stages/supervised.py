"""Pretraining, mid-training and supervised fine-tuning: predict the tokens that have a weight.

They differ in what they read and which tokens are trained; the registry says so, the encoder does it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from engine.generation.chat import opening_ids
from engine.generation.generate import generate
from engine.generation.sampling import SamplingSettings
from engine.model.config import matmul_flops_per_token
from engine.model.families import load_pretrained, save_pretrained
from engine.objectives.cross_entropy import linear_cross_entropy
from engine.stages.context import StageContext
from engine.text.batching import Batch, Indices, Sampler, fill_batches, split_rows
from engine.text.records import Message
from engine.text.store import token_byte_lengths
from engine.training.batch import to_device
from engine.training.stage import Evaluation, Measures, Said, Term
from engine.training.validate import held_out_loss

_SAMPLES = 3
_PROMPT_TOKENS = 16


class Supervised:
    """Maximum likelihood of the trained tokens, one optimizer step a round; see `engine.training.stage.Stage`."""

    steps_per_round = 1
    best_metric = "val_loss"

    def __init__(self, context: StageContext) -> None:
        self.settings = context.settings
        self._model, self._store, self._encoder = context.model, context.store, context.encoder
        self._device, self._precision, self._inbox = context.device, context.precision, context.inbox
        self.modules: dict[str, nn.Module] = {"model": context.model}
        training, data = context.settings.training, context.settings.data
        train_rows, self._held_out = split_rows(context.store.columns["keys"], data.val_fraction)
        self.sampler = Sampler(
            context.store,
            train_rows,
            batch_size=training.batch_size,
            accumulation_steps=training.accumulation_steps,
            max_seq_len=data.max_seq_len,
            packing=data.packing,
            seed=training.seed,
        )
        self.rounds = training.max_steps or training.epochs * self.sampler.steps_per_epoch
        if training.eval_rows:
            keys = context.store.columns["keys"][self._held_out]
            self._held_out = np.sort(self._held_out[np.argsort(keys, kind="stable")[: training.eval_rows]])
        self._byte_lengths = token_byte_lengths(context.encoder.tokenizer)

    def collect(self, round: int) -> list[list[Batch]]:
        """The sampler's micro-batches of one step."""
        return [self.sampler.step(round)]

    def measure(self, batch: Batch) -> Measures:
        """The count of the loss is the sum of the weights."""
        lengths, tokens = np.diff(batch.cu_seqlens), len(batch.input_ids)
        context = float((lengths * (lengths + 1) / 2).sum() / lengths.sum())
        return Measures(
            counts={"loss": float(batch.loss_weights.sum(dtype=np.float64))},
            tokens=tokens,
            trained=int(np.count_nonzero(batch.loss_weights)),
            slots=batch.slots,
            flops=matmul_flops_per_token(self._model.config, context) * tokens,
            rows=batch.rows.tolist(),
        )

    def loss(self, batch: Batch) -> dict[str, Term]:
        """The weighted negative log-likelihood of the trained tokens."""
        moved = to_device(batch, self._device.torch_device)
        hidden = self._model(moved.tokens, moved.positions, moved.attention)
        total = linear_cross_entropy(
            hidden[moved.sources],
            self._model.head_weight,
            moved.targets,
            moved.weights,
            chunk=self.settings.training.loss_chunk_size,
            dtype=self._precision.dtype,
        )
        return {"loss": Term(total)}

    def parts(self, batch: Batch) -> Iterator[Batch]:
        """Its documents."""
        return batch.documents()

    def evaluate(self) -> Evaluation:
        """Loss and bits per byte of the held-out rows, and answers to fixed prompts."""
        metrics = held_out_loss(
            self._model,
            self._held_out_batches(),
            self._byte_lengths,
            autocast=self._precision.autocast(),
            dtype=self._precision.dtype,
        )
        return Evaluation(metrics, self._say() if self.settings.training.sample_tokens else [])

    def epoch(self, round: int) -> float:
        """Passes over the data so far."""
        return self.sampler.epoch(round)

    def metrics(self) -> dict[str, float]:
        """Nothing beyond what the loop reports."""
        return {}

    def state(self) -> dict[str, Any]:
        """Nothing: the order is a function of the step."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""

    def save_model(self, folder: Path) -> None:
        """Writes the Hugging Face folder: weights, shape, tokenizer."""
        tokenizer = self._encoder.tokenizer
        tokenizer.save(folder)
        save_pretrained(
            folder,
            self._model,
            bos_token_id=tokenizer.bos_id,
            eos_token_id=sorted(tokenizer.stop_ids),
            pad_token_id=tokenizer.pad_id,
        )

    def load_model(self, folder: Path) -> None:
        """Reads the weights back."""
        self._model.load_state_dict(load_pretrained(folder).state_dict())

    def _held_out_batches(self) -> Iterator[Batch]:
        """Validation rows, as many tokens at a time as in training."""
        room = self.settings.training.batch_size * self.settings.data.max_seq_len
        for batch in fill_batches(self._store, self._held_out.tolist(), room):
            self._inbox.hurry()
            yield batch

    def _say(self) -> list[Said]:
        prompts = self._prompts()
        if not prompts:
            return []
        tokenizer = self._encoder.tokenizer
        settings = SamplingSettings(temperature=0.0, max_new_tokens=self.settings.training.sample_tokens)
        self._model.eval()
        answers = generate(self._model, [ids for ids, _ in prompts], settings, tokenizer.stop_ids)
        return [
            Said(shown, tokenizer.decode(answer.ids), answer.stop_reason)
            for (_, shown), answer in zip(prompts, answers, strict=True)
        ]

    def _prompts(self) -> list[tuple[list[int], str]]:
        """Token ids and text of what the model is asked: the user's prompts, or beginnings of held-out rows."""
        tokenizer, room = self._encoder.tokenizer, self._model.config.max_position_embeddings - 1
        own = self.settings.training.sample_prompts
        talks = self._encoder.settings.train_on == "assistant"
        if own and talks:
            asked = [(self._encoder.prompt_ids([Message("user", text)]), text) for text in own]
        elif own:
            asked = [(opening_ids(self._encoder, text), text) for text in own]
        else:
            begun = [self._beginning(index) for index in self._spread(self._held_out).tolist()]
            asked = [(ids, tokenizer.decode(ids, skip_control=not talks)) for ids in begun]
        return [(ids[-room:], text) for ids, text in asked if ids]

    def _spread(self, indices: Indices) -> Indices:
        if not len(indices):
            return indices
        return indices[np.unique(np.linspace(0, len(indices) - 1, _SAMPLES).round().astype(np.int64))]

    def _beginning(self, index: int) -> list[int]:
        ids, weights = self._store.ids(index), self._store.weights(index)
        if self._encoder.settings.train_on == "assistant":
            end = int(np.flatnonzero(weights)[0])
        else:
            end = min(_PROMPT_TOKENS, len(ids) // 2)
        return [int(token) for token in ids[:end]]
