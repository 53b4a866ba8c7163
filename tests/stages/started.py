"""A tiny world whose fine-tuned start run is made once, for tests that all begin there."""

import shutil
from pathlib import Path

import pytest

from engine.settings.places import runs_folder
from tests.training.tiny import World


@pytest.fixture(scope="session")
def world_and_start(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Path]:
    """The world, and the folder of its run `start`."""
    world, home = World.make(tmp_path_factory.mktemp("world")), tmp_path_factory.mktemp("start")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIMIND_HOME", str(home))
        world.start()
        return world, runs_folder() / "start"


@pytest.fixture
def world(world_and_start: tuple[World, Path], minimind_home: None) -> World:
    """The world, its start run already in this test's home."""
    world, start = world_and_start
    shutil.copytree(start, runs_folder() / "start")
    return world
