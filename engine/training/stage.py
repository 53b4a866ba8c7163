"""What a stage is to the loop."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from engine.settings.profile import Settings


@dataclass(frozen=True)
class Measures:
    """What can be known of a micro-batch before its forward pass.

    Attributes:
        counts: How much of each loss term it holds, by the term's name: tokens, sequences, pairs.
        tokens: Tokens read.
        trained: Tokens with a weight.
        slots: What it would take as padded rows.
        flops: Floating point operations of its matrix products, forward and backward.
        rows: The rows of the data in it, to be named if it turns out bad.
    """

    counts: dict[str, float]
    tokens: int
    trained: int
    slots: int
    flops: float
    rows: Sequence[int]


@dataclass(frozen=True)
class Term:
    """One term of the loss: a sum over a micro-batch. The loop divides it by the term's count over the whole step.

    A coefficient of 0 makes it a figure that is reported and not trained on, such as the share of clipped ratios.
    """

    sum: Tensor
    coefficient: float = 1.0


@dataclass(frozen=True)
class Said:
    """An answer of the model to a fixed prompt."""

    prompt: str
    text: str
    stop_reason: str


@dataclass(frozen=True)
class Evaluation:
    """Numbers and samples of an evaluation."""

    metrics: dict[str, float]
    said: list[Said] = field(default_factory=list)


class Stage(Protocol):
    """Supervised and reinforcement learning alike.

    A run is a sequence of rounds. `collect(round)` makes the data of a round: from the sampler, or by rollouts,
    rewards and advantages. It gives the round's optimizer steps, each a list of micro-batches: one step for
    supervised stages, several passes over the same rollouts for reinforcement learning; a step without micro-batches
    changes nothing. They may come from a generator, which sees what became of the steps before. Checkpoints lie between
    rounds, so nothing that was collected needs to be saved; what a round collects is a function of the weights, the
    seed and the round's number, so a resume collects it again.

    A micro-batch is the stage's own affair: the loop asks for its `measure` and its `loss`, nothing else. Several
    optimizer steps may name the same micro-batches, so what a rollout knew of itself (old log-probabilities,
    advantages) travels in them. Each term's sum is divided by the term's count over all micro-batches and ranks of the
    optimizer step.

    Long work in `collect` and `evaluate` calls `Inbox.hurry` now and then, so that a run can be told to end; both
    happen where the weights are those of a checkpoint. They leave modules in whatever mode they like: the loop
    switches to training before a round's first step.
    """

    settings: Settings
    modules: Mapping[str, nn.Module]
    """What is trained, by name. Frozen companions (references, teachers) are the stage's own."""
    rates: Mapping[str, float]
    """By module: its learning rate in times of the run's; 1 where it is not named."""
    rounds: int
    steps_per_round: int
    measures_start: bool
    """Whether the model is evaluated before its first step too, unless evaluations are left for the end."""
    best_metric: str
    """The metric of an evaluation by which the best checkpoint is chosen. The registry's table of metrics says whether
    higher is better."""

    def collect(self, round: int) -> Iterable[Sequence[Any]]: ...

    def largest(self) -> Sequence[Any]:
        """One or two micro-batches that may take the most memory of the whole run; they change nothing of the stage.

        What a run only finds out (the answers of a policy) is as large as it may get.
        """
        ...

    @property
    def accumulates(self) -> bool:
        """Whether a step may take several micro-batches: gradients then live while the next one is computed."""
        ...

    def companions(self) -> Iterable[nn.Module]:
        """The frozen models in memory beside what is trained."""
        ...

    def unnoted(self) -> AbstractContextManager[None]:
        """Within it, what `loss` notes for the next report is forgotten."""
        ...

    def settle(self) -> None:
        """The round's first step is made: what collecting it changed besides the weights (logs, trackers) holds now.

        Until then a round can be given up, and leaves nothing behind.
        """
        ...

    def measure(self, batch: Any) -> Measures: ...

    def loss(self, batch: Any) -> dict[str, Term]: ...

    def accept(self, terms: dict[str, float]) -> bool:
        """Whether a step is to be taken, by its terms over all micro-batches and ranks; else the weights stay."""
        ...

    def parts(self, batch: Any) -> Iterable[Any]:
        """A micro-batch as micro-batches of one row each. Where its loss is not finite, the loop asks for theirs."""
        ...

    def evaluate(self) -> Evaluation: ...

    def epoch(self, round: int) -> float:
        """Passes over the data that lie behind before this round."""
        ...

    def metrics(self) -> dict[str, float]:
        """What the stage itself has to report of the last round, beside the terms of its loss."""
        ...

    def state(self) -> dict[str, Any]:
        """What a resume needs beside weights, optimizer and the round's number; JSON."""
        ...

    def load_state(self, state: dict[str, Any]) -> None: ...

    def save_model(self, folder: Path) -> None:
        """Writes the checkpoint's model files into a folder."""
        ...

    def load_model(self, folder: Path) -> None:
        """Reads them back, every tensor accounted for."""
        ...
