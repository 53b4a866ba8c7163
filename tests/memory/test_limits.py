"""What there is: devices as people write them, what is left for a process."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from engine.errors import UserError
from engine.memory.cgroup import bytes_left, memory_groups
from engine.memory.limits import CARD_SHARE, CARDS, Limits, Target, device_limit, parse_device, process_limits

GIB, MIB = 1 << 30, 1 << 20


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("cpu", Target("cpu", "cpu", None)),
        ("cpu:16GiB", Target("cpu", "cpu", 16 * GIB)),
        ("cuda", Target("cuda", "cuda", None)),
        ("cuda:1", Target("cuda", "cuda:1", None)),
        ("cuda:8GiB", Target("cuda", "cuda", 8 * GIB)),
        ("CUDA:7.5g", Target("cuda", "cuda", 15 * GIB // 2)),
        ("mps", Target("mps", "mps", None)),
        ("mps:12GB", Target("mps", "mps", 12 * GIB)),
        ("cpu:512MiB", Target("cpu", "cpu", 512 * MIB)),
        ("cpu: 300 M", Target("cpu", "cpu", 300 * MIB)),
        ("rtx3050", Target("cuda", "rtx3050", int(8 * GIB * CARD_SHARE))),
        ("RTX 3060", Target("cuda", "rtx3060", int(12 * GIB * CARD_SHARE))),
        ("a100-80g", Target("cuda", "a100-80g", int(80 * GIB * CARD_SHARE))),
    ],
)
def test_devices_as_people_write_them(text: str, target: Target) -> None:
    assert parse_device(text) == target


def test_auto_is_a_device_of_this_machine() -> None:
    import torch

    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert parse_device("auto") == Target(expected, expected, None)


@pytest.mark.parametrize("text", ["cpu:16", "cpu:", "cuda:", "cuda:0GiB", "mps:1", "cpu:many", "cuda:1:8G", "cpu:-1G"])
def test_a_size_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="no size that can be read"):
        parse_device(text)


@pytest.mark.parametrize(("text", "hint"), [("rtx3055", "rtx305"), ("cdua", "cuda"), ("quantum", "cuda:8GiB")])
def test_an_unknown_device_names_the_nearest(text: str, hint: str) -> None:
    with pytest.raises(UserError, match="unknown device") as caught:
        parse_device(text)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("card", "reported"),  # GiB in "total capacity", from out-of-memory reports on Linux
    [("rtx4060", 7.75), ("rtx3080", 9.78), ("rtx4090", 23.61), ("rtx5090", 31.36), ("t4", 14.56), ("l40", 44.40)],
)
def test_a_card_has_no_more_than_cuda_reports(card: str, reported: float) -> None:
    """A little less is fine: what is planned for the name must fit the card."""
    limit = parse_device(card).limit_bytes
    assert limit is not None
    assert 0.96 * reported < limit / GIB < reported + 0.02


def test_cards_of_a_family_say_their_size() -> None:
    for name, size in CARDS.items():
        if "-" in name:
            assert float(name.partition("-")[2].removesuffix("g")) == size


def test_the_limit_of_a_given_size_is_that_size() -> None:
    assert device_limit(parse_device("cuda:8GiB")) == 8 * GIB


def test_the_limit_of_this_cpu_lies_between_what_is_held_and_what_there_is() -> None:
    limit = device_limit(parse_device("cpu"))
    assert psutil.Process().memory_info().rss < limit <= psutil.virtual_memory().total + GIB  # + pages shared by many


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_device_that_is_not_here_cannot_be_asked(kind: str) -> None:
    import torch

    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("there is one")
    with pytest.raises(UserError, match=f"there is no {kind} here") as caught:
        device_limit(parse_device(kind))
    assert f"{kind}:8GiB" in caught.value.hint


def test_the_tightest_limit_counts_and_is_named() -> None:
    def limits(**others: int | None) -> Limits:
        return Limits(**({"total": 100, "resident": 10, "available": 50, "cgroup": None, "address_space": None,
                          "data": None} | others))  # fmt: skip

    assert (limits().left, limits().limit, limits().source) == (50, 60, "available memory")
    assert (limits(cgroup=20).limit, limits(cgroup=20).source) == (30, "cgroup limit")
    tight = limits(cgroup=20, address_space=5, data=7)
    assert (tight.left, tight.limit, tight.source) == (5, 15, "RLIMIT_AS")
    assert limits(data=0).source == "RLIMIT_DATA"
    assert limits(data=0).limit == 10


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_version_2_counts_the_groups_around_too(tmp_path: Path) -> None:
    """A job of 4 GiB in a slice of 6 GiB whose other jobs hold most of it."""
    write(tmp_path / "proc/self", cgroup="0::/slice/job/step\n")
    mount = tmp_path / "sys/fs/cgroup"
    write(mount, cgroup__controllers="memory\n")
    write(mount / "slice", memory__max=f"{6 * GIB}\n", memory__current=f"{5 * GIB}\n",
          memory__stat=f"anon {4 * GIB}\nactive_file 7\ninactive_file {GIB // 2}\n")  # fmt: skip
    write(mount / "slice/job", memory__max=f"{4 * GIB}\n", memory__current=f"{GIB}\n", memory__stat="inactive_file 0\n")
    write(mount / "slice/job/step", memory__max="max\n", memory__current=f"{GIB}\n", memory__stat="inactive_file 0\n")
    assert [group.name for group in memory_groups(tmp_path)] == ["step", "job", "slice", "cgroup"]
    assert bytes_left(tmp_path) == 3 * GIB // 2  # the slice: 6 - (5 - 0.5); the job alone would leave 3
    assert process_limits(tmp_path).cgroup == 3 * GIB // 2


def test_version_1_reads_its_own_files(tmp_path: Path) -> None:
    write(tmp_path / "proc/self", cgroup="9:name=systemd:/\n5:cpu,memory:/docker/ab:c\n0::/\n")
    mount = tmp_path / "sys/fs/cgroup/memory"
    write(mount, memory__limit_in_bytes="9223372036854771712\n", memory__usage_in_bytes="77\n")
    write(mount / "docker/ab:c", memory__limit_in_bytes=f"{2 * GIB}\n", memory__usage_in_bytes=f"{GIB}\n",
          memory__stat=f"inactive_file 1\ntotal_inactive_file {100 * MIB}\n")  # fmt: skip
    assert bytes_left(tmp_path) == GIB + 100 * MIB


def test_a_container_whose_path_is_the_host_s_reads_the_mount(tmp_path: Path) -> None:
    write(tmp_path / "proc/self", cgroup="4:memory:/docker/abc\n")
    write(tmp_path / "sys/fs/cgroup/memory", memory__limit_in_bytes="1000\n", memory__usage_in_bytes="400\n")
    assert bytes_left(tmp_path) == 600


def test_a_group_that_is_over_its_limit_has_nothing_left(tmp_path: Path) -> None:
    write(tmp_path / "proc/self", cgroup="0::/\n")
    write(tmp_path / "sys/fs/cgroup", memory__max="1000\n", memory__current="1200\n", memory__stat="inactive_file 9\n")
    assert bytes_left(tmp_path) == 0


def test_a_file_cache_that_was_just_counted_larger_than_the_use_is_no_credit(tmp_path: Path) -> None:
    write(tmp_path / "proc/self", cgroup="0::/\n")
    write(tmp_path / "sys/fs/cgroup", memory__max="1000\n", memory__current="50\n", memory__stat="inactive_file 80\n")
    assert bytes_left(tmp_path) == 1000


@pytest.mark.parametrize("line", [None, "", "9:name=systemd:/\n", "0::/\n"])
def test_without_control_groups_or_limits_there_is_none(tmp_path: Path, line: str | None) -> None:
    if line is not None:
        write(tmp_path / "proc/self", cgroup=line)
    assert bytes_left(tmp_path) is None
    assert process_limits(tmp_path).cgroup is None


CHILD = """
import json, resource, sys
from engine.memory.limits import process_limits
from pathlib import Path
which, room = getattr(resource, sys.argv[1]), int(sys.argv[2])
nowhere = Path("/nowhere")  # control groups of the machine that tests run on are of no interest
import psutil
used = psutil.Process().memory_info()
used = used.vms if sys.argv[1] == "RLIMIT_AS" else used.data
resource.setrlimit(which, (used + room, resource.RLIM_INFINITY))
limits = process_limits(nowhere)
try:
    bytearray(room + (8 << 20))
    beyond = True
except MemoryError:
    beyond = False
inside = bool(bytearray(limits.left - (8 << 20)))
print(json.dumps([limits.source, limits.left, limits.limit, limits.resident, inside, beyond, "torch" in sys.modules]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="these limits are Linux's")
@pytest.mark.parametrize("which", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_a_real_limit_lets_just_that_much_be_allocated(which: str) -> None:
    """In a process of its own, and without torch."""
    room = 200 * MIB
    answer = subprocess.run(
        [sys.executable, "-c", CHILD, which, str(room)], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    source, left, limit, resident, inside, beyond, torch_loaded = json.loads(answer)
    assert source == which
    assert room - 16 * MIB < left <= room
    assert limit == resident + left
    assert inside
    assert not beyond
    assert not torch_loaded
