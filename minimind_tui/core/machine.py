"""What this machine has, and where everything lives, for people."""

import shutil
from pathlib import Path

import psutil

from engine.clean import clean
from engine.process import cores
from engine.settings.places import home
from minimind_tui.core.figures import size


def describe_machine(device: str) -> str:
    """A line with cores, memory, disk and the device, and below it the folder of runs, data and profiles.

    It is torch-free, so the device comes from outside.
    """
    memory = psutil.virtual_memory()
    folder = home()
    while not folder.exists():
        folder = folder.parent
    count = cores()
    return (
        f"{count} core{'s' if count != 1 else ''} · {memory.available / 2**30:.1f} of {size(memory.total)} memory free"
        f" · {size(shutil.disk_usage(folder).free)} disk free · {device}\n{_short(home())}"
    )


def _short(place: Path) -> str:
    """A folder with `~` for the user's own."""
    own = Path.home()
    return clean(f"~/{place.relative_to(own)}" if place.is_relative_to(own) else str(place), newlines=False)
