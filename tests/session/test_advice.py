"""What is advised, for machines that are described by hand."""

import re
from typing import Any

import pytest

from engine.memory.limits import Target
from engine.session.advice import advise, made_for
from engine.session.planning import draft_settings, plan_draft
from engine.settings.profile import load_profile, resolve

_GIB = 1 << 30


def _speed(times: float) -> dict[str, Any]:
    return {"works": True, "problem": "", "flops_per_second": times * 1e11, "relative_speed": times}


BROKEN = {"works": False, "problem": "no kernel", "flops_per_second": None, "relative_speed": None}


def machine(**parts: dict[str, Any]) -> dict[str, Any]:
    """Found on a healthy processor of eight cores without bfloat16, but for what is given."""
    cpu = {"name": "cpu", "description": "a processor", "memory_bytes": None, "free_bytes": None, "problem": ""}
    found: dict[str, dict[str, Any]] = {
        "device": cpu | {"profiles": "cpu", "all": [cpu], "nvidia_driver": False},
        "memory": {"limited_by": "available memory"},
        "threads": {"cores": 8, "machine_cores": 8, "torch": 8, "load": 0.5, "speedup": 6.0},
        "precision": {
            "auto": "float32", "hardware_bfloat16": False,
            "dtypes": {"float32": _speed(1), "bfloat16": _speed(1.1), "float16": BROKEN},
        },
        "compile": {"tried": False, "works": None, "seconds": None},
        "disk": {"home": "/home/mira", "free_bytes": 100 * _GIB, "writable": True, "checkpoints_bytes": _GIB},
    }  # fmt: skip
    return {"torch": "2.13.0", **{name: part | parts.get(name, {}) for name, part in found.items()}}


def card(gib: float, free: float | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": "cuda:0", "description": "a card", "memory_bytes": int(gib * _GIB),
        "free_bytes": int((gib if free is None else free) * _GIB), "problem": "",
    }  # fmt: skip
    return found | {"profiles": made_for(found["memory_bytes"]), "all": [found], "nvidia_driver": True}


def advice(limit: float = 32, **parts: dict[str, Any]) -> list[str]:
    """What is said where a run may have that many GiB."""
    found = machine(**parts)
    settings = resolve(load_profile(f"{found['device']['profiles']}/pretrain"))
    target = Target("cuda" if found["device"]["memory_bytes"] else "cpu", "here", int(limit * _GIB))
    return advise(found, plan_draft(draft_settings(settings, target, [])))


def added(limit: float = 32, **parts: dict[str, Any]) -> str:
    """What is said beside what is said to the healthy machine; one sentence."""
    (sentence,) = [each for each in advice(limit, **parts) if each not in advice()]
    return sentence


def test_the_healthy_machine_hears_which_profiles_and_which_precision() -> None:
    profiles, precision = advice()
    assert "cpu/*" in profiles and "starter/*" in profiles
    assert precision == "bfloat16 is computed in software, at 1.1 times float32's speed: stay with float32."


@pytest.mark.parametrize(
    ("gib", "folder"),
    [(4, "rtx3050-8g"), (7.6, "rtx3050-8g"), (12, "rtx3050-8g"), (23.6, "rtx3090-24g"), (80, "rtx3090-24g")],
)
def test_profiles_go_by_the_memory_of_the_card(gib: float, folder: str) -> None:
    assert made_for(int(gib * _GIB)) == folder
    said = advice(device=card(gib))[0]
    assert f"{folder}/*" in said
    assert ("made for a larger card" in said) == (gib < 7)


def test_without_a_card_the_processor_s_profiles() -> None:
    assert made_for(None) == "cpu"


def test_a_card_that_torch_does_not_see_is_worth_a_word() -> None:
    said = added(device={"nvidia_driver": True})
    assert "torch 2.13.0 finds no card" in said and "nvidia-smi" in said


def test_what_others_hold_of_a_card_is_said() -> None:
    assert not any("Other programs" in each for each in advice(device=card(24, free=23)))
    assert any("Other programs hold 4.0 GiB" in each for each in advice(device=card(24, free=20)))


def test_memory_that_a_run_would_not_fit_into() -> None:
    """26 M parameters, their gradients and moments take 0.4 GiB, whatever else is changed."""
    tight = added(limit=1.5, memory={"limited_by": "RLIMIT_AS"})
    assert re.fullmatch(
        r"cpu/pretrain may take [\d.]+ GiB, 1.5 GiB can be had \(RLIMIT_AS\): set .*, then it fits.", tight
    )
    assert "take a smaller model, such as starter/*" in added(limit=0.3)
    assert "(what is free of the card): set " in advice(limit=3, device=card(8))[1]


def test_threads() -> None:
    assert "set OMP_NUM_THREADS=8" in added(threads={"torch": 16})
    assert added(threads={"speedup": 0.5}) == "One thread is 2.0 times as fast as 8: set num_threads=1."
    assert advice(threads={"speedup": 0.9, "load": 9.0}) == advice()  # no more than noise
    busy = added(threads={"speedup": 0.5, "load": 20.0})  # then the threads are not to blame
    assert "load 20.0 on 8" in busy and "num_threads" not in busy


@pytest.mark.parametrize(
    ("auto", "bfloat16", "float16", "said"),
    [
        ("bfloat16", _speed(4), _speed(1), "Leave dtype=auto: it takes bfloat16, 4.0 times as fast as float32."),
        ("bfloat16", _speed(0.5), BROKEN, "float32 is 2.0 times as fast as bfloat16, which dtype=auto takes: try"),
        ("bfloat16", BROKEN, _speed(3), "bfloat16, which dtype=auto takes, does not work (no kernel): set dtype="),
        ("float32", _speed(0.05), _speed(3), "float16 is 3.0 times as fast as float32"),
        ("float32", _speed(0.05), BROKEN, "bfloat16 is computed in software, at 0.05 times float32's speed"),
    ],
)
def test_precision(auto: str, bfloat16: dict[str, Any], float16: dict[str, Any], said: str) -> None:
    dtypes = {"float32": _speed(1), "bfloat16": bfloat16, "float16": float16}
    assert said in advice(precision={"auto": auto, "dtypes": dtypes})[1]


def test_a_card_that_cannot_multiply() -> None:
    dtypes = dict.fromkeys(("float32", "bfloat16", "float16"), BROKEN)
    said = advice(device=card(8), precision={"dtypes": dtypes})
    assert said[1:] == ["float32 does not work on cuda:0 (no kernel): set device=cpu."]


def test_compilation() -> None:
    assert "leave compile=false" in added(compile={"tried": True, "works": False})
    assert "engine bench train --compile" in added(compile={"tried": True, "works": True})


def test_disk_for_the_checkpoints_of_a_run() -> None:
    assert advice(disk={"free_bytes": _GIB}) == advice()
    said = added(disk={"free_bytes": _GIB // 2})
    assert "cpu/pretrain take 1.0 GiB, 0.5 GiB are free" in said and "MINIMIND_HOME" in said
    assert "/home/mira cannot be written" in added(disk={"writable": False})
