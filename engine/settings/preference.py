"""How preferences are learnt by DPO."""

from typing import Literal

from engine.settings.fields import Section, setting


class DpoSettings(Section):
    """Direct preference optimization; the reference is the start checkpoint, frozen."""

    loss_type: Literal["sigmoid", "ipo", "sigmoid_norm"] = setting(
        "sigmoid",
        controls="sigmoid: DPO on summed log-probabilities. ipo: squared distance to a margin of 1/(2β) a token. "
        "sigmoid_norm: DPO on means a token (MiniMind2).",
        high="ipo, sigmoid_norm: a token's mean is small, so they want a larger beta and more steps.",
        low="sigmoid: long answers count for more than short ones.",
        start="sigmoid",
    )  # fmt: skip
    beta: float = setting(
        0.1, gt=0, le=100,
        controls="How much a nat of difference to the reference counts.",
        high="The policy stays at the reference; little is learnt.",
        low="Pairs are told apart by moving far away: the policy forgets how to speak.",
        start="0.1",
    )  # fmt: skip
    sft_weight: float = setting(
        0.0, ge=0, le=100,
        controls="Adds the chosen answers' loss a token, times this, so that they do not become unlikely themselves.",
        high="Fine-tuning on the chosen side with preferences beside it.",
        low="0: pair accuracy may rise while both answers become unlikely.",
        start="0.5 for small models",
    )  # fmt: skip
    reference_log_probs: Literal["computed", "precomputed"] = setting(
        "computed",
        controls="computed: the reference model is asked at each step. precomputed: once before the first, and kept.",
        high="precomputed: saves the reference's memory and a third of each step, takes a pass over the data first.",
        low="computed: the reference's weights stay in memory.",
        start="precomputed",
    )  # fmt: skip
