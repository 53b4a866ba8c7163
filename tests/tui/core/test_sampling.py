import pytest

from engine.errors import UserError
from minimind_tui.core.sampling import Sampling

GOOD = Sampling(0.5, 40, 0.9, 0.05, 1.1, 99, 7, False)


def test_what_a_form_shows_is_read_back() -> None:
    for sampling in (Sampling(), GOOD, Sampling(greedy=True)):
        assert Sampling.read(sampling.texts, greedy=sampling.greedy) == sampling
        assert Sampling.remembered(sampling.values) == sampling
    assert Sampling().texts["seed"] == "" and GOOD.texts["temperature"] == "0.5"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("temperature", "-1", "0 or more"), ("temperature", "hot", "a number"), ("temperature", "inf", "a number"),
        ("temperature", "", "a number"), ("top_k", "1.5", "a whole number"), ("top_p", "0", "above 0"),
        ("min_p", "1", "below 1"), ("repetition_penalty", "0", "above 0"), ("max_new_tokens", "0", "1 or more"),
        ("seed", "x", "a whole number"), ("min_p", "nan", "a number"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(name: str, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        Sampling.read({**GOOD.texts, name: text}, greedy=False)
    assert caught.value.where == name


def test_what_was_remembered_and_is_no_longer_valid_is_forgotten() -> None:
    for values in ({"top_p": 7}, {"temperature": "x"}, {"temperature": [1]}, {"greedy": 3}, {"unknown": 1}):
        assert Sampling.remembered(values) == Sampling()
    assert Sampling.remembered({"top_k": 3}) == Sampling(top_k=3)


def test_what_the_engine_gets() -> None:
    settings = GOOD.settings(123)
    assert (settings.temperature, settings.top_k, settings.top_p, settings.min_p) == (0.5, 40, 0.9, 0.05)
    assert (settings.repetition_penalty, settings.max_new_tokens, settings.seed) == (1.1, 99, 123)
    assert Sampling(greedy=True).settings(0).temperature == 0
    assert GOOD.pick_seed() == 7
    assert len({Sampling().pick_seed() for _ in range(9)}) > 1


def test_in_short() -> None:
    assert str(Sampling()) == "T 0.7 · top-p 0.95 · 256 tokens"
    assert str(GOOD) == "T 0.5 · top-k 40 · top-p 0.9 · min-p 0.05 · penalty 1.1 · seed 7 · 99 tokens"
    assert str(Sampling(greedy=True, seed=3)) == "greedy · 256 tokens"
