"""What is found out about this machine, and about ones that lack something."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor

from engine.process import cores
from engine.session import doctor
from engine.session.doctor import examine
from engine.training.device import Device
from engine.training.precision import Precision

_PARAMETERS = 6400 * 512 + 8 * (2 * 512 * (512 + 128) + 3 * 512 * 1408 + 2 * 512 + 2 * 64) + 512
"""Of cpu/pretrain: eight layers of 512, queries 512 and keys 128 wide, the MLP 1,408."""
CPU = Device(torch.device("cpu"))


@pytest.fixture(autouse=True)
def one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products are timed once each: how fast they are is not what is tested."""
    monkeypatch.setattr("engine.session.doctor._SECONDS", 0.0)


def test_what_is_said_is_what_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KMP_BLOCKTIME", "0")
    found = examine()
    assert found["python"] == platform.python_version() and found["torch"] == torch.__version__
    assert found["memory"]["total_bytes"] == psutil.virtual_memory().total
    assert 0 < found["memory"]["limit_bytes"] <= found["memory"]["total_bytes"]
    assert 16 * _PARAMETERS < found["memory"]["pretrain"]["low_bytes"] < found["memory"]["pretrain"]["high_bytes"]
    threads = found["threads"]
    assert (threads["cores"], threads["machine_cores"]) == (cores(), os.cpu_count())
    assert threads["environment"]["KMP_BLOCKTIME"] == "0" and "HOME" not in threads["environment"]
    assert threads["speedup"] == pytest.approx(threads["all_flops_per_second"] / threads["one_flops_per_second"])
    dtypes = found["precision"]["dtypes"]
    assert dtypes["float32"]["works"] and dtypes["float32"]["relative_speed"] == 1
    for measured in dtypes.values():
        ratio = measured["flops_per_second"] / dtypes["float32"]["flops_per_second"]
        assert measured["relative_speed"] == pytest.approx(ratio)
    assert found["precision"]["hardware_bfloat16"] == CPU.has_bfloat16()


def test_a_limit_on_memory_is_found_and_advised_upon() -> None:
    code = (
        "import resource\nfrom engine.session.doctor import examine\nimport psutil\n"
        "more = psutil.Process().memory_info().vms + (1 << 30)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (more, more))\nfound = examine()\n"
        "print(found['memory']['limited_by'], found['memory']['address_space_bytes'] <= 1 << 30, *found['advice'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("RLIMIT_AS True "), done.stderr
    assert "can be had (RLIMIT_AS): " in done.stdout


def test_threads_are_left_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert examine()["threads"]["torch"] == 3
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_card_that_cannot_be_used_is_named_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)  # torch finds out that it was not built for it
    device = examine()["device"]
    assert device["name"] == "cpu" and device["profiles"] == "cpu"
    assert [each["name"] for each in device["all"]] == ["cuda:0", "cpu"]
    assert "cuda:0" in device["all"][0]["problem"] and not device["all"][1]["problem"]


def test_a_precision_that_fails_or_computes_wrongly_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    class Faulty(Precision):
        def __init__(self, dtype: str, device: Device) -> None:
            if dtype == "bfloat16":
                raise RuntimeError("no kernel\nfor it")
            super().__init__(dtype, device)

        def backward(self, loss: Tensor) -> None:
            super().backward(loss * 1.1 if self.dtype == torch.float16 else loss)

    monkeypatch.setattr(doctor, "Precision", Faulty)
    dtypes = examine()["precision"]["dtypes"]
    assert dtypes["float32"]["works"]
    assert dtypes["bfloat16"] == {
        "works": False, "problem": "no kernel", "flops_per_second": None, "relative_speed": None,
    }  # fmt: skip
    assert not dtypes["float16"]["works"] and dtypes["float16"]["problem"] == "it computes wrong gradients"


def test_the_disk_of_a_home_that_is_not_there_yet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def usage(place: Path) -> Any:
        asked.append(place)
        return type("Usage", (), {"total": 10, "free": 3})

    monkeypatch.setattr("shutil.disk_usage", usage)
    monkeypatch.setenv("MINIMIND_HOME", str(tmp_path / "not" / "yet"))
    disk = examine()["disk"]
    assert asked == [tmp_path]
    assert disk.pop("checkpoints_bytes") == 4 * 12 * _PARAMETERS  # two are kept, the best, and one in the making
    assert disk == {"home": str(tmp_path / "not" / "yet"), "total_bytes": 10, "free_bytes": 3, "writable": True}


def test_compiling_is_tried_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Device] = []

    def compiles(device: Device) -> bool:
        asked.append(device)
        return True

    monkeypatch.setattr(doctor, "can_compile", compiles)
    assert not examine()["compile"]["tried"] and not asked
    tried = examine(full=True)["compile"]
    assert tried["tried"] and tried["works"] and tried["seconds"] >= 0 and asked == [CPU]
