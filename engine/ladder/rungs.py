"""The rungs of the ladder: what each trains, what is measured before and after it, and what it is to reach."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.ladder.plans import Plan, equal_time, equal_tokens


@dataclass(frozen=True)
class Figure:
    """A number of a checkpoint, or of the run that made it.

    Attributes:
        title: What it is, for people.
        key: Its name in what `engine.evaluation.evaluate` finds, or among the run's own figures.
        file: The file that it is measured on; empty: it is the run's own.
        is_share: Whether it is shown in percent.
    """

    title: str
    key: str
    file: str = ""
    is_share: bool = True


@dataclass(frozen=True)
class Claim:
    """What a figure is to reach.

    Attributes:
        text: It in a few words.
        holds: Takes the figure before and after.
        compares: Whether it needs the one before.
    """

    text: str
    holds: Callable[[Any, Any], bool]
    compares: bool = False


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        figure: What it shows.
        claim: What is to be reached; None: it is only shown.
        before: The rung whose figure stands before this one's; empty: the one that it starts from; None: none.
    """

    figure: Figure
    claim: Claim | None = None
    before: str | None = ""


@dataclass(frozen=True)
class Rung:
    """One run of the ladder.

    Attributes:
        name: Of it and its results.
        profile: What it trains.
        uses: Settings that name an earlier rung's run: `from`, `tokenizer`, `teacher`.
        settings: What differs from the profile.
        plan: Makes the last of its settings of earlier results.
        after: Rungs whose results `plan` reads.
        lines: What is measured.
    """

    name: str
    profile: str
    uses: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    plan: Plan | None = None
    after: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()

    @property
    def start(self) -> str:
        """The rung that it starts from; empty: none."""
        return self.uses.get("from", "")

    @property
    def needs(self) -> tuple[str, ...]:
        """The rungs without which it cannot be climbed."""
        return (*dict.fromkeys((*self.uses.values(), *self.after)),)

    def before(self, line: Line) -> str:
        """The rung whose figure stands before the one of a line; empty: none."""
        return "" if line.before is None else line.before or self.start


_SLACK = 1e-9
"""What rounding may take from a difference that is just reached."""


def _at_least(share: float) -> Claim:
    return Claim(f"≥ {100 * share:g} %", lambda _, after: after >= share)


def _at_most(share: float) -> Claim:
    return Claim(f"≤ {100 * share:g} %", lambda _, after: after <= share)


def _gains(share: float) -> Claim:
    text = f"+{100 * share:g} points"
    return Claim(text, lambda before, after: after - before >= share - _SLACK, compares=True)


def _loses_at_most(share: float) -> Claim:
    text = f"−{100 * share:g} points at most"
    return Claim(text, lambda before, after: before - after <= share + _SLACK, compares=True)


_BITS = Figure("bits per byte, held-out text", "val_bits_per_byte", is_share=False)
_PHRASINGS = Figure("facts, new phrasings", "exact_match", "starter:eval_phrasing.jsonl")
_STORIES = Figure("facts told in stories only", "exact_match", "starter:eval_stories.jsonl")
_SUMS = Figure("sums, new operands", "pass_at_1", "starter:eval_arithmetic.jsonl")
_SUMS_FORM = Figure("well-formed answers to sums", "format_rate", "starter:eval_arithmetic.jsonl")
_PROMPTS = Figure("sums, new operands", "pass_at_1", "starter:eval_rlaif.jsonl")
_PROMPTS_FORM = Figure("well-formed answers to sums", "format_rate", "starter:eval_rlaif.jsonl")
_NAME = Figure("the new name", "exact_match", "starter:eval_identity.jsonl")
_ORDER = Figure("the preferred order", "exact_match", "starter:eval_order.jsonl")
_PAIRS = Figure("pairs told right", "pair_accuracy", "starter:eval_dpo.jsonl")
_PAIRS_BY_LENGTH = Figure("the same pairs by length alone", "length_accuracy", "starter:eval_dpo.jsonl")
_PAIRS_BY_WORD = Figure("the same pairs by the best word alone", "word_accuracy", "starter:eval_dpo.jsonl")

_KEEPS_FACTS = Line(_PHRASINGS, _loses_at_most(0.03))
_BY_TRIAL = (Line(_SUMS, _gains(0.15)), Line(_SUMS_FORM, _at_least(0.95)), _KEEPS_FACTS)
_RUNGS = (
    Rung(
        "tokenizer", "starter/tokenizer",
        lines=(Line(Figure("characters a token", "characters_per_token", is_share=False), before=None),),
    ),
    Rung(  # random weights, seen by the same eyes
        "untrained", "starter/pretrain", {"tokenizer": "tokenizer"},
        {"max_steps": 1, "warmup_steps": 0, "learning_rate": 1e-12},
    ),
    Rung("pretrain", "starter/pretrain", {"tokenizer": "tokenizer"}, lines=(Line(_BITS, before="untrained"),)),
    Rung("sft", "starter/sft", {"from": "pretrain"}, lines=(Line(_PHRASINGS), Line(_STORIES), Line(_SUMS))),
    Rung(
        "lora", "starter/lora", {"from": "sft"},
        lines=(
            Line(_NAME, _at_least(0.95)),
            _KEEPS_FACTS,
            Line(Figure("trained parameters", "trainable_share"),
                 Claim("< 5 %", lambda _, after: after < 0.05), before=None),
            Line(Figure("without the adapter the base, bit for bit", "base_unchanged"),
                 Claim("yes", lambda _, after: after is True), before=None),
        ),
    ),
    Rung(
        "lora-bare", "starter/lora", {"from": "sft"}, {"data": "starter:lora_identity.jsonl"},
        lines=(Line(_NAME), Line(_PHRASINGS)),
    ),
    Rung(
        "reason", "starter/reason", {"from": "pretrain"},
        lines=(Line(_PROMPTS_FORM, _at_least(0.95)), Line(_PROMPTS), Line(_PROMPTS, _gains(0.20), before="direct")),
    ),
    Rung(
        "direct", "starter/direct", {"from": "pretrain"}, plan=equal_tokens, after=("reason",), lines=(Line(_PROMPTS),)
    ),
    Rung(
        "distill-hard", "starter/distill", {"from": "pretrain", "teacher": "sft"}, {"alpha": 1.0},
        lines=(Line(_PHRASINGS),),
    ),
    Rung(
        "distill", "starter/distill", {"from": "pretrain", "teacher": "sft"},
        lines=(
            Line(_PHRASINGS),
            Line(_PHRASINGS, Claim("more", lambda before, after: after > before, compares=True), before="distill-hard"),
        ),
    ),
    Rung(
        "reward", "starter/reward", {"from": "sft"},
        lines=(
            Line(_PAIRS, _at_least(0.85)),
            Line(_PAIRS_BY_LENGTH, _at_most(0.55), before=None),
            Line(_PAIRS_BY_WORD, _at_most(0.55), before=None),
        ),
    ),
    Rung(
        "dpo", "starter/dpo", {"from": "sft"}, {"data": "starter:dpo.jsonl"}, lines=(Line(_PAIRS, _at_least(0.85)),)
    ),
    Rung("dpo-order", "starter/dpo", {"from": "sft"}, lines=(Line(_ORDER, _gains(0.30)), _KEEPS_FACTS)),
    Rung(
        "weak", "starter/weak", {"from": "pretrain"},
        lines=(Line(_SUMS, Claim("30 to 60 %", lambda _, after: 0.30 <= after <= 0.60)),),
    ),
    Rung("grpo", "starter/grpo", {"from": "weak"}, lines=_BY_TRIAL),
    Rung("ppo", "starter/ppo", {"from": "weak"}, lines=_BY_TRIAL),
    Rung("spo", "starter/spo", {"from": "weak"}, lines=_BY_TRIAL),
    Rung(  # more fine-tuning in grpo's time, on what the model itself said rightly
        "own-samples", "starter/sft", {"from": "weak"},
        {"learning_rate": 3e-4, "eval_interval": 0, "save_interval": 0}, plan=equal_time, after=("grpo",),
        lines=(Line(_SUMS), Line(_SUMS, before="grpo"), Line(_SUMS_FORM), Line(_PHRASINGS)),
    ),
    Rung(
        "moe", "starter/pretrain", {"tokenizer": "tokenizer"},
        {"num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 128},
        lines=(
            Line(
                Figure("loss of held-out text", "val_loss", is_share=False),
                Claim("no more", lambda before, after: after <= before, compares=True), before="pretrain",
            ),
            Line(
                Figure("load of the busiest expert, in even shares", "expert_load_max", is_share=False),
                Claim("≤ 2", lambda _, after: after <= 2), before=None,
            ),
            Line(
                Figure("load of the idlest expert, in even shares", "expert_load_min", is_share=False),
                Claim("≥ 0.5", lambda _, after: after >= 0.5), before=None,
            ),
        ),
    ),
)  # fmt: skip

LADDER: Mapping[str, Rung] = {rung.name: rung for rung in _RUNGS}
"""All rungs by name, each after those that it needs."""
