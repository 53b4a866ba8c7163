"""The plain rewards on worked examples, English and Chinese."""

import pytest

from engine.errors import UserError
from engine.rewards.functions import (
    answer_reward,
    exact_reward,
    format_reward,
    language_reward,
    length_reward,
    number_reward,
    repetition_reward,
    tags_reward,
)
from engine.rewards.language import language_of
from engine.rewards.pairwise import pairwise_preferences
from engine.rewards.repetition import repeated_share
from engine.text.messages import Message
from engine.text.tokenizer import Tokenizer
from tests.rewards.made import said


def test_answer_goes_by_the_rows_check_the_others_by_their_name() -> None:
    by_number = said("It is 3.0", "3", "number")
    assert (answer_reward(by_number), exact_reward(by_number), number_reward(by_number)) == (1, 0, 1)
    by_text = said("<answer>3.0</answer>", "3", "exact")
    assert (answer_reward(by_text), exact_reward(by_text), number_reward(by_text)) == (0, 0, 1)
    chinese = said("<think>一加二</think><answer>三</answer>", "三", None, asked="一加二等于几？")
    assert (answer_reward(chinese), exact_reward(chinese), number_reward(chinese)) == (1, 1, 1)


@pytest.mark.parametrize("answer", [None, "", "  "])
def test_a_row_without_an_answer_cannot_be_judged(answer: str | None) -> None:
    for function in (answer_reward, exact_reward, number_reward):
        with pytest.raises(UserError, match="no expected answer"):
            function(said("", answer))


def test_format_and_tags() -> None:
    whole = "<think>一加二是三</think>\n<answer>三</answer>"
    assert (format_reward(said(whole)), tags_reward(said(whole))) == (1, 1)
    assert (format_reward(said(whole + "!")), tags_reward(said(whole + "!"))) == (0, 1)
    twice = "<think>a</think><think>b</think><answer>c</answer>"
    assert (format_reward(said(twice)), tags_reward(said(twice))) == (0, 0.5)
    assert tags_reward(said("<answer>c")) == 0.25
    assert tags_reward(said("Three.")) == 0


@pytest.mark.parametrize(
    ("tokens", "score"), [(0, 0), (1, 0.25), (3, 0.75), (4, 1), (10, 1), (11, 0.9), (15, 0.5), (20, 0), (100, 0)]
)
def test_length_in_tokens(tokens: int, score: float) -> None:
    assert length_reward(said("x", ids=range(tokens)), 4, 10) == pytest.approx(score)


def test_length_without_a_lower_edge() -> None:
    assert length_reward(said("", ids=[]), 0, 10) == 1
    assert length_reward(said("", ids=[1]), 1, 1) == 1


def test_long_thoughts_earn_nothing_by_themselves() -> None:
    """MiniMind pays 1.0 for 20 to 300 characters of thought; here characters count nowhere."""
    for thought in ("", "hm " * 50, "嗯" * 200):
        one = said(f"<think>{thought}</think><answer>4</answer>", "3", "number", ids=range(50))
        assert (answer_reward(one), tags_reward(one), length_reward(one, 10, 100)) == (0, 1, 1)


def test_repeated_share_by_hand() -> None:
    assert repeated_share([]) == repeated_share([1, 2]) == repeated_share([1, 2, 3]) == 0
    assert repeated_share([1, 2, 3, 4, 5]) == 0
    assert repeated_share([7, 7, 7, 7, 7]) == pytest.approx(2 / 3)  # 3 trigrams, 1 distinct
    assert repeated_share([1, 2, 3, 1, 2, 3]) == pytest.approx(1 / 4)  # 123 231 312 123
    assert repeated_share([1, 2, 1, 2, 1], n=2) == pytest.approx(1 / 2)  # 12 21 12 21
    assert repetition_reward(said("x", ids=[7, 7, 7, 7, 7])) == pytest.approx(-2 / 3)
    assert str(repetition_reward(said("x", ids=[1, 2, 3, 4]))) == "0.0"


def test_repetition_sees_chinese_as_it_sees_english(tokenizer: Tokenizer) -> None:
    """MiniMind's counts runs of word characters: a hundred times the same Chinese word is one of them, and free."""

    def score(text: str) -> float:
        return repetition_reward(said(text, ids=tokenizer.tokenize(text).ids))

    assert score("共舞" * 100) < -0.9
    assert score("dance " * 100) < -0.9
    assert score("小狐狸喜欢学习，也喜欢和朋友一起玩。") > -0.2
    assert score("The quick brown fox jumps over the lazy dog.") > -0.2


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The dog sleeps in the sun.", "en"),
        ("小狐狸住在森林里。", "zh"),
        ("<think>一加二</think><answer>三</answer>", "zh"),
        ("Translate 我喜欢学习中文 into English", "en"),
        ("请把 Singapore 翻译成中文", "zh"),
        ("Où est l'été?", "en"),
        ("<think>1+2=3</think><answer>3</answer>", None),
        ("x = 3", None),
        ("", None),
    ],
)
def test_language_of(text: str, language: str | None) -> None:
    assert language_of(text) == language


def test_language_reward() -> None:
    english, chinese = "What is one plus two?", "一加二等于几？"
    assert language_reward(said("It is three.", asked=english)) == 1
    assert language_reward(said("是三。", asked=english)) == 0
    assert language_reward(said("<think>一加二是三</think><answer>三</answer>", asked=chinese)) == 1
    assert language_reward(said("<think>one plus two</think><answer>three</answer>", asked=chinese)) == 0
    assert language_reward(said("<answer>3</answer>", asked=chinese)) == 1, "a number is no foreign word"
    assert language_reward(said(" ", asked=chinese)) == 0
    assert language_reward(said("Three.", asked="1 + 2 = ?")) == language_reward(said("三", asked="1 + 2 = ?")) == 1


def test_the_last_question_sets_the_language() -> None:
    one = said("It is three.")
    turned = (Message("system", "你是助手。"), Message("user", "你好"), Message("assistant", "你好！"), *one.prompt)
    assert language_reward(type(one)(turned, one.text, one.ids, False, None, None, {})) == 1


def test_pairwise_preferences_by_hand() -> None:
    assert pairwise_preferences([3.0, 1.0, 2.0]) == [1, -1, 0]
    assert pairwise_preferences([1.0, 0.0, 0.0, 0.0]) == pytest.approx([1, -1 / 3, -1 / 3, -1 / 3])
    assert pairwise_preferences([100.0, 0.1, 0.1]) == pairwise_preferences([0.2, 0.1, 0.1]), "only the order counts"
    assert pairwise_preferences([0.5, 0.5]) == [0, 0]
    assert pairwise_preferences([0.5]) == [0]
    assert pairwise_preferences([]) == []
    assert sum(pairwise_preferences([0.3, -1.0, 0.3, 2.0, 0.0])) == pytest.approx(0)
