"""What an optimizer step allocates at its worst moment, as it was measured or traced. Torch-free."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StepPeak:
    """Bytes that are allocated at the worst moment of a run's largest optimizer step.

    Attributes:
        weights: Of what is trained, frozen parts of the same modules included.
        companions: Of frozen models beside it.
        optimizer: AdamW's state.
        gradients: Of what is trained; they are a part of `work`.
        work: What forward and backward pass have allocated at most.
    """

    weights: int
    companions: int
    optimizer: int
    gradients: int
    work: int

    @property
    def peak_bytes(self) -> int:
        """All of it. The optimizer's own moment is never the worst: of `work` it has the gradients alone."""
        return self.weights + self.companions + self.optimizer + self.work
