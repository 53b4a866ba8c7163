"""Kills by the kernel, told from its counts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.memory.kills import BY_KERNEL, FROM_OUTSIDE, LIKELY_BY_KERNEL, UNCOUNTED, Kills, killed, oom_kills

MIB, GIB = 1 << 20, 1 << 30
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="these limits and counters are Linux's")

KERNEL = "12:memory:{group}\n1:name=systemd:/\n0::/\n"


def machine(root: Path, *, group: int | None, total: int | None, version: int = 2, boot: str = "a") -> None:
    """The kernel's files, as they lie."""
    mount = root / "sys/fs/cgroup" / ("memory" if version == 1 else "")
    for folder in (root / "proc/self", root / "proc/sys/kernel/random", mount / "slice/run"):
        folder.mkdir(parents=True, exist_ok=True)
    (root / "proc/self/cgroup").write_text(KERNEL.format(group="/slice/run") if version == 1 else "0::/slice/run\n")
    (root / "proc/sys/kernel/random/boot_id").write_text(f"{boot}\n")
    if total is not None:
        (root / "proc/vmstat").write_text(f"nr_free_pages 10\noom_kill {total}\n")
    if group is not None and version == 1:
        (mount / "slice/run/memory.oom_control").write_text(f"oom_kill_disable 0\nunder_oom 0\noom_kill {group}\n")
    elif group is not None:
        (mount / "slice/run/memory.events").write_text(f"low 0\nhigh 0\nmax 7\noom 9\noom_kill {group}\n")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("returncode", [-9, 137])
def test_a_kill_is_told_by_the_counts(tmp_path: Path, version: int, returncode: int) -> None:
    machine(tmp_path, group=2, total=5, version=version)
    before = oom_kills(root=tmp_path)
    assert (before.group, before.machine, before.boot) == (2, 5, "a")
    assert killed(before, oom_kills(before, root=tmp_path), returncode) == FROM_OUTSIDE
    machine(tmp_path, group=2, total=6, version=version)
    assert killed(before, oom_kills(before, root=tmp_path), returncode) == LIKELY_BY_KERNEL
    machine(tmp_path, group=3, total=6, version=version)
    assert killed(before, oom_kills(before, root=tmp_path), returncode) == BY_KERNEL


@pytest.mark.parametrize("returncode", [0, 1, 3, 130, -2, -11, -15])
def test_any_other_end_is_no_kill(tmp_path: Path, returncode: int) -> None:
    machine(tmp_path, group=2, total=5)
    before = oom_kills(root=tmp_path)
    machine(tmp_path, group=3, total=6)
    assert killed(before, oom_kills(before, root=tmp_path), returncode) is None


def test_an_end_that_nobody_saw_needs_a_count_that_rose(tmp_path: Path) -> None:
    machine(tmp_path, group=2, total=5)
    before = oom_kills(root=tmp_path)
    assert killed(before, oom_kills(before, root=tmp_path), None) is None
    machine(tmp_path, group=3, total=6)
    assert killed(before, oom_kills(before, root=tmp_path), None) == BY_KERNEL


def test_counts_of_another_start_of_the_machine_say_nothing(tmp_path: Path) -> None:
    machine(tmp_path, group=0, total=0)
    before = oom_kills(root=tmp_path)
    machine(tmp_path, group=1, total=1, boot="b")
    assert killed(before, oom_kills(before, root=tmp_path), None) is None
    assert killed(before, oom_kills(before, root=tmp_path), -9) == FROM_OUTSIDE


def test_the_reader_may_live_in_another_group(tmp_path: Path) -> None:
    """As an app that looks at a run of another session; a group that is gone leaves the machine's count."""
    machine(tmp_path, group=2, total=5)
    before = Kills.from_json(json.loads(json.dumps(oom_kills(root=tmp_path).to_json())))
    machine(tmp_path, group=3, total=6)
    (tmp_path / "proc/self/cgroup").write_text("0::/slice/app\n")
    assert killed(before, oom_kills(before, root=tmp_path), -9) == BY_KERNEL
    (tmp_path / "sys/fs/cgroup/slice/run/memory.events").unlink()
    assert killed(before, oom_kills(before, root=tmp_path), -9) == LIKELY_BY_KERNEL


def test_a_reading_cannot_point_at_just_any_file(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("oom_kill 7\n")
    stranger = Kills(1, 1, str(tmp_path / "notes"), "a")
    assert oom_kills(stranger, root=tmp_path).group is None


def test_a_group_without_counts_uses_the_one_around_it(tmp_path: Path) -> None:
    machine(tmp_path, group=4, total=5)
    (tmp_path / "proc/self/cgroup").write_text("0::/slice/run/inner\n")
    assert oom_kills(root=tmp_path).group == 4


def test_a_system_that_does_not_count(tmp_path: Path) -> None:
    nothing = oom_kills(root=tmp_path)
    assert nothing == Kills(None, None, "", "")
    assert killed(nothing, oom_kills(nothing, root=tmp_path), -9) == UNCOUNTED
    assert killed(nothing, oom_kills(nothing, root=tmp_path), 1) is None


GREEDY = """
import json, pathlib, sys, time
from engine.memory.kills import oom_kills
from engine.memory.limits import process_limits
print(json.dumps([oom_kills().to_json(), process_limits().cgroup, process_limits().source]), flush=True)
if sys.argv[1] == "sleep":
    time.sleep(60)
held = []
while True:
    held.append(b"1" * (1 << 20))
"""


@linux_only
@pytest.mark.parametrize("behaviour", ["eat", "sleep"])
def test_a_real_kill_in_a_real_control_group(behaviour: str) -> None:
    """The kernel ends a process that outgrows its group of 64 MiB; one that only sleeps is ended from here."""
    mount = Path("/sys/fs/cgroup/memory") if Path("/sys/fs/cgroup/memory").exists() else Path("/sys/fs/cgroup")
    group = mount / f"minimind-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("control groups cannot be made here")
    limits = ["memory.max", "memory.swap.max", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
    try:
        if not any((group / name).exists() for name in limits):
            pytest.skip("control groups cannot limit memory here")
        for name in limits:
            if (group / name).exists():
                (group / name).write_text("0" if name == "memory.swap.max" else str(64 * MIB))
        process = subprocess.Popen(
            ["sh", "-c", 'echo $$ > "$1"/cgroup.procs && exec "$2" -c "$3" "$4"', "sh", str(group), sys.executable,
             GREEDY, behaviour],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        counts, left, source = json.loads(process.stdout.readline())
        if behaviour == "sleep":
            process.kill()
        returncode = process.wait(timeout=60)
        before = Kills.from_json(counts)
        assert source == "cgroup limit"
        assert 0 < left < 64 * MIB
        assert returncode == -9
        assert Path(before.file).parent == group
        assert killed(before, oom_kills(before), returncode) == (BY_KERNEL if behaviour == "eat" else FROM_OUTSIDE)
        assert process.stdout.read() == ""
        process.stdout.close()
    finally:
        group.rmdir()
