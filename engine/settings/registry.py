"""The ladder of stages: what each is for, what it reads, what it starts from and what it reports."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from engine.errors import ProfileError
from engine.settings.data import DataSettings
from engine.settings.fields import Section, SettingInfo, describe_section
from engine.settings.model import ModelSettings
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
    """Which tokens are trained: `all`, or the `assistant`'s."""

    @cached_property
    def settings(self) -> Mapping[str, SettingInfo]:
        """All settings of the stage by name; a name stands in one section only."""
        described = (describe_section(key, of) for key, of in self.sections.items())
        return MappingProxyType({name: info for section in described for name, info in section.items()})


_SUPERVISED: dict[str, type[Section]] = {"model": ModelSettings, "data": DataSettings, "training": TrainingSettings}
_TRAINING_METRICS = (
    Metric("loss", "loss", "nats a token", -1),
    Metric("learning_rate", "learning rate"),
    Metric("grad_norm", "gradient norm"),
    Metric("tokens_per_second", "speed", "tokens/s", +1),
    Metric("val_loss", "validation loss", "nats a token", -1),
    Metric("val_perplexity", "validation perplexity", "", -1),
    Metric("val_bits_per_byte", "validation bits per byte", "bits/byte", -1),
    Metric("trained_share", "trained share", "share of tokens"),
    Metric("padding_share", "padding share", "share of slots", -1),
    Metric("mfu", "model flops utilisation", "share", +1),
    Metric("memory_bytes", "memory", "bytes"),
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
            sections=_SUPERVISED,
            metrics=_TRAINING_METRICS,
            implementation=_SUPERVISED_STAGE,
        ),
        StageInfo(
            name="mid-train",
            title="Mid-train",
            purpose="Learns the shape of conversations before fine-tuning: structured rows with every token trained.",
            reads=("conversation", "text"),
            starts_from=("pretrain",),
            sections=_SUPERVISED,
            metrics=_TRAINING_METRICS,
            implementation=_SUPERVISED_STAGE,
        ),
        StageInfo(
            name="sft",
            title="Supervised fine-tuning",
            purpose="Learns to answer: only the assistant's words are trained.",
            reads=("conversation",),
            starts_from=("mid-train", "pretrain"),
            sections=_SUPERVISED,
            metrics=_TRAINING_METRICS,
            implementation=_SUPERVISED_STAGE,
            train_on="assistant",
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
