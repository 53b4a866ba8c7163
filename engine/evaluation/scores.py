"""What a checkpoint thinks of given tokens: their log-probabilities, and two checkpoints compared."""

import math
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import CheckpointError, UserError
from engine.model.attention import DocumentAttention
from engine.model.loading import load_model
from engine.objectives.cross_entropy import token_losses
from engine.text.batching import Batch
from engine.text.sample import Pair, Sample
from engine.text.tokenizer import Tokenizer
from engine.training.batch import to_device


class Scorer:
    """Gives the log-probabilities of a checkpoint. Threads may share one: their calls wait for each other.

    Args:
        folder: A Hugging Face folder, or an adapter's, with its tokenizer.
        dtype: Precision of the weights; softmax and sums are float32.
        device: Where.

    Attributes:
        folder: As given.
        tokenizer: The checkpoint's own.
        max_length: The most tokens that it reads.

    Raises:
        CheckpointError: The folder cannot be read, or its tokenizer knows more tokens than its model.
    """

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> None:
        self.folder, self.tokenizer = folder, Tokenizer.load(folder)
        self._model = load_model(folder, dtype).to(device).eval()
        self.max_length = self._model.config.max_position_embeddings
        self._vocab_size = self._model.config.vocab_size
        if self.tokenizer.vocab_size > self._vocab_size:
            raise CheckpointError(
                f"the tokenizer has {self.tokenizer.vocab_size} tokens, the model only {self._vocab_size}",
                where=str(folder),
                hint="the folder mixes two models: take another checkpoint",
            )
        self._lock = threading.Lock()

    def check(self, tokenizer: Tokenizer) -> None:
        """Makes sure that ids of this tokenizer mean to the checkpoint what they mean to the tokenizer.

        Raises:
            CheckpointError: They do not.
        """
        if tokenizer.fingerprint != self.tokenizer.fingerprint:
            raise CheckpointError(
                "the checkpoint was trained with another tokenizer: these token ids mean other words to it",
                where=str(self.folder),
                hint="encode the data with the checkpoint's own tokenizer",
            )

    def logprobs(self, sample: Sample, *, temperature: float = 1.0) -> list[float]:
        """The log-probability of every token given those before it, in nats; nan for the first.

        Args:
            sample: The tokens.
            temperature: What logits are divided by, as in sampling.

        Raises:
            UserError: The sample is longer than the model reads, or has ids that the model does not know.
        """
        if not len(sample):
            return []
        hidden = self._hidden(sample)
        targets = torch.from_numpy(sample.input_ids[1:].astype(np.int64)).to(hidden.device)
        losses = token_losses(hidden[:-1] / temperature, self._model.head_weight, targets)
        return [math.nan, *(-losses).tolist()]

    def pair(self, pair: Pair) -> tuple[list[float], list[float]]:
        """`logprobs` of the chosen and of the rejected side."""
        return self.logprobs(pair.chosen), self.logprobs(pair.rejected)

    @torch.no_grad()
    def sums(self, batches: Iterable[Batch]) -> Iterator[NDArray[np.float64]]:
        """The log-probability of the trained tokens of each document together, in nats, shape (documents,) a batch.

        Documents must be made with the checkpoint's own tokenizer and be no longer than `max_length`.
        """
        weight = self._model.head_weight
        for batch in batches:
            with self._lock:
                moved = to_device(batch, weight.device)
                hidden = self._model(moved.tokens, moved.positions, moved.attention)
                losses = token_losses(hidden[moved.sources], weight, moved.targets).cpu().double()
            yield losses.new_zeros(len(batch.rows)).index_add(0, moved.documents.cpu(), -losses).numpy()

    @torch.no_grad()
    def _hidden(self, sample: Sample) -> Tensor:
        """The final hidden states, shape (tokens, hidden_size)."""
        if len(sample) > self.max_length:
            raise UserError(
                f"the sample has {len(sample)} tokens, this checkpoint reads at most {self.max_length}",
                where=str(self.folder),
                hint=f"lower max_seq_len to {self.max_length}, or choose a checkpoint that reads more",
            )
        if not 0 <= sample.input_ids.min() <= sample.input_ids.max() < self._vocab_size:
            raise UserError(
                f"the sample has token ids that this checkpoint does not know: its vocabulary has {self._vocab_size}",
                where=str(self.folder),
                hint="encode the data with the checkpoint's own tokenizer",
            )
        with self._lock:
            device = self._model.head_weight.device
            tokens = torch.from_numpy(sample.input_ids.astype(np.int64)).to(device)
            positions = torch.arange(len(sample), device=device)
            hidden: Tensor = self._model(tokens, positions, DocumentAttention([0, len(sample)], device))
        return hidden


@dataclass(frozen=True, slots=True)
class Comparison:
    """A sample under two checkpoints.

    Attributes:
        policy: Log-probabilities of the one that is looked at, in nats; nan for the first token.
        reference: Of the one that it is compared with.
        trained: Tokens with a weight: those that are summed over.
        policy_sum: The log-probability of the trained tokens together.
        reference_sum: The same of the reference.
    """

    policy: list[float]
    reference: list[float]
    trained: int
    policy_sum: float
    reference_sum: float

    @property
    def difference(self) -> list[float]:
        """log(policy / reference) of every token: above 0 where the policy likes it better."""
        return [own - other for own, other in zip(self.policy, self.reference, strict=True)]


@dataclass(frozen=True, slots=True)
class PairScore:
    """A pair as DPO sees it (Rafailov et al., arXiv 2305.18290, section 4).

    Attributes:
        chosen: The preferred side.
        rejected: The other.
        beta: How much a nat of difference counts.
    """

    chosen: Comparison
    rejected: Comparison
    beta: float

    @property
    def chosen_reward(self) -> float:
        """The implicit reward β·log(policy / reference) of the chosen side."""
        return self.beta * (self.chosen.policy_sum - self.chosen.reference_sum)

    @property
    def rejected_reward(self) -> float:
        """The same of the rejected side."""
        return self.beta * (self.rejected.policy_sum - self.rejected.reference_sum)

    @property
    def margin(self) -> float:
        """Chosen reward less rejected reward: above 0 where the policy has learnt the preference."""
        return self.chosen_reward - self.rejected_reward

    @property
    def loss(self) -> float:
        """−log σ(margin), equation 7; ln 2 where policy and reference are one."""
        return max(-self.margin, 0.0) + math.log1p(math.exp(-abs(self.margin)))


def compare(sample: Sample, policy: Scorer, reference: Scorer) -> Comparison:
    """A sample's log-probabilities under two checkpoints.

    Raises:
        UserError: As `Scorer.logprobs`.
        CheckpointError: The two have different tokenizers.
    """
    policy.check(reference.tokenizer)
    own, other = policy.logprobs(sample), reference.logprobs(sample)
    trained: list[int] = np.flatnonzero(sample.loss_weights).tolist()
    sums = (math.fsum(values[place] for place in trained) for values in (own, other))
    return Comparison(own, other, len(trained), *sums)


def score_pair(pair: Pair, policy: Scorer, reference: Scorer, beta: float = 0.1) -> PairScore:
    """Both sides of a pair under two checkpoints, summed over trained tokens.

    Raises:
        UserError: As `compare`.
    """
    return PairScore(compare(pair.chosen, policy, reference), compare(pair.rejected, policy, reference), beta)
