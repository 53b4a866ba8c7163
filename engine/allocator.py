"""How the C library gives memory out: fast, or close to what is asked for. Only glibc can be told.

By itself glibc keeps freed blocks of up to 32 MiB for later, wherever they lie: a training step's resident memory was
1.3 to 2.3 times what torch had allocated at its peak, and 7 times with gradient checkpointing (docs/LOG.md). With every
block above 1 MiB mapped on its own it is at most 1.25 times that; giving pages back and taking them anew costs a third
of the speed.
"""

import ctypes
import platform

_MMAP_THRESHOLD = -3
"""mallopt's number of the parameter (malloc.h)."""
_TIGHT, _FAST = 1 << 20, 32 << 20


def can_be_tight() -> bool:
    """Whether the C library of this process can be told."""
    return platform.libc_ver()[0] == "glibc"


def set_tight(tight: bool) -> None:
    """Maps each block above 1 MiB on its own, for the whole process, or as few as possible."""
    if can_be_tight():
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _TIGHT if tight else _FAST)


def trim() -> None:
    """Gives the system back what is free inside of the process."""
    if can_be_tight():
        ctypes.CDLL(None).malloc_trim(0)
