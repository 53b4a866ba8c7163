"""How reinforcement learning makes answers, and what it watches beside the reward."""

from typing import Literal

from engine.settings.fields import Section, setting


class RolloutSettings(Section):
    """Sampling from the policy that is trained."""

    max_new_tokens: int = setting(
        128, ge=1, le=1_000_000, unit="tokens",
        controls="How long an answer may become.",
        high="Time and memory: answers are made token by token.",
        low="Answers are cut off before they are right; see truncated.",
        start="256",
    )  # fmt: skip
    temperature: float = setting(
        1.0, gt=0, le=10,
        controls="The temperature that answers are sampled at, and scored at.",
        high="Nonsense; nothing is ever right.",
        low="All answers to a prompt are the same: nothing to compare.",
        start="1",
    )  # fmt: skip
    rollout_top_k: int = setting(
        0, ge=0, unit="tokens",
        controls="Samples from the k most probable tokens only; 0: from all, as they are scored.",
        high="As 0.",
        low="Above 0 the sampled distribution is not the scored one: the gradient is biased (nanochat takes 50).",
        start="0",
    )  # fmt: skip
    truncated: Literal["mask", "score", "penalise"] = setting(
        "mask",
        controls="An answer cut off at max_new_tokens: mask leaves it out of the loss (PPO: the critic's value takes "
        "the place of its reward), score takes its reward as it is, penalise gives it the lowest reward.",
        high="penalise: answers become short, also where length is needed.",
        low="mask: a policy that never ends is not told to.",
        start="mask",
    )  # fmt: skip
    rollout_batch_size: int = setting(
        64, ge=1, le=100_000, unit="answers",
        controls="How many answers are made at a time. It changes no answer.",
        high="Memory for keys and values.",
        low="Slow: the weights are read for few tokens.",
        start="32",
    )  # fmt: skip
    guard_data: str = setting(
        "",
        controls="Conversations whose loss is measured at each evaluation: what the policy must not forget.",
        high="A large file: only guard_rows of it are read.",
        low="Empty: reward may rise while everything else is forgotten, unseen.",
        start="your sft file",
    )  # fmt: skip
    guard_rows: int = setting(
        128, ge=1, unit="rows",
        controls="How many rows of guard_data are measured.",
        high="Slow evaluations.",
        low="A noisy guard.",
        start="128",
    )  # fmt: skip


class KlSettings(Section):
    """How near the policy is kept to the checkpoint that it started from."""

    kl_coefficient: float = setting(
        0.0, ge=0, le=100,
        controls="How much a nat of divergence from the start checkpoint costs; 0: no reference is kept.",
        high="Nothing moves.",
        low="0: free to leave the language it was taught.",
        start="0.02",
    )  # fmt: skip
    kl_estimator: Literal["k3", "k1"] = setting(
        "k3",
        controls="How the divergence is estimated from sampled tokens: k3 is never negative, k1 is the log ratio.",
        high="k1: single tokens may be rewarded for drifting; as a loss it has the gradient of half its square.",
        low="k3 in the reward punishes twice what is rare.",
        start="k3",
    )  # fmt: skip


class RatioSettings(KlSettings):
    """Learning from answers by the ratio of the policy to the one that sampled them."""

    clip_low: float = setting(
        0.2, gt=0, le=1,
        controls="How far a token may become less likely within one rollout before its gradient stops.",
        high="Large steps away from what was sampled.",
        low="Nothing moves after the first update.",
        start="0.2",
    )  # fmt: skip
    clip_high: float = setting(
        0.28, gt=0, le=100,
        controls="How far it may become more likely. cispo caps its weights there (MiniMind: 4).",
        high="Rare tokens may take over.",
        low="As clip_low: rare tokens hardly ever rise (DAPO takes 0.28).",
        start="0.28",
    )  # fmt: skip
    updates_per_rollout: int = setting(
        1, ge=1, le=1000, unit="updates",
        controls="How often the same answers are learnt from.",
        high="Learning from what the policy would no longer say.",
        low="1: always on policy; most time goes into making answers.",
        start="1",
    )  # fmt: skip


class GrpoSettings(RatioSettings):
    """Group relative policy optimization and its relatives."""

    num_generations: int = setting(
        8, ge=2, le=100_000, unit="answers a prompt",
        controls="The size of a group: answers to one prompt that are compared with each other.",
        high="Time and memory.",
        low="Groups of 2 or 3 often agree: no signal.",
        start="8",
    )  # fmt: skip
    loss_type: Literal["grpo", "dr_grpo", "dapo", "cispo", "reinforce"] = setting(
        "dapo",
        controls="grpo: mean of each answer, then over answers. dr_grpo: sum over a constant. dapo: mean over all "
        "tokens. cispo: capped weights on the log-probability. reinforce: no ratio, no clip (nanochat).",
        high="grpo: long wrong answers cost little a token.",
        low="reinforce: only for one update a rollout.",
        start="dapo",
    )  # fmt: skip
    advantage_std: Literal["population", "sample", "none"] = setting(
        "population",
        controls="What rewards are divided by after the group's mean is taken off (sample adds 1e-4, as TRL).",
        high="none: prompts on which answers differ much count most.",
        low="population, sample: very easy and very hard prompts count as much as others.",
        start="population",
    )  # fmt: skip
    std_floor: float = setting(
        1e-4, gt=0, le=10,
        controls="The least that rewards are divided by.",
        high="Small differences of reward hardly count.",
        low="Rounding counts as a signal.",
        start="1e-4",
    )  # fmt: skip
    compare: Literal["rewards", "pairwise"] = setting(
        "rewards",
        controls="What a group is compared by: its rewards, or how many an answer beats less how many beat it.",
        high="pairwise: one outlier cannot dominate a group.",
        low="rewards: as large as the rewards are.",
        start="rewards",
    )  # fmt: skip
