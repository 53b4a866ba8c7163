"""What a stage is to the loop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray
from torch import Tensor, nn

from engine.settings.profile import Settings


class MicroBatch(Protocol):
    """What the loop knows of a micro-batch: its size and where it comes from."""

    @property
    def input_ids(self) -> NDArray[Any]: ...

    @property
    def loss_weights(self) -> NDArray[Any]: ...

    @property
    def rows(self) -> NDArray[Any]: ...

    @property
    def slots(self) -> int: ...


@dataclass(frozen=True)
class Term:
    """One term of the loss: a sum over a micro-batch. The loop divides it by the term's count over the whole step."""

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
    rewards and advantages. It returns the round's optimizer steps, each a list of micro-batches: one step for
    supervised stages, several passes over the same rollouts for reinforcement learning. Checkpoints lie between
    rounds, so nothing that was collected needs to be saved.

    `counts(batch)` says how much of each term a micro-batch holds, before its forward pass. `loss(batch)` gives the
    terms' sums. The loop divides each sum by its term's count over all micro-batches and ranks of the optimizer step.
    """

    settings: Settings
    modules: Mapping[str, nn.Module]
    """What is trained or kept beside it; `model` is saved as the checkpoint's Hugging Face folder."""
    rounds: int
    steps_per_round: int
    best_metric: str
    """The evaluation metric by which the best checkpoint is chosen; lower is better."""

    def collect(self, round: int) -> Sequence[Sequence[MicroBatch]]: ...

    def counts(self, batch: Any) -> dict[str, float]: ...

    def loss(self, batch: Any) -> dict[str, Term]: ...

    def evaluate(self) -> Evaluation: ...

    def epoch(self, round: int) -> float: ...

    def flops(self, batch: Any) -> float: ...

    def metrics(self) -> dict[str, float]:
        """What the stage itself has to report of the last optimizer step."""
        ...

    def state(self) -> dict[str, Any]:
        """What a resume needs beside weights, optimizer and the round's number; JSON."""
        ...

    def load_state(self, state: dict[str, Any]) -> None: ...

    def save_model(self, folder: Any) -> None:
        """Writes the checkpoint's model files into a folder."""
        ...

    def load_model(self, folder: Any) -> None:
        """Reads them back, every tensor accounted for."""
        ...
