"""What a run is expected to take, and what would make it fit. Torch-free."""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any


@dataclass(frozen=True)
class Breakdown:
    """Bytes that are allocated at the moment of the peak; they add up to it.

    Attributes:
        weights: Of what is trained, frozen parts of the same model included.
        gradients: Of the trained parameters.
        optimizer: AdamW's two moments, the critic's included.
        activations: What the forward pass keeps for the backward pass, and works in.
        logits: Scores over the vocabulary, and what the loss makes of them.
        reference: Frozen copies of the start checkpoint, and a reward model.
        teacher: A frozen teacher.
        critic: The weights of a critic of its own.
        rollout_cache: Keys and values of answers in the making.
        runtime: Weights in the precision of computation, the batch, tables.
    """

    weights: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    logits: int = 0
    reference: int = 0
    teacher: int = 0
    critic: int = 0
    rollout_cache: int = 0
    runtime: int = 0

    @property
    def total(self) -> int:
        """Their sum."""
        return sum(getattr(self, entry.name) for entry in fields(self))

    def corrected(self, peak_bytes: int) -> "Breakdown":
        """The parts of a peak that is known better: what differs is laid to the activations."""
        return replace(self, activations=max(0, self.activations + peak_bytes - self.total))


@dataclass(frozen=True)
class Suggestion:
    """A change of settings with what it would bring; predicted, not listed.

    Attributes:
        changes: Settings by name with their new values, in the order in which people change them.
        peak_bytes: The peak with it.
        saves_bytes: How much less that is.
        fits: Whether the run then fits.
        cost: What it costs, in a sentence: speed, quality, a changed task.
        keeps_effective_batch: Whether a step still learns from as many rows.
        truncated_rows: Rows of this data that it would cut, beside those cut already; None where that is not known.
    """

    changes: dict[str, Any]
    peak_bytes: int
    saves_bytes: int
    fits: bool
    cost: str
    keeps_effective_batch: bool
    truncated_rows: int | None = None

    @property
    def title(self) -> str:
        """The change in words: `batch_size=4 accumulation_steps=8`."""
        return " ".join(f"{name}={_text(value)}" for name, value in self.changes.items())


@dataclass(frozen=True)
class MemoryPlan:
    """What a run is expected to take on a device.

    Attributes:
        device: `cpu`, `cuda`, or a card by name.
        limit_bytes: What there is: resident memory of the process on a CPU, the card's memory elsewhere.
        peak_bytes: The allocated peak of a step, of answers in the making or of an evaluation, whichever is most.
        low_bytes: The least that the process is expected to hold at its peak, the program itself included.
        high_bytes: The most; what is compared with the limit.
        breakdown: Of the peak.
        method: `formula`; `trace`, where the real step was traced with tensors that hold nothing; `measured`, where
            it was made.
        phase: `update`, `rollout` or `evaluation`: where the peak lies.
        allocator: `fast` or `tight`, see `engine.allocator`; a run is slower where only that fits.
        shape: Documents, tokens and the longest document of the largest micro-batch.
        suggestions: Changes that help, the smallest that fits first.
        max_batch_size: The largest batch_size that fits with everything else as it is; 0: none.
        longest_seq_len: The longest max_seq_len that fits so; 0: none.
        verified: Whether a run on this device has reported what it really took.
        notes: What was assumed.
        time: `tokens_per_second` and `seconds` of the whole run, from `source`; None where nothing is known.
    """

    device: str
    limit_bytes: int
    peak_bytes: int
    low_bytes: int
    high_bytes: int
    breakdown: Breakdown
    method: str
    phase: str
    allocator: str
    shape: dict[str, int]
    suggestions: list[Suggestion] = field(default_factory=list)
    max_batch_size: int = 0
    longest_seq_len: int = 0
    verified: bool = False
    notes: list[str] = field(default_factory=list)
    time: dict[str, Any] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Whether the most that is expected stays within the limit."""
        return self.high_bytes <= self.limit_bytes

    @property
    def headroom_bytes(self) -> int:
        """What is left at the peak; negative where it does not fit."""
        return self.limit_bytes - self.high_bytes

    def to_json(self) -> dict[str, Any]:
        """What `engine plan --json` prints."""
        suggestions = [{"title": each.title, **asdict(each)} for each in self.suggestions]
        own = {"fits": self.fits, "headroom_bytes": self.headroom_bytes, "suggestions": suggestions}
        return asdict(self) | own


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
