"""How to sample, as a form shows it and the app remembers it. Torch-free and without Textual."""

import math
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from engine.errors import UserError
from engine.generation.settings import SamplingSettings

_FREE_SEEDS = 1_000_000


@dataclass(frozen=True)
class Sampling:
    """How to sample, as it is remembered: `SamplingSettings`, but the seed may be free (None)."""

    temperature: float = 0.7
    top_k: int = 0
    top_p: float = 0.95
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_new_tokens: int = 256
    seed: int | None = None
    greedy: bool = False

    @classmethod
    def read(cls, texts: Mapping[str, str], *, greedy: bool) -> "Sampling":
        """Reads what stands in a form; an empty seed is a free one.

        Raises:
            UserError: A number is none, or outside its limits; `where` is the field's name.
        """
        found: dict[str, Any] = {"greedy": greedy}
        for field in fields(cls):
            if field.name == "greedy":
                continue
            text = texts.get(field.name, "").strip()
            if field.name == "seed" and not text:
                continue
            whole = field.name in ("top_k", "max_new_tokens", "seed")
            try:
                value = int(text) if whole else float(text)
            except ValueError:
                kind = "a whole number" if whole else "a number"
                raise UserError(f"{field.name} must be {kind}", where=field.name) from None
            if not math.isfinite(value):
                raise UserError(f"{field.name} must be a number", where=field.name)
            found[field.name] = value
        sampling = cls(**found)
        sampling.settings(0)
        return sampling

    @classmethod
    def remembered(cls, values: Mapping[str, Any]) -> "Sampling":
        """What was kept with `values`; the defaults where that is no longer valid."""
        texts = {**cls().texts, **{name: str(value) for name, value in values.items() if value is not None}}
        try:
            return cls.read(texts, greedy=values.get("greedy") is True)
        except UserError:
            return cls()

    @property
    def values(self) -> dict[str, Any]:
        """As JSON values by name."""
        return asdict(self)

    @property
    def texts(self) -> dict[str, str]:
        """As a form shows it."""
        shown = {name: value for name, value in self.values.items() if name != "greedy"}
        return {name: "" if value is None else format(value, "g" if isinstance(value, float) else "d")
                for name, value in shown.items()}  # fmt: skip

    def settings(self, seed: int) -> SamplingSettings:
        """What the engine reads; `seed` is for the one answer.

        Raises:
            UserError: A value is outside its limits.
        """
        return SamplingSettings(
            0.0 if self.greedy else self.temperature, self.top_k, self.top_p, self.min_p, self.repetition_penalty,
            self.max_new_tokens, seed,
        )  # fmt: skip

    def pick_seed(self) -> int:
        """The fixed seed, or any."""
        return secrets.randbelow(_FREE_SEEDS) if self.seed is None else self.seed

    def __str__(self) -> str:
        """What differs from the model's own distribution, in short."""
        said = ["greedy"] if self.greedy else [f"T {self.temperature:g}"]
        cuts = [("top-k", self.top_k, 0), ("top-p", self.top_p, 1), ("min-p", self.min_p, 0)]
        said += [f"{name} {value:g}" for name, value, none in cuts if value != none and not self.greedy]
        said += [f"penalty {self.repetition_penalty:g}"] if self.repetition_penalty != 1 else []
        said += [f"seed {self.seed}"] if self.seed is not None and not self.greedy else []
        return " · ".join([*said, f"{self.max_new_tokens} tokens"])
