"""Parts, weights and ranges together; the reward model's part; the settings that name them."""

import math

import pytest
import torch
from pydantic import ValidationError

from engine.rewards.model_reward import ModelReward
from engine.rewards.registry import REWARDS
from engine.rewards.reward_set import RewardSet
from engine.settings.fields import describe_section
from engine.settings.rewards import REWARD_NAMES, RewardSettings
from engine.text.messages import Message
from tests.rewards.made import said

PLAIN = ("answer", "exact", "number", "format", "tags", "length", "repetition", "language")
Pairs = list[tuple[tuple[Message, ...], str]]


def test_parts_and_their_weighted_sum() -> None:
    weights = {"answer": 1.0, "format": 0.5, "repetition": 2.0, "language": 0.0}
    rewards = RewardSet(RewardSettings(rewards=weights))
    right = said("<think>1+2=3</think><answer>3</answer>", "3", "number", ids=[7, 7, 7, 7, 7])
    wrong = said("四", "3", "number", ids=[1, 2])
    first, second = rewards.score([right, wrong])
    assert first.parts == pytest.approx({"answer": 1, "format": 1, "repetition": -2 / 3, "language": 1})
    assert first.total == pytest.approx(1 + 0.5 - 4 / 3)
    assert second.parts == {"answer": 0, "format": 0, "repetition": 0, "language": 0} and second.total == 0
    assert (rewards.low, rewards.high) == (-2, 1.5)
    assert rewards.score([]) == []


def test_a_negative_weight_turns_the_range_round() -> None:
    rewards = RewardSet(RewardSettings(rewards={"tags": -2.0, "answer": 1.0}))
    assert (rewards.low, rewards.high) == (-2, 1)


def test_every_plain_part_stays_in_its_range() -> None:
    rewards = RewardSet(RewardSettings(rewards=dict.fromkeys(PLAIN, 1.0), reward_length_min=2, reward_length_max=4))
    texts = ("", "3", "三", "<think>", "</answer><answer>", "<think>a</think><answer>3</answer>", "\ud800\0\x1b")
    for text in texts:
        for ids in ([], [1], [1] * 9, list(range(30))):
            for check in ("exact", "number", None, "reasoning_gym"):
                (scored,) = rewards.score([said(text, "3", check, ids=ids)])
                for name, value in scored.parts.items():
                    assert REWARDS[name].low <= value <= REWARDS[name].high
                assert rewards.low <= scored.total <= rewards.high
    assert not rewards.failures and not rewards.clipped


def test_a_row_without_an_answer_fails_by_name_and_the_rest_is_scored() -> None:
    rewards = RewardSet(RewardSettings(rewards={"answer": 1.0, "tags": 1.0}, reward_failure=0.25))
    scored = rewards.score([said("<answer>3", None), said("3", "3")])
    assert [each.parts for each in scored] == [{"answer": 0.25, "tags": 0.25}, {"answer": 1, "tags": 0}]
    assert rewards.failures == {"answer": 1}
    assert rewards.last_error == {"answer": "the row has no expected answer"}


def _with_model(score: object, clip: float = 3.0) -> RewardSet:
    settings = RewardSettings(rewards={"model": 0.5}, reward_model="somewhere", reward_model_clip=clip)
    return RewardSet(settings, model=score)  # type: ignore[arg-type]


def test_a_models_scores_are_cut() -> None:
    seen: list[Pairs] = []

    def score(pairs: Pairs) -> list[float]:
        seen.append(pairs)
        return [float(text) for _, text in pairs]

    rewards = _with_model(score, 2.0)
    scored = rewards.score([said("1.5"), said("-7"), said("9"), said("inf")])
    assert [each.parts["model"] for each in scored] == [1.5, -2, 2, 0]
    assert [each.total for each in scored] == [0.75, -1, 1, 0]
    assert (rewards.low, rewards.high) == (-1, 1)
    assert rewards.clipped == {"model": 2} and rewards.failures == {"model": 1}
    assert seen == [[((Message("user", "What is one plus two?"),), text) for text in ("1.5", "-7", "9", "inf")]]


def test_a_model_that_fails_for_one_answer_scores_the_others() -> None:
    def score(pairs: Pairs) -> list[float]:
        return [1.0 / len(text) for _, text in pairs]

    rewards = _with_model(score)
    assert [each.parts["model"] for each in rewards.score([said("ab"), said(""), said("abcd")])] == [0.5, 0, 0.25]
    assert rewards.failures == {"model": 1} and "ZeroDivisionError" in rewards.last_error["model"]


def test_a_model_that_loses_count_scores_nothing() -> None:
    rewards = _with_model(lambda pairs: [1.0] * 7)
    assert [each.total for each in rewards.score([said("a"), said("b")])] == [0, 0]
    assert rewards.failures == {"model": 2} and "7 scores for 1 answers" in rewards.last_error["model"]


def test_no_room_for_the_model_is_the_runs_affair() -> None:
    def score(pairs: Pairs) -> list[float]:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        ModelReward(score, 3.0)([said("a"), said("b")])


def test_the_table_and_the_settings_name_the_same_rewards() -> None:
    assert tuple(REWARDS) == REWARD_NAMES
    settings = describe_section("rewards", RewardSettings)
    for info in REWARDS.values():
        assert info.title and info.purpose and info.low < info.high
        assert all(name in settings for name in info.settings)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"rewards": {"anwser": 1.0}}, "unknown reward 'anwser': did you mean 'answer'?"),
        ({"rewards": {"xyzzy": 1.0}}, "there are answer, exact"),
        ({"rewards": {}}, "at least one"),
        ({"rewards": {"answer": 0.0}}, "at least one"),
        ({"rewards": {"answer": math.nan}}, "finite"),
        ({"rewards": {"answer": "1"}}, "number"),
        ({"reward_failure": math.inf}, "finite"),
        ({"reward_model_clip": math.inf}, "finite"),
        ({"reward_model_clip": 0.0}, "greater than 0"),
        ({"reward_length_min": 9, "reward_length_max": 8}, "reward_length_min (9) is above reward_length_max (8)"),
        ({"rewards": {"python": 1.0}}, "reward_python is empty"),
        ({"rewards": {"model": 1.0}}, "reward_model is empty"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RewardSettings.model_validate(settings)
    assert reason in str(caught.value)


def test_a_whole_number_is_a_weight() -> None:
    assert RewardSettings.model_validate({"rewards": {"answer": 2}}).rewards == {"answer": 2.0}
