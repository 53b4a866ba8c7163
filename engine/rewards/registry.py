"""What rewards there are; for help texts, forms and documents. Loads no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RewardInfo:
    """One reward.

    Attributes:
        name: Its name in `rewards`.
        title: A word or two for a heading.
        purpose: What it pays for.
        low: The least that it scores.
        high: The most. `model` and `python` have a range of their own: these are the defaults.
        needs: What it needs besides the answer, in words; empty: nothing.
        settings: The settings that it reads.
    """

    name: str
    title: str
    purpose: str
    low: float = 0.0
    high: float = 1.0
    needs: str = ""
    settings: tuple[str, ...] = ()


_EXPECTED = "rows with an expected answer"

REWARDS: dict[str, RewardInfo] = {
    info.name: info
    for info in (
        RewardInfo(
            "answer",
            "Right answer",
            "1 for the right answer by the row's own check: exact, number or reasoning_gym (which also gives parts).",
            needs=_EXPECTED,
        ),
        RewardInfo("exact", "Exact answer", "1 where the final answer equals the expected one.", needs=_EXPECTED),
        RewardInfo(
            "number", "Right number", "1 where the final answer has the value of the expected one.", needs=_EXPECTED
        ),
        RewardInfo("format", "Format", "1 for <think>…</think><answer>…</answer> with nothing outside."),
        RewardInfo("tags", "Tags", "0.25 for each of the four tags that occurs exactly once."),
        RewardInfo(
            "length",
            "Length",
            "1 from reward_length_min to reward_length_max tokens, falling to 0 at none and at twice the most.",
            settings=("reward_length_min", "reward_length_max"),
        ),
        RewardInfo("repetition", "Repetition", "Minus the share of runs of three tokens that came before.", -1.0, 0.0),
        RewardInfo("language", "Language", "1 where the answer is in the language of the question."),
        RewardInfo(
            "model",
            "Reward model",
            "What a reward model gives.",
            -3.0,
            3.0,
            needs="a sequence classifier with one label",
            settings=("reward_model", "reward_model_clip"),
        ),
        RewardInfo(
            "python",
            "Your own",
            "What the function reward(prompt, answer, row) in your file returns.",
            needs="a Python file",
            settings=("reward_python",),
        ),
    )
}
"""All rewards by name."""
