import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from engine.text.batching import Batch
from engine.training.device import Device
from engine.training.peak import matrix_flops_per_second
from engine.training.validate import held_out_loss
from tests.model.helpers import hidden_of, tiny

IDS, WEIGHTS = np.array([3, 8, 1, 40, 5, 6, 7]), np.array([0, 1, 10, 1, 0, 0, 1], dtype=np.float32)
BYTES = np.where(np.arange(97) == 1, 0, np.arange(97) % 4 + 1)
"""Token 1 is a control token."""


def _measured(model: torch.nn.Module) -> dict[str, float]:
    batch = Batch(IDS, WEIGHTS, np.array([0, 4, 7]), np.array([0, 1]), np.array([0, 1]), 8)
    return held_out_loss(model, [batch], BYTES, autocast=nullcontext(), dtype=torch.float32)  # type: ignore[arg-type]


def test_by_hand() -> None:
    model = tiny()
    nats = {}
    for start, end in ((0, 4), (4, 7)):
        logits = model.logits(hidden_of(model, torch.from_numpy(IDS[start:end]))).log_softmax(-1)
        for place in range(start + 1, end):
            nats[place] = -logits[place - start - 1, IDS[place]].item()
    found = _measured(model)
    loss = (nats[1] + 10 * nats[2] + nats[3] + nats[6]) / 13
    assert found["val_loss"] == pytest.approx(loss, rel=1e-5)
    assert found["val_perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
    # the control token stands for no bytes; 8, 40 and 7 stand for 1, 1 and 4, and their weights do not matter
    assert found["val_bits_per_byte"] == pytest.approx((nats[1] + nats[3] + nats[6]) / math.log(2) / 6, rel=1e-5)
    assert found["val_tokens"] == 4


def test_dropout_is_off_and_the_mode_comes_back() -> None:
    model = tiny(dropout=0.5)
    for mode in (True, False):
        model.train(mode)
        assert _measured(model) == _measured(model)
        assert model.training is mode


def test_nothing_to_measure() -> None:
    empty = held_out_loss(tiny(), [], BYTES, autocast=nullcontext(), dtype=torch.float32)
    assert empty == {}


def test_peak_is_a_speed() -> None:
    assert matrix_flops_per_second(tiny().config, 100_000, torch.float32, Device(torch.device("cpu"))) > 1e6
