"""Reasoning: supervised fine-tuning in which the tags of thoughts and answers weigh more, and are asked for."""

import numpy as np

from engine.generation.generate import generate
from engine.generation.sampling import SamplingSettings
from engine.rewards.checks import final_answer, is_correct, is_well_formed
from engine.settings.reason import QUESTIONS, ReasonSettings, most_tokens
from engine.stages.context import StageContext
from engine.stages.supervised import Supervised
from engine.text.batching import Batch
from engine.training.stage import Evaluation, Measures


class Reason(Supervised):
    """Weighted maximum likelihood; the encoder gives the tags their weight."""

    def __init__(self, context: StageContext) -> None:
        super().__init__(context)
        self._by_weights = context.settings.part(ReasonSettings).loss_denominator == "weights"

    def measure(self, batch: Batch) -> Measures:
        """The count of the loss is the sum of the weights, or the number of trained tokens."""
        weights = batch.loss_weights
        count = weights.sum(dtype=np.float64) if self._by_weights else np.count_nonzero(weights)
        return self.measured(batch, {"loss": float(count)})

    def evaluate(self) -> Evaluation:
        """Besides likelihood and samples: how often held-out questions get a well-formed answer, and the right one."""
        found = super().evaluate()
        found.metrics.update(self._asked())
        return found

    def _asked(self) -> dict[str, float]:
        tokenizer = self.encoder.tokenizer
        rows = self.held_out[:QUESTIONS].tolist()
        prompts, expected = [], []
        for index in rows:
            ids, trained = self.store.ids(index), np.flatnonzero(self.store.weights(index))
            turns = np.flatnonzero(np.diff(trained) > 1)  # between two answers stands what somebody else says
            answer = trained[turns[-1] + 1 :] if len(turns) else trained
            prompts.append(ids[: answer[0]].tolist())
            expected.append(tokenizer.decode(ids[answer].tolist()))
        if not rows:
            return {}
        longest = int(max(np.count_nonzero(self.store.weights(index)) for index in rows))
        settings = SamplingSettings(temperature=0.0, max_new_tokens=most_tokens(longest))
        self.model.eval()
        said = [tokenizer.decode(answer.ids) for answer in generate(self.model, prompts, settings, tokenizer.stop_ids)]
        right = [is_correct(one, final_answer(other), None, {}) for one, other in zip(said, expected, strict=True)]
        return {
            "val_format_rate": sum(map(is_well_formed, said)) / len(said),
            "val_accuracy": sum(right) / len(right),
        }
