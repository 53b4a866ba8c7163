"""What an answer is rewarded for."""

import math

from pydantic import field_validator, model_validator

from engine.settings.fields import Section, setting
from engine.settings.suggest import nearest

REWARD_NAMES = (
    "answer", "exact", "number", "format", "tags", "length", "repetition", "language", "model", "python",
)  # fmt: skip
"""The rewards that there are; `engine.rewards.registry` says what each is."""


class RewardSettings(Section):
    """Which rewards are given, how much each weighs, and what they need."""

    rewards: dict[str, float] = setting(
        {"answer": 1.0},
        controls="The rewards and the weight of each; their weighted sum is the reward of an answer.",
        high="A heavy part is learnt at the cost of the others.",
        low="0: the part is measured and shown but not learnt from.",
        start="{ answer = 1.0, format = 0.5 }",
    )  # fmt: skip
    reward_failure: float = setting(
        0.0,
        controls="What a part scores for an answer where it fails: it raised an error or gave no finite number.",
        high="Failing pays.",
        low="Answers are punished for faults of the reward.",
        start="0",
    )  # fmt: skip
    reward_length_min: int = setting(
        1, ge=0, unit="tokens",
        controls="From how many tokens on an answer is long enough for `length`; below, the score falls to 0 at none.",
        high="Short answers that are right are stretched.",
        low="0: an empty answer is long enough.", start="1",
    )  # fmt: skip
    reward_length_max: int = setting(
        512, ge=1, unit="tokens",
        controls="Up to how many tokens an answer is short enough for `length`; above, the score falls to 0 at twice.",
        high="Answers grow until the length limit cuts them.",
        low="Thinking is cut short.", start="half of the length limit",
    )  # fmt: skip
    reward_model: str = setting(
        "",
        controls="The reward model for `model`: a run or a folder of a sequence classifier with one label.",
        high="A large one takes the memory and time that the answers need.",
        low="Empty: `model` cannot be among the rewards.", start="a run of the reward stage",
    )  # fmt: skip
    reward_model_clip: float = setting(
        3.0, gt=0,
        controls="The reward model's score is cut to ± this.",
        high="Answers that fool the reward model pay without limit.",
        low="Good and very good answers get the same.", start="3",
    )  # fmt: skip
    reward_python: str = setting(
        "",
        controls="The Python file for `python`, which stands alone: the run keeps a copy. It defines "
        "reward(prompt, answer, row), and LOW, HIGH if not 0, 1.",
        high="It runs with your rights: take no file that you have not read.",
        low="Empty: `python` cannot be among the rewards.", start="unset",
    )  # fmt: skip

    @field_validator("rewards")
    @classmethod
    def _known_and_weighed(cls, rewards: dict[str, float]) -> dict[str, float]:
        for name, weight in rewards.items():
            if name not in REWARD_NAMES:
                hint = nearest(name, REWARD_NAMES) or f"there are {', '.join(REWARD_NAMES)}"
                raise ValueError(f"unknown reward {name!r}: {hint}")
            if not math.isfinite(weight):
                raise ValueError(f"the weight of {name} must be a finite number")
        if not any(rewards.values()):
            raise ValueError("at least one reward must have a weight other than 0")
        return rewards

    @field_validator("reward_failure", "reward_model_clip")
    @classmethod
    def _finite(cls, value: float) -> float:
        if not math.isfinite(value):
            raise ValueError("must be a finite number")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> "RewardSettings":
        if self.reward_length_min > self.reward_length_max:
            raise ValueError(
                f"reward_length_min ({self.reward_length_min}) is above reward_length_max ({self.reward_length_max})"
            )
        for name, source in (("model", self.reward_model), ("python", self.reward_python)):
            if name in self.rewards and not source:
                raise ValueError(f"rewards has {name}, but reward_{name} is empty")
        return self
