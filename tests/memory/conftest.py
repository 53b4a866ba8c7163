"""Runs to begin from, in a home of its own for every test."""

import shutil
from pathlib import Path

import pytest

from engine.settings.places import runs_folder
from engine.training.device import Device
from tests.training.tiny import World


@pytest.fixture
def world(made: tuple[World, Path], minimind_home: None, monkeypatch: pytest.MonkeyPatch) -> World:
    """A module's `made`: its world, with its runs copied; bfloat16 is worth something here."""
    monkeypatch.setattr(Device, "has_bfloat16", lambda self: True)
    shutil.copytree(made[1], runs_folder())
    return made[0]
