"""What this machine has, as a line for people."""

import shutil

import psutil

from engine.process import cores
from engine.settings.places import home
from minimind_tui.core.figures import size


def describe_machine(device: str) -> str:
    """Cores, memory, disk and the device; torch-free, so the device comes from outside."""
    memory = psutil.virtual_memory()
    folder = home()
    while not folder.exists():
        folder = folder.parent
    count = cores()
    return (
        f"{count} core{'s' if count != 1 else ''} · {memory.available / 2**30:.1f} of {size(memory.total)} memory free"
        f" · {size(shutil.disk_usage(folder).free)} disk free · {device}"
    )
