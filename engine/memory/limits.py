"""How much memory there is: for this process, on a device, on a card by name. Loads torch only to ask it."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from engine.errors import UserError
from engine.memory.cgroup import ROOT, bytes_left
from engine.settings.suggest import nearest

CARDS: dict[str, float] = {
    "gtx1060": 6, "gtx1070": 8, "gtx1080": 8, "gtx1080ti": 11, "gtx1650": 4, "gtx1660": 6,
    "rtx2060": 6, "rtx2070": 8, "rtx2080": 8, "rtx2080ti": 11,
    "rtx3050": 8, "rtx3050-8g": 8, "rtx3050-6g": 6, "rtx3050-4g": 4, "rtx3060": 12, "rtx3060-12g": 12, "rtx3060-8g": 8,
    "rtx3060-6g": 6, "rtx3060ti": 8, "rtx3070": 8, "rtx3070ti": 8, "rtx3080": 10, "rtx3080-12g": 12, "rtx3080ti": 12,
    "rtx3090": 24, "rtx3090ti": 24,
    "rtx4050": 6, "rtx4060": 8, "rtx4060ti": 8, "rtx4060ti-16g": 16, "rtx4070": 12, "rtx4070-8g": 8, "rtx4070ti": 12,
    "rtx4080": 16, "rtx4090": 24, "rtx4090-16g": 16,
    "rtx5060": 8, "rtx5060ti": 16, "rtx5060ti-8g": 8, "rtx5070": 12, "rtx5070ti": 16, "rtx5080": 16, "rtx5090": 32,
    "t4": 15, "l4": 22.5, "a10": 22.5, "a10g": 22.5, "a40": 45, "l40": 45, "l40s": 45, "a6000": 48,
    "p100": 16, "v100": 16, "v100-32g": 32, "a100": 40, "a100-40g": 40, "a100-80g": 80, "h100": 80, "h200": 140,
}  # fmt: skip
"""GiB by name: the size on the box; on T4, L4, A10, A40 and L40 what error correction leaves of it (nvidia-smi)."""
CARD_SHARE = 0.97
"""What CUDA has of that, from people's out-of-memory reports on Linux: 7.75 of 8 GiB, 9.78 of 10, 23.6 of 24, 31.4 of
32, 14.6 of 15. A desktop takes some hundred MiB more."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?)([gm])(?:i?b)?")
_RESERVED, _ADDRESSED = 256 << 20, ("RLIMIT_AS", "RLIMIT_DATA")
"""Address space that threads reserve without using it, where that is what is limited."""
_UNITS = {"g": 1 << 30, "m": 1 << 20}


@dataclass(frozen=True)
class Target:
    """The device that something is planned for, which need not be in this machine.

    Attributes:
        kind: `cpu`, `cuda` or `mps`.
        name: The device as torch knows it (`cuda:1`), or a card's name.
        limit_bytes: Memory that was asked for or that the card has; None: what this machine's device has.
    """

    kind: str
    name: str
    limit_bytes: int | None


@dataclass(frozen=True)
class Limits:
    """What this process holds and what it may still take, in bytes.

    Attributes:
        total: Memory of the machine.
        resident: What this process holds (RSS), shared pages included.
        available: What the machine can give without swapping.
        cgroup: What is left in the tightest control group around the process; None: no limit.
        address_space: What RLIMIT_AS leaves beyond today's address space, of which some is never touched; None: no
            limit.
        data: What RLIMIT_DATA leaves beyond today's private writable memory; None: no limit.
    """

    total: int
    resident: int
    available: int
    cgroup: int | None
    address_space: int | None
    data: int | None

    @property
    def left(self) -> int:
        """The smallest of what is left."""
        return min(self._known().values())

    @property
    def limit(self) -> int:
        """The largest resident memory that this process can reach."""
        return self.resident + self.left

    @property
    def source(self) -> str:
        """What sets the limit: `available memory`, `cgroup limit`, `RLIMIT_AS` or `RLIMIT_DATA`."""
        known = self._known()
        return min(known, key=known.__getitem__)

    def _known(self) -> dict[str, int]:
        limited = {"cgroup limit": self.cgroup, "RLIMIT_AS": self.address_space, "RLIMIT_DATA": self.data}
        return {"available memory": self.available} | {name: left for name, left in limited.items() if left is not None}


def parse_device(text: str) -> Target:
    """Reads a device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`, a size with it (`cpu:16GiB`, `cuda:8G`), or a card.

    Sizes are powers of 1024 whatever the unit is called, as memory is sold and as torch and CUDA count. `auto` asks
    torch.

    Raises:
        UserError: There is no such device or size.
    """
    name = text.strip().lower().replace(" ", "")
    if name in CARDS:
        return Target("cuda", name, int(CARDS[name] * CARD_SHARE * _UNITS["g"]))
    if name == "auto":
        name = _best()
    kind, colon, detail = name.partition(":")
    if kind not in ("cpu", "cuda", "mps"):
        others = "cuda:8GiB stands for any other card"
        meant = nearest(name, ["auto", "cpu", "cuda", "mps", *CARDS])
        hint = f"{meant}; {others}" if meant else f"cpu, cuda, mps; {others}"
        raise UserError(f"unknown device {text!r}", where="device", hint=hint)
    if not colon or (kind == "cuda" and detail.isdecimal()):
        return Target(kind, name, None)
    size = _SIZE.fullmatch(detail)
    limit = int(float(size[1]) * _UNITS[size[2]]) if size else 0
    if not limit:
        raise UserError(f"{text!r} has no size that can be read", where="device", hint=f"write it as in {kind}:8GiB")
    return Target(kind, kind, limit)


def device_limit(target: Target) -> int:
    """Bytes that a run on the device can have: of resident memory on a CPU, of the card's memory elsewhere.

    Raises:
        UserError: The size is not given, and this machine has no such device.
    """
    if target.limit_bytes is not None:
        return target.limit_bytes
    if target.kind == "cpu":
        limits = process_limits()
        return limits.limit - (_RESERVED if limits.source in _ADDRESSED else 0)
    import torch

    try:
        if target.kind == "cuda":
            return int(torch.cuda.get_device_properties(target.name).total_memory)
        return int(torch.mps.recommended_max_memory())
    except (RuntimeError, AssertionError) as error:  # AssertionError: a torch without CUDA
        raise UserError(
            f"there is no {target.name} here to ask how much memory it has", where="device",
            hint=f"give its size, as in {target.kind}:8GiB",
        ) from error  # fmt: skip


def process_limits(root: Path = ROOT) -> Limits:
    """What this process holds now and what it may still take.

    Args:
        root: Where `proc` and `sys` of the control groups are; for tests.
    """
    machine, own = psutil.virtual_memory(), psutil.Process().memory_info()
    address_space = data = None
    if sys.platform == "linux":
        import resource

        address_space = _below(resource.RLIMIT_AS, own.vms)
        data = _below(resource.RLIMIT_DATA, own.data)
    return Limits(machine.total, own.rss, machine.available, bytes_left(root), address_space, data)


def _below(which: int, used: int) -> int | None:
    """What a resource limit leaves."""
    import resource

    soft, _ = resource.getrlimit(which)
    return None if soft == resource.RLIM_INFINITY else max(0, soft - used)


def _best() -> str:
    """What `auto` takes: as engine.training.device, without touching the device."""
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
