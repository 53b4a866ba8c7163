"""What a process needs before torch loads."""

import os


def prepare() -> None:
    """Sets what torch's libraries read when they load; values that the user has set stay.

    Waiting OpenMP threads give their core to others, so training keeps its speed beside another busy thread. oneDNN
    keeps a compiled primitive for each shape it meets, 1,024 by default: with documents of all lengths they take
    gigabytes (docs/LOG.md). Fewer cost a little speed where shapes hardly ever return.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")


def cores() -> int:
    """Processor cores that this process may use; fewer than the machine has under taskset or a batch system."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1
