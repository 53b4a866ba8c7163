"""What to do about what `engine doctor` found. Torch-free."""

import re
from collections.abc import Iterator
from typing import Any

from engine.memory.plan import MemoryPlan
from engine.settings.profile import built_in_profiles

_NOMINAL = 0.9
"""The share of the size it is sold as that a card offers at least."""
_IN_THE_WAY = 0.1
"""The share of a card from which on it matters that others hold it."""
_CLEARLY = 1.2
"""Times faster from which on it is no noise."""


def made_for(card_bytes: int | None) -> str:
    """The folder of built-in profiles for a card of that memory, or for no card.

    Of a card that is smaller than any: the one for the smallest.
    """
    if card_bytes is None:
        return "cpu"
    folders = {name.partition("/")[0] for name in built_in_profiles()}
    cards = sorted((size, name) for name in folders if (size := _card_bytes(name)))
    return max([card for card in cards if card_bytes >= _NOMINAL * card[0]], default=cards[0])[1]


def _card_bytes(folder: str) -> int:
    """The size of the card that the folder is named after, such as `rtx3050-8g`; 0 if it is not."""
    found = re.search(r"-(\d+)g$", folder)
    return int(found[1]) << 30 if found else 0


def advise(found: dict[str, Any], plan: MemoryPlan) -> list[str]:
    """Short sentences on what to do, in the order of what was found.

    Args:
        found: What `examine` found.
        plan: Of pretraining, from the profiles that are made for such a machine.
    """
    return [
        *_on_device(found["device"], found["torch"]),
        *_on_memory(found["device"], found["memory"], plan),
        *_on_threads(found["threads"]),
        *_on_precision(found["precision"], found["device"]["name"]),
        *_on_compile(found["compile"]),
        *_on_disk(found["disk"], found["device"]["profiles"]),
    ]


def _on_device(device: dict[str, Any], torch_version: str) -> Iterator[str]:
    profiles, first = device["profiles"], device["all"][0]
    if first["problem"]:
        yield f"{first['name']} cannot be used ({first['problem']}): set device={device['name']}."
    elif device["memory_bytes"] is None and device["nvidia_driver"]:
        yield (
            f"There is an NVIDIA driver, but torch {torch_version} finds no card: "
            "see whether nvidia-smi lists one, and install a torch that is built for CUDA."
        )
    if device["memory_bytes"] is None:
        yield f"No card: use the profiles {profiles}/*, and starter/* for a first try."
    elif device["memory_bytes"] < _NOMINAL * _card_bytes(profiles):
        yield (
            f"The profiles {profiles}/* are made for a larger card than one of {_gib(device['memory_bytes'])}: "
            "ask `engine plan` before a run."
        )
    else:
        yield f"The profiles {profiles}/* are made for such a card."


def _on_memory(device: dict[str, Any], memory: dict[str, Any], plan: MemoryPlan) -> Iterator[str]:
    card, limited_by = device["memory_bytes"], memory["limited_by"]
    if card is not None:
        limited_by = "what is free of the card"
        if card - device["free_bytes"] > _IN_THE_WAY * card:
            yield f"Other programs hold {_gib(card - device['free_bytes'])} of the card: close them before a run."
    if plan.fits:
        return
    helps = next((each for each in plan.suggestions if each.fits), None)
    yield (
        f"{device['profiles']}/pretrain may take {_gib(plan.high_bytes)}, {_gib(plan.limit_bytes)} can be had "
        f"({limited_by}): {f'set {helps.title}, then it fits' if helps else 'take a smaller model, such as starter/*'}."
    )


def _on_threads(threads: dict[str, Any]) -> Iterator[str]:
    usable = threads["cores"]
    if threads["torch"] > usable:
        yield (
            f"torch starts with {threads['torch']} threads, more than the cores that may be used ({usable}): "
            f"set OMP_NUM_THREADS={usable}."
        )
    if threads["load"] > _CLEARLY * threads["machine_cores"]:
        yield (
            f"Other programs keep the cores busy (load {threads['load']:.1f} on {threads['machine_cores']}): "
            "what was timed here is slower than it could be; ask again when they have ended."
        )
    elif threads["speedup"] * _CLEARLY < 1:
        yield f"One thread is {1 / threads['speedup']:.1f} times as fast as {usable}: set num_threads=1."


def _on_precision(precision: dict[str, Any], device: str) -> Iterator[str]:
    dtypes, auto = precision["dtypes"], precision["auto"]
    if not dtypes["float32"]["works"]:
        yield f"float32 does not work on {device} ({dtypes['float32']['problem']}): set device=cpu."
        return
    speeds = {name: each["relative_speed"] for name, each in dtypes.items() if each["works"]}
    fastest = max(speeds, key=speeds.__getitem__)
    if auto not in speeds:
        yield f"{auto}, which dtype=auto takes, does not work ({dtypes[auto]['problem']}): set dtype={fastest}."
    elif speeds[fastest] > _CLEARLY * speeds[auto]:
        ratio = speeds[fastest] / speeds[auto]
        yield f"{fastest} is {ratio:.1f} times as fast as {auto}, which dtype=auto takes: try dtype={fastest}."
    elif auto != "float32":
        yield f"Leave dtype=auto: it takes {auto}, {speeds[auto]:.1f} times as fast as float32."
    elif "bfloat16" in speeds and not precision["hardware_bfloat16"]:
        yield f"bfloat16 is computed in software, at {speeds['bfloat16']:.2g} times float32's speed: stay with float32."


def _on_compile(compilation: dict[str, Any]) -> Iterator[str]:
    if compilation["works"]:
        yield "torch.compile works: `engine bench train --compile` shows whether compile=true pays."
    elif compilation["tried"]:
        yield "torch.compile does not work: leave compile=false (on a processor it needs a C++ compiler)."


def _on_disk(disk: dict[str, Any], profiles: str) -> Iterator[str]:
    if not disk["writable"]:
        yield f"{disk['home']} cannot be written: set MINIMIND_HOME to a folder of yours."
    if disk["free_bytes"] < disk["checkpoints_bytes"]:
        yield (
            f"Checkpoints of {profiles}/pretrain take {_gib(disk['checkpoints_bytes'])}, {_gib(disk['free_bytes'])} "
            "are free: free some, lower keep_checkpoints, or set MINIMIND_HOME to another disk."
        )


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
