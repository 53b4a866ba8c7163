"""What is set before torch loads."""

import os

import pytest

from engine.process import prepare


def test_a_user_s_own_values_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    prepare()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert int(os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]) > 0
