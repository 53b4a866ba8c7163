"""How PPO learns: advantages from a critic, several passes over a rollout."""

from typing import Literal

from engine.settings.fields import setting
from engine.settings.rollout import KlSettings


class PpoSettings(KlSettings):
    """Proximal policy optimization with a critic."""

    kl_coefficient: float = setting(
        0.02, ge=0, le=100,
        controls="How much a nat of divergence from the start checkpoint costs.",
        high="Nothing moves.",
        low="0: free to leave the language it was taught; the divergence is still measured.",
        start="0.02",
    )  # fmt: skip
    kl_in: Literal["reward", "loss"] = setting(
        "reward",
        controls="Where the divergence is counted: in each token's reward (InstructGPT), or in the loss (MiniMind-3).",
        high="loss: pulls at once, past the critic.",
        low="reward: the critic learns to expect it.",
        start="reward with k1",
    )  # fmt: skip
    kl_estimator: Literal["k3", "k1"] = setting(
        "k1",
        controls="How the divergence is estimated from sampled tokens: k3 is never negative, k1 is the log ratio.",
        high="k1: single tokens may be rewarded for drifting; as a loss it has the gradient of half its square.",
        low="k3 in the reward punishes twice what is rare.",
        start="k1 in the reward, k3 in the loss",
    )  # fmt: skip
    critic: Literal["own", "shared"] = setting(
        "own",
        controls="own: a model of the actor's size beside it. shared: a value head on the actor's own hidden states.",
        high="own: twice the weights, gradients and optimizer.",
        low="shared: the value loss moves the actor too.",
        start="shared",
    )  # fmt: skip
    critic_from: str = setting(
        "",
        controls="The run or folder that the critic starts from: a reward model knows values already.",
        high="A larger model than the actor's: slow.",
        low="Empty: the start checkpoint with a value head of zeros.",
        start="your reward model, or empty",
    )  # fmt: skip
    critic_lr_ratio: float = setting(
        1.0, gt=0, le=1000, unit="times learning_rate",
        controls="The critic's learning rate.",
        high="Values jump about.",
        low="Values lag behind the policy.",
        start="2 to 10",
    )  # fmt: skip
    gamma: float = setting(
        1.0, gt=0, le=1,
        controls="How much a reward later counts now.",
        high="1: right where only the end is rewarded.",
        low="Early tokens of long answers learn nothing.",
        start="1",
    )  # fmt: skip
    gae_lambda: float = setting(
        0.95, ge=0, le=1,
        controls="Whom to trust: 0 the critic's values, 1 the rewards that came.",
        high="Noisy advantages.",
        low="Wrong ones, while the critic is still wrong.",
        start="0.95",
    )  # fmt: skip
    whiten: bool = setting(
        True,
        controls="Moves the advantages of a round's tokens to mean 0 and deviation 1.",
        high="On: the learning rate means the same for any rewards.",
        low="Off: advantages are as large as the rewards.",
        start="true",
    )  # fmt: skip
    clip_ratio: float = setting(
        0.2, gt=0, le=10,
        controls="How far a token's probability may move in one round before its gradient stops.",
        high="Large steps away from what was sampled.",
        low="Nothing moves after the first update.",
        start="0.2",
    )  # fmt: skip
    value_clip: float = setting(
        0.2, ge=0, le=1000,
        controls="How far a value may move in one round; 0: as far as it likes.",
        high="As 0.",
        low="The critic never catches up with rewards that are large.",
        start="0.2 for rewards around 1",
    )  # fmt: skip
    value_coefficient: float = setting(
        0.5, ge=0, le=100,
        controls="The weight of the value loss.",
        high="With a shared trunk the critic takes over.",
        low="The critic learns nothing.",
        start="0.5",
    )  # fmt: skip
    aggregation: Literal["token", "sequence"] = setting(
        "token",
        controls="The losses' mean: over all tokens of a step, or over each answer and then over answers.",
        high="sequence: short answers count for more a token.",
        low="token: long answers count for more.",
        start="token",
    )  # fmt: skip
    ppo_epochs: int = setting(
        2, ge=1, le=1000, unit="passes",
        controls="Passes over the answers of a round.",
        high="Learning from what the policy would no longer say; see early_stop_kl.",
        low="1: most time goes into making answers.",
        start="2",
    )  # fmt: skip
    mini_batches: int = setting(
        1, ge=1, le=10_000, unit="steps a pass",
        controls="Optimizer steps in each pass; each takes its share of accumulation_steps' micro-batches.",
        high="Refused: more than accumulation_steps.",
        low="1: few, calm updates.",
        start="2",
    )  # fmt: skip
    early_stop_kl: float = setting(
        0.25, ge=0, le=100, unit="nats a token",
        controls="Where the policy has moved this far from what sampled, a step is not taken, nor the rest of its "
        "round; 0: never stops.",
        high="As 0.",
        low="Most steps are left out.",
        start="0.1",
    )  # fmt: skip
