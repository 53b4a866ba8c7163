"""The reward model: a scalar head learns which of two answers is better (Bradley and Terry's model of pairs)."""

from collections.abc import Iterable
from copy import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.model.heads import (
    ScalarModel,
    is_scalar_model,
    restore_scalar_model,
    save_scalar_model,
)
from engine.objectives.preference import bradley_terry, calibration_error
from engine.stages.context import StageContext
from engine.stages.pairs import PairStage
from engine.text.batching import Batch
from engine.text.tokenizer import Tokenizer
from engine.training.stage import Evaluation, Measures, Term


class RewardModel(PairStage):
    """The score of an answer is read at its end-of-turn token, its last trained one; nothing after it is read."""

    best_metric = "val_accuracy"

    def __init__(self, context: StageContext) -> None:
        super().__init__(context)
        torch.manual_seed(0)  # a head that is left out may be drawn; nothing random remains of it
        self._scorer = self.placed(ScalarModel(context.model, self._trained_head()))
        self.modules = {"model": self._scorer}

    def companions(self) -> Iterable[nn.Module]:
        """The model that the scorer is made of: its output table, if it has one of its own, stays beside it."""
        return (self.model,)

    def measure(self, batch: Batch) -> Measures:
        """All terms count pairs, the mean score counts answers."""
        pairs = len(batch.rows) / 2
        return self.measured(batch, {"loss": pairs, "accuracy": pairs, "margin": pairs, "score": 2 * pairs})

    def loss(self, batch: Batch) -> dict[str, Term]:
        """−log σ(score of chosen − score of rejected)."""
        scores, terms = self._routed_scores(batch)
        chosen, rejected = scores[::2], scores[1::2]
        margin = (chosen - rejected).detach()
        return {
            "loss": Term(bradley_terry(chosen, rejected).sum()),
            "accuracy": Term((margin > 0).float().sum() + 0.5 * (margin == 0).float().sum(), 0.0),
            "margin": Term(margin.sum(), 0.0),
            "score": Term(scores.detach().sum(), 0.0),
        } | terms

    @torch.no_grad()
    def evaluate(self) -> Evaluation:
        """Loss, accuracy, margin and calibration on the held-out pairs, and how far scores spread."""
        self._scorer.eval()
        losses: list[Tensor] = []
        margins: list[Tensor] = []
        scores: list[Tensor] = []
        for batch in self.held_out_pairs():
            with self.precision.autocast():
                found = self._scores(batch)
            losses.append(bradley_terry(found[::2], found[1::2]))
            margins.append(found[::2] - found[1::2])
            scores.append(found)
        metrics = self.pair_metrics(losses, margins)
        if metrics:
            spread = torch.cat(scores)
            metrics["val_calibration_error"] = calibration_error(torch.cat(margins))
            metrics["val_score_std"] = float(spread.std(correction=0))
        return Evaluation(metrics)

    def save_model(self, folder: Path) -> None:
        """Writes a Hugging Face sequence classifier with its tokenizer."""
        tokenizer = _padded_apart(self.encoder.tokenizer)
        tokenizer.save(folder)
        ids: dict[str, Any] = {"bos_token_id": tokenizer.bos_id, "eos_token_id": sorted(tokenizer.stop_ids)}
        save_scalar_model(folder, self._scorer, pad_token_id=tokenizer.pad_id, **ids)

    def load_model(self, folder: Path) -> None:
        """Reads it back."""
        restore_scalar_model(self._scorer, folder)

    def _trained_head(self) -> Tensor | None:
        """The head's weights where the run begins from another reward model; its blocks are the context's model."""
        run, start = self.context.run, self.settings.data.start_from
        folder = run.companion("start") if run.companion("start").is_dir() else Path(start)
        if not start or run.checkpoint_steps() or not is_scalar_model(folder):
            return None
        return self.read_scalar_model(folder).score.weight

    def _scores(self, batch: Batch) -> Tensor:
        """The score of each side, float32 (sides,)."""
        return self._routed_scores(batch)[0]

    def _routed_scores(self, batch: Batch) -> tuple[Tensor, dict[str, Term]]:
        """The score of each side, float32 (sides,), and the load-balancing term of a model with experts."""
        moved = self.to_device(batch)
        values, terms = self.routed(self._scorer, moved)
        return values[torch.from_numpy(batch.last_trained()).to(values.device)], terms


def _padded_apart(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with a padding token that ends no answer: transformers reads the last token that is no padding."""
    others = [name for name, id_ in tokenizer.control_tokens.items() if id_ not in tokenizer.stop_ids]
    if tokenizer.pad_id not in (None, tokenizer.eos_id) or not others:
        return tokenizer
    apart = copy(tokenizer)
    apart.special_tokens = tokenizer.special_tokens | {"pad_token": others[0]}
    apart.pad_id = tokenizer.control_tokens[others[0]]
    return apart
