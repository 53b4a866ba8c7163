"""What this machine has, as a line for people."""

import os
import shutil

import psutil

from engine.settings.places import home
from minimind_tui.figures import size


def describe_machine(device: str) -> str:
    """Cores, memory, disk and the device; torch-free, so the device comes from outside."""
    memory = psutil.virtual_memory()
    folder = home()
    while not folder.exists():
        folder = folder.parent
    cores = os.cpu_count() or 1
    return (
        f"{cores} core{'s' if cores != 1 else ''} · {memory.available / 2**30:.1f} of {size(memory.total)} memory free"
        f" · {size(shutil.disk_usage(folder).free)} disk free · {device}"
    )
