"""How SPO learns: one answer a prompt, against what the prompt's rewards were before."""

from typing import Literal

from pydantic import model_validator

from engine.settings.fields import setting
from engine.settings.rollout import RatioSettings

VISITS = 4
"""How often a prompt is to be visited at least, so that its tracker means something."""


class SpoSettings(RatioSettings):
    """Single-stream policy optimization (arXiv 2509.13232)."""

    tracker: Literal["prompt", "global"] = setting(
        "prompt",
        controls="What an answer is compared with: its own prompt's tracker, or one for all prompts (MiniMind2).",
        high="global: hard prompts are always worse than expected, easy ones always better.",
        low="prompt: each must be visited several times; see pool_size.",
        start="prompt",
    )  # fmt: skip
    pool_size: int = setting(
        0, ge=0, unit="prompts",
        controls="How many prompts are used, the same in every pass; 0: as many as get four visits each in max_steps.",
        high="Few visits: trackers stay at their beginnings.",
        low="A few prompts are learnt by heart.",
        start="0",
    )  # fmt: skip
    initial_rollouts: int = setting(
        8, ge=1, le=10_000, unit="answers a prompt",
        controls="Answers that begin each tracker, before the first step.",
        high="A long wait before anything is learnt.",
        low="1: trackers begin at 0 or 1.",
        start="8",
    )  # fmt: skip
    d_half: float = setting(
        0.06, gt=0, le=100, unit="nats a token",
        controls="The divergence since a prompt's last visit at which what its tracker saw counts half.",
        high="Trackers remember a policy that is gone.",
        low="Trackers forget at once: noisy baselines.",
        start="0.06",
    )  # fmt: skip
    rho_min: float = setting(
        0.875, ge=0, lt=1, unit="share",
        controls="The least that a tracker keeps at a visit: 0.875 is the weight of 8 rewards.",
        high="Trackers lag behind the policy.",
        low="Noisy baselines.",
        start="0.875",
    )  # fmt: skip
    rho_max: float = setting(
        0.96, gt=0, lt=1, unit="share",
        controls="The most that it keeps: 0.96 is the weight of 25 rewards.",
        high="Old rewards never fade.",
        low="Noisy baselines, also of a policy that stands still.",
        start="0.96",
    )  # fmt: skip
    prioritised: bool = setting(
        False,
        controls="Draws undecided prompts more often than those that are always right or always wrong.",
        high="On: more signal a step; the order depends on the trackers.",
        low="Off: every prompt once a pass.",
        start="true once it runs",
    )  # fmt: skip
    loss_type: Literal["grpo", "dapo", "reinforce"] = setting(
        "dapo",
        controls="As in GRPO: grpo means over answers, dapo over tokens, reinforce without ratio and clip.",
        high="grpo: long wrong answers cost little a token.",
        low="reinforce: only for one update a rollout.",
        start="dapo",
    )  # fmt: skip

    @model_validator(mode="after")
    def _in_order(self) -> "SpoSettings":
        if self.rho_min > self.rho_max:
            raise ValueError(f"rho_min ({self.rho_min}) is above rho_max ({self.rho_max})")
        return self


def prompts_used(own: SpoSettings, together: int, rounds: int) -> int | None:
    """How many prompts a run keeps to; None: all that there are.

    Args:
        own: Asks for a number, or leaves it to the others.
        together: Prompts a round.
        rounds: Of the whole run; 0 where the data decide.
    """
    return own.pool_size or (max(together, rounds * together // VISITS) if rounds else None)
