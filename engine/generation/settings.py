"""How to sample, as a user says it; importing it loads no torch."""

from dataclasses import dataclass

from engine.errors import UserError


@dataclass(frozen=True)
class SamplingSettings:
    """How to sample.

    Attributes:
        temperature: 0 takes the most probable token; 1 samples from the model's distribution.
        top_k: Only the k most probable tokens; 0: all.
        top_p: Only the most probable tokens that together reach this probability; 1: all.
        min_p: Only tokens at least this fraction as probable as the most probable; 0: all.
        repetition_penalty: Logits of tokens already in the text are divided (if positive) or multiplied by it
            (CTRL, arXiv 1909.05858, section 4.1); 1: none.
        max_new_tokens: How many tokens at most.
        seed: Where the randomness comes from.
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 0.95
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_new_tokens: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        limits = [
            ("temperature", self.temperature >= 0, "0 or more"),
            ("top_k", self.top_k >= 0, "0 or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0, at most 1"),
            ("min_p", 0 <= self.min_p < 1, "from 0, below 1"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0"),
            ("max_new_tokens", self.max_new_tokens >= 1, "1 or more"),
        ]
        for name, fits, wanted in limits:
            if not fits:
                raise UserError(f"{name} is {getattr(self, name)}; it must be {wanted}", where=name)


GREEDY = SamplingSettings(temperature=0.0)
