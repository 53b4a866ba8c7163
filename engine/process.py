"""What a process needs before torch loads."""

import os
import platform
from pathlib import Path

LARGE_FOR_CPU = 8_000_000
"""Parameters from which on bfloat16 gains something on a CPU (measured: nothing at one million)."""


def prepare() -> None:
    """Sets what torch's libraries read when they load; values that the user has set stay.

    Waiting OpenMP threads give their core to others, so training keeps its speed beside another busy thread. oneDNN
    keeps a compiled primitive for each shape it meets, 1,024 by default: with documents of all lengths they take
    gigabytes (docs/LOG.md). Fewer cost a little speed where shapes hardly ever return.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")


def computes_bfloat16() -> bool:
    """Whether this processor computes bfloat16 products in hardware."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine() == "arm64"
    listed = next((line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return bool({"amx_bf16", "avx512_bf16", "bf16", "svebf16"} & set(listed))


def cores() -> int:
    """Processor cores that this process may use; fewer than the machine has under taskset or a batch system."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1
