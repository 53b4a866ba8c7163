"""Adapters: training a few small matrices beside a model that stays as it is."""

from engine.settings.fields import Section, setting


class LoraSettings(Section):
    """LoRA, for any stage that trains a model."""

    lora_rank: int = setting(
        0, ge=0, le=65536, unit="directions",
        controls="How many directions each adapted layer may change in; 0 trains all weights, without an adapter.",
        high="As many trained weights as the model has; a small data set is learnt by heart.",
        low="1 to 4: enough for a name or a tone, too little for new skills.",
        start="8; 16 to 64 for much data",
    )  # fmt: skip
    lora_alpha: float = setting(
        16.0, gt=0, le=1e6,
        controls="The weight of the adapter: what it adds is multiplied by lora_alpha / lora_rank.",
        high="As too high a learning rate: restless, the base's knowledge is drowned.",
        low="The adapter hardly shows; the learning rate would have to make up for it.",
        start="twice the rank",
    )  # fmt: skip
    lora_dropout: float = setting(
        0.0, ge=0, lt=1, unit="share",
        controls="Share of an adapter's inputs that is dropped while training.",
        high="Slow learning.",
        low="0: a small data set seen often is learnt by heart.",
        start="0, or 0.05 for a few hundred rows",
    )  # fmt: skip
    lora_targets: list[str] = setting(
        ["all-linear"],
        controls="Which layers are adapted, by the end of their names: q_proj, down_proj, …; all-linear: all of them.",
        high="all-linear: the most trained weights, and the best results for them.",
        low="q_proj and v_proj only: half the memory for adapters, less is learnt at the same rank.",
        start='["all-linear"]',
    )  # fmt: skip


class LoraStageSettings(LoraSettings):
    """LoRA where it is the stage itself: there is always an adapter."""

    lora_rank: int = setting(
        8, ge=1, le=65536, unit="directions",
        controls="How many directions each adapted layer may change in.",
        high="As many trained weights as the model has; a small data set is learnt by heart.",
        low="1 to 4: enough for a name or a tone, too little for new skills.",
        start="8; 16 to 64 for much data",
    )  # fmt: skip
