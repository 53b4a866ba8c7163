"""The control groups of this process: how Linux limits the memory of a container, a service or a batch job.

Both versions are read: v2 (`memory.max`, Linux documentation, admin-guide/cgroup-v2) and v1 (`memory.limit_in_bytes`,
admin-guide/cgroup-v1/memory). The root of the file system is an argument, for tests.
"""

from pathlib import Path

ROOT = Path("/")
_UNLIMITED = 1 << 60
"""v1 has no word for no limit but the largest number of whole pages."""


def memory_groups(root: Path = ROOT) -> list[Path]:
    """Folders of the memory controller: the process's own group, then those around it. Empty without control groups.

    In a container the path of the own group may be the host's and lead nowhere; the root of the mount, the last one,
    is the container's own then.
    """
    paths: dict[str, str] = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)  # v2 names no controllers
    of_v1, of_v2 = paths.get("memory"), paths.get("")
    mount = root / "sys/fs/cgroup" / ("" if of_v1 is None else "memory")
    if (own_path := of_v2 if of_v1 is None else of_v1) is None:
        return []
    own = mount / own_path.strip("/")
    return [group for group in (own, *own.parents) if group.is_relative_to(mount)]


def bytes_left(root: Path = ROOT) -> int | None:
    """What the tightest of the groups still lets their processes take; None without any limit."""
    return min((left for group in memory_groups(root) if (left := _left(group)) is not None), default=None)


def counter(file: Path, key: str) -> int | None:
    """The number behind a key in a file of such lines; None where there is neither."""
    return next((int(line.split()[1]) for line in _lines(file) if line.split()[0] == key), None)


def _left(group: Path) -> int | None:
    """The limit less what is in use, without the file cache that the kernel would give up first, as `docker stats`."""
    for limit_file, used_file, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, used = _number(group / limit_file), _number(group / used_file)
        if limit is not None and used is not None and limit < _UNLIMITED:
            return max(0, limit - max(0, used - (counter(group / "memory.stat", cached) or 0)))
    return None


def _number(file: Path) -> int | None:
    """The number that a file holds; None for `max`, and where there is no such file."""
    text = "".join(_lines(file))
    return int(text) if text.isdigit() else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:  # another system, another version, or a group that is gone
        return []
