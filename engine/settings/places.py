"""Where runs, caches, data and the user's profiles live."""

import os
from pathlib import Path

import platformdirs

_APP = "minimind"


def home() -> Path:
    """The folder of runs and data: MINIMIND_HOME, or the platform's data folder."""
    override = os.environ.get("MINIMIND_HOME")
    return Path(override).expanduser().absolute() if override else Path(platformdirs.user_data_dir(_APP))


def runs_folder() -> Path:
    """Where run folders are made."""
    return home() / "runs"


def starter_folder() -> Path:
    """Where the starter world is written on first use."""
    return home() / "data" / "starter"


def cache_folder() -> Path:
    """Where token caches live; safe to delete."""
    override = os.environ.get("MINIMIND_HOME")
    return home() / "cache" if override else Path(platformdirs.user_cache_dir(_APP))


def user_profiles() -> Path:
    """Where the user's own profiles live."""
    override = os.environ.get("MINIMIND_HOME")
    return home() / "profiles" if override else Path(platformdirs.user_config_dir(_APP)) / "profiles"
