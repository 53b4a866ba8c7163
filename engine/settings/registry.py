"""The ladder of stages: what each is for, what it reads, what it starts from and what it reports."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from engine.errors import ProfileError
from engine.settings.data import ConversationSettings, DataSettings, DocumentSettings
from engine.settings.distill import DistillSettings
from engine.settings.fields import Section, SettingInfo, describe_section
from engine.settings.lora import LoraSettings, LoraStageSettings
from engine.settings.model import ModelSettings
from engine.settings.ppo import PpoSettings
from engine.settings.preference import DpoSettings
from engine.settings.reason import ReasonSettings
from engine.settings.rewards import RewardSettings
from engine.settings.rollout import GrpoSettings, RolloutSettings
from engine.settings.spo import SpoSettings
from engine.settings.suggest import nearest
from engine.settings.tokenizer import TokenizerSettings
from engine.settings.training import TrainingSettings


@dataclass(frozen=True)
class Metric:
    """A number that a stage reports in its events.

    `direction` is +1 where higher is better, -1 where lower is better, 0 where neither is.
    """

    name: str
    title: str
    unit: str = ""
    direction: int = 0


@dataclass(frozen=True)
class StageInfo:
    """One rung of the ladder; everything that can be known without loading torch."""

    name: str
    title: str
    purpose: str
    reads: tuple[str, ...]
    """The shapes of records it takes: text, conversation, pair, prompt."""
    starts_from: tuple[str, ...]
    """The stages whose checkpoints it usually starts from, best first; empty: from random weights."""
    sections: dict[str, type[Section]]
    metrics: tuple[Metric, ...]
    implementation: str
    """`module:name` of the stage, loaded when a run of it starts."""
    train_on: str = "all"
    """Which tokens are trained: `all`, the `assistant`'s, or those that the model says to a `prompt` itself."""
    keeps_start: bool = False
    """Whether a run needs what it started from all along, as its reference."""

    @cached_property
    def settings(self) -> Mapping[str, SettingInfo]:
        """All settings of the stage by name; a name stands in one section only."""
        described = (describe_section(key, of) for key, of in self.sections.items())
        return MappingProxyType({name: info for section in described for name, info in section.items()})


_MODEL: dict[str, type[Section]] = {"model": ModelSettings}
_TRAINING: dict[str, type[Section]] = {"training": TrainingSettings, "lora": LoraSettings}
_DOCUMENTS: dict[str, type[Section]] = {**_MODEL, "data": DocumentSettings, **_TRAINING}
_ROWS: dict[str, type[Section]] = {**_MODEL, "data": ConversationSettings, **_TRAINING}
_PROMPTS: dict[str, type[Section]] = {**_MODEL, "data": DataSettings, **_TRAINING}
_ANSWERS: dict[str, type[Section]] = {**_PROMPTS, "rollout": RolloutSettings, "reward": RewardSettings}

_COMMON_METRICS = (
    Metric("learning_rate", "learning rate"),
    Metric("grad_norm", "gradient norm"),
    Metric("tokens_per_second", "speed", "tokens/s", +1),
    Metric("trained_share", "trained share", "share of tokens"),
    Metric("padding_share", "padding share", "share of slots", -1),
    Metric("mfu", "model flops utilisation", "share", +1),
    Metric("memory_bytes", "memory", "bytes"),
    Metric("balance", "load balance (1 is even)", "", -1),
    Metric("expert_load_max", "busiest expert", "times its share", -1),
    Metric("expert_load_min", "idlest expert", "times its share", +1),
    Metric("router_entropy", "router entropy", "nats"),
)
_TRAINING_METRICS = (
    Metric("loss", "loss", "nats a token", -1),
    Metric("val_loss", "validation loss", "nats a token", -1),
    Metric("val_perplexity", "validation perplexity", "", -1),
    Metric("val_bits_per_byte", "validation bits per byte", "bits/byte", -1),
    *_COMMON_METRICS,
)
_REASON_METRICS = (
    Metric("val_format_rate", "well-formed answers", "share", +1),
    Metric("val_accuracy", "right answers", "share", +1),
)
_DISTILL_METRICS = (
    Metric("cross_entropy", "cross-entropy", "nats a token", -1),
    Metric("divergence", "divergence to the teacher", "nats a token", -1),
)
_PAIR_METRICS = (
    Metric("loss", "loss", "nats a pair", -1),
    Metric("accuracy", "pair accuracy", "share of pairs", +1),
    Metric("margin", "margin", "", +1),
    Metric("val_loss", "validation loss", "nats a pair", -1),
    Metric("val_accuracy", "validation pair accuracy", "share of pairs", +1),
    Metric("val_margin", "validation margin", "", +1),
)
_DPO_METRICS = (
    *_PAIR_METRICS,
    Metric("chosen_reward", "reward of chosen"),
    Metric("rejected_reward", "reward of rejected"),
    Metric("chosen_log_ratio", "log-ratio of chosen", "nats a token"),
    Metric("rejected_log_ratio", "log-ratio of rejected", "nats a token"),
    Metric("val_kl_reference", "divergence from the reference", "nats a token", -1),
    Metric("sft", "loss of chosen", "nats a token", -1),
    *_COMMON_METRICS,
)
_REWARD_METRICS = (
    *_PAIR_METRICS,
    Metric("score", "mean score"),
    Metric("val_calibration_error", "calibration error", "share", -1),
    Metric("val_score_std", "deviation of scores"),
    *_COMMON_METRICS,
)
_WORTH_METRICS = (
    Metric("reward", "reward", "", +1),
    Metric("val_pass_at_1", "right answers (greedy)", "share", +1),
    Metric("val_reward", "validation reward", "", +1),
    Metric("val_format_rate", "well-formed answers", "share", +1),
    Metric("guard_loss", "guard: loss of other rows", "nats a token", -1),
)
_POLICY_METRICS = (
    Metric("loss", "loss"),
    Metric("entropy", "entropy", "nats a token"),
    Metric("kl_ref", "divergence from the start", "nats a token", -1),
    Metric("kl_old", "divergence from the sampler", "nats a token", -1),
    Metric("clip_share", "clipped", "share of tokens", -1),
    Metric("ratio", "ratio"),
    Metric("truncated_share", "cut off", "share of answers", -1),
    Metric("val_truncated_share", "cut off (greedy)", "share of answers", -1),
    Metric("answer_tokens", "answer length", "tokens"),
    Metric("reward_std", "deviation of rewards"),
    Metric("correct_share", "right answers (sampled)", "share", +1),
    Metric("sampler_distance", "sampled and scored log-probability apart", "nats a token", -1),
    Metric("rollout_tokens_per_second", "rollout speed", "tokens/s", +1),
    *_COMMON_METRICS,
)
_GRPO_METRICS = (
    *_WORTH_METRICS,
    Metric("no_signal_share", "groups without a signal", "share of groups", -1),
    Metric("pass_at_k", "groups with a right answer", "share of groups", +1),
    *_POLICY_METRICS,
)
_PPO_METRICS = (
    *_WORTH_METRICS,
    Metric("value_loss", "value loss", "", -1),
    Metric("explained_variance", "rewards explained by the critic", "share", +1),
    Metric("stopped_early", "steps not taken", "share of steps", -1),
    *_POLICY_METRICS,
)
_SPO_METRICS = (
    *_WORTH_METRICS,
    Metric("baseline", "what was expected"),
    Metric("initial_rollouts", "answers that began the trackers"),
    Metric("rho", "what trackers keep", "share"),
    Metric("tracker_kl", "divergence since the last visit", "nats a token"),
    *_POLICY_METRICS,
)

_SUPERVISED_STAGE = "engine.stages.supervised:Supervised"

STAGES: dict[str, StageInfo] = {
    stage.name: stage
    for stage in (
        StageInfo(
            name="tokenizer",
            title="Tokenizer",
            purpose="Learns how text is cut into tokens.",
            reads=("text", "conversation"),
            starts_from=(),
            sections={"tokenizer": TokenizerSettings},
            metrics=(Metric("characters_per_token", "characters a token", "", +1),),
            implementation="engine.stages.tokenizer:train",
        ),
        StageInfo(
            name="pretrain",
            title="Pretrain",
            purpose="Learns language and knowledge from running text: every token is predicted.",
            reads=("text",),
            starts_from=(),
            sections=_DOCUMENTS,
            metrics=_TRAINING_METRICS,
            implementation=_SUPERVISED_STAGE,
        ),
        StageInfo(
            name="mid-train",
            title="Mid-train",
            purpose="Learns the shape of conversations before fine-tuning: structured rows with every token trained.",
            reads=("conversation", "text"),
            starts_from=("pretrain",),
            sections=_DOCUMENTS,
            metrics=_TRAINING_METRICS,
            implementation=_SUPERVISED_STAGE,
        ),
        StageInfo(
            name="sft",
            title="Supervised fine-tuning",
            purpose="Learns to answer: only the assistant's words are trained.",
            reads=("conversation",),
            starts_from=("mid-train", "pretrain"),
            sections=_DOCUMENTS,
            metrics=_TRAINING_METRICS,
            implementation=_SUPERVISED_STAGE,
            train_on="assistant",
        ),
        StageInfo(
            name="lora",
            title="LoRA",
            purpose="Fine-tunes a small adapter beside the frozen weights: a new voice or task for a few megabytes.",
            reads=("conversation",),
            starts_from=("sft",),
            sections=_DOCUMENTS | {"lora": LoraStageSettings},
            metrics=_TRAINING_METRICS,
            implementation=_SUPERVISED_STAGE,
            train_on="assistant",
            keeps_start=True,
        ),
        StageInfo(
            name="reason",
            title="Reasoning",
            purpose="Learns to think before answering: <think> and <answer> tags count more than other tokens.",
            reads=("conversation",),
            starts_from=("sft", "dpo"),
            sections={**_DOCUMENTS, "reason": ReasonSettings},
            metrics=(*_TRAINING_METRICS, *_REASON_METRICS),
            implementation="engine.stages.reason:Reason",
            train_on="assistant",
        ),
        StageInfo(
            name="distill",
            title="Distillation",
            purpose="Learns from a larger model's probabilities beside the data: what it might have said counts too.",
            reads=("conversation", "text"),
            starts_from=("sft", "pretrain"),
            sections={**_DOCUMENTS, "distill": DistillSettings},
            metrics=(*_TRAINING_METRICS, *_DISTILL_METRICS),
            implementation="engine.stages.distill:Distillation",
            train_on="assistant",
        ),
        StageInfo(
            name="dpo",
            title="Direct preference optimization",
            purpose="Learns which of two answers is preferred, kept near the checkpoint that it starts from.",
            reads=("pair",),
            starts_from=("sft", "reason"),
            sections={**_ROWS, "dpo": DpoSettings},
            metrics=_DPO_METRICS,
            implementation="engine.stages.dpo:Dpo",
            train_on="assistant",
            keeps_start=True,
        ),
        StageInfo(
            name="reward",
            title="Reward model",
            purpose="Learns to score answers from pairs, for reinforcement learning and for choosing among answers.",
            reads=("pair",),
            starts_from=("sft",),
            sections=_ROWS,
            metrics=_REWARD_METRICS,
            implementation="engine.stages.reward:RewardModel",
            train_on="assistant",
        ),
        StageInfo(
            name="ppo",
            title="PPO",
            purpose="Reinforcement learning with a critic: each token is judged by how well it went.",
            reads=("prompt", "conversation"),
            starts_from=("sft", "reason"),
            sections={**_ANSWERS, "ppo": PpoSettings},
            metrics=_PPO_METRICS,
            implementation="engine.stages.ppo:Ppo",
            train_on="prompt",
            keeps_start=True,
        ),
        StageInfo(
            name="grpo",
            title="GRPO",
            purpose="Reinforcement learning without a critic: several answers to a prompt are compared.",
            reads=("prompt", "conversation"),
            starts_from=("sft", "reason"),
            sections={**_ANSWERS, "grpo": GrpoSettings},
            metrics=_GRPO_METRICS,
            implementation="engine.stages.grpo:Grpo",
            train_on="prompt",
        ),
        StageInfo(
            name="spo",
            title="SPO",
            purpose="Reinforcement learning with one answer a prompt, compared with what earlier ones were worth.",
            reads=("prompt", "conversation"),
            starts_from=("sft", "reason"),
            sections={**_ANSWERS, "spo": SpoSettings},
            metrics=_SPO_METRICS,
            implementation="engine.stages.spo:Spo",
            train_on="prompt",
        ),
    )
}


def find_stage(name: str) -> StageInfo:
    """The stage of that name.

    Raises:
        ProfileError: There is none; the nearest name is suggested.
    """
    if name not in STAGES:
        raise ProfileError(f"there is no stage {name!r}", hint=nearest(name, STAGES) or f"stages: {', '.join(STAGES)}")
    return STAGES[name]
