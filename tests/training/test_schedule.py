import pytest

from engine.settings.training import TrainingSettings
from engine.training.schedule import learning_rate


def _rates(total: int, **settings: object) -> list[float]:
    values = TrainingSettings(learning_rate=1.0, **settings)  # type: ignore[arg-type]
    return [learning_rate(values, step, total) for step in range(total)]


def test_linear_by_hand() -> None:
    rates = _rates(7, lr_schedule="linear", warmup_steps=2, min_lr_ratio=0.2)
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2])


def test_cosine_by_hand() -> None:
    """After warm-up the cosine falls over four steps: 0, 1/4, 1/2, 3/4 and all of the way."""
    rates = _rates(6, lr_schedule="cosine", warmup_steps=1, min_lr_ratio=0.1)
    assert rates == pytest.approx([1.0, 1.0, 1 - 0.9 * 0.1464466, 0.55, 0.1 + 0.9 * 0.1464466, 0.1])


def test_constant_and_the_shortest_runs() -> None:
    assert _rates(4, lr_schedule="constant", warmup_steps=2) == [0.5, 1.0, 1.0, 1.0]
    assert _rates(1, warmup_steps=0) == [1.0]
    # warm-up takes half of a short run at most
    assert _rates(4, lr_schedule="constant", warmup_steps=50) == [0.5, 1.0, 1.0, 1.0]
    assert _rates(2, warmup_steps=0, min_lr_ratio=0.0) == [1.0, 0.0]
