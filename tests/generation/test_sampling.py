import math

import pytest
import torch

from engine.errors import UserError
from engine.generation.sampling import SamplingSettings, choose, distribution, penalise

# probabilities 0.5, 0.3, 0.15, 0.05
LOGITS = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()


def _cut(**settings: float) -> list[float]:
    plain = {"temperature": 1.0, "top_p": 1.0, **settings}
    return distribution(LOGITS, SamplingSettings(**plain))[0].tolist()  # type: ignore[arg-type]


def test_temperature() -> None:
    squares = [0.25, 0.09, 0.0225, 0.0025]
    assert _cut(temperature=0.5) == pytest.approx([square / sum(squares) for square in squares])


def test_top_k() -> None:
    assert _cut(top_k=2) == pytest.approx([0.625, 0.375, 0, 0])
    assert _cut(top_k=9) == pytest.approx([0.5, 0.3, 0.15, 0.05])


def test_top_p() -> None:
    """The token that crosses the border belongs to the nucleus; one token always stays."""
    assert _cut(top_p=0.7) == pytest.approx([0.625, 0.375, 0, 0])
    assert _cut(top_p=0.81) == pytest.approx([0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0])
    assert _cut(top_p=0.01) == pytest.approx([1, 0, 0, 0])


def test_min_p() -> None:
    """0.4 of the best, 0.5, is 0.2."""
    assert _cut(min_p=0.4) == pytest.approx([0.625, 0.375, 0, 0])


def test_top_p_comes_before_min_p() -> None:
    """0.85 of everything reaches the third token, min-p then takes it away; of the rest alone it would keep two."""
    assert _cut(top_p=0.75, min_p=0.2) == pytest.approx([0.625, 0.375, 0, 0])


def test_repetition_penalty() -> None:
    logits = torch.tensor([[2.0, -1.0, 3.0], [2.0, -1.0, 3.0]])
    assert penalise(logits, [[0, 1, 1], [2]], 2.0).tolist() == [[1.0, -2.0, 3.0], [2.0, -1.0, 1.5]]
    assert penalise(logits, [[0], [0]], 1.0) is logits


def test_equals_transformers() -> None:
    from transformers.generation import logits_process as theirs

    generator = torch.Generator().manual_seed(0)
    logits, ids = torch.randn(5, 50, generator=generator) * 3, torch.randint(0, 50, (5, 9), generator=generator)
    expected = theirs.RepetitionPenaltyLogitsProcessor(1.3)(ids, logits.clone())
    ours = penalise(logits, ids.tolist(), 1.3)
    torch.testing.assert_close(ours, expected)
    for warper in (
        theirs.TemperatureLogitsWarper(0.7), theirs.TopKLogitsWarper(20), theirs.TopPLogitsWarper(0.9),
        theirs.MinPLogitsWarper(0.05),
    ):  # fmt: skip
        expected = warper(ids, expected)
    settings = SamplingSettings(temperature=0.7, top_k=20, top_p=0.9, min_p=0.05)
    torch.testing.assert_close(distribution(ours, settings), expected.softmax(-1))


def test_choose_follows_the_cumulative_distribution() -> None:
    settings = SamplingSettings(temperature=1.0, top_p=1.0)
    uniforms = torch.tensor([0.0, 0.49, 0.51, 0.79, 0.81, 0.94, 0.96, math.nextafter(1, 0)], dtype=torch.float64)
    chosen = choose(LOGITS.expand(8, 4), settings, uniforms)
    assert chosen.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_choose_never_takes_what_was_cut_off() -> None:
    settings = SamplingSettings(temperature=1.0, top_k=1, top_p=1.0)
    uniforms = torch.tensor([0.0, 0.5, math.nextafter(1, 0)], dtype=torch.float64)
    assert choose(LOGITS.flip(1).expand(3, 4), settings, uniforms).tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", -1), ("top_k", -1), ("top_p", 0), ("min_p", 1), ("repetition_penalty", 0), ("max_new_tokens", 0)],
)
def test_impossible_settings_are_refused(name: str, value: float) -> None:
    with pytest.raises(UserError, match=name):
        SamplingSettings(**{name: value})  # type: ignore[arg-type]
